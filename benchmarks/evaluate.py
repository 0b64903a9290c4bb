"""Time of COCO-WholeBody evaluation: ours against pycocotools, and against xtcocotools where it is installed.

    python benchmarks/evaluate.py --output benchmarks/evaluate-CPU.csv [--images 5000] [--persons 2]

All tools judge the same made-up files one after the other in one run, on one thread: six parts, ten metrics each.
"in memory": from the loaded JSON to the metrics. "with reading": from the files. Ours is the best of `--repeats`; the
others run once. `cpu_s` is processor time, which a busy machine does not lengthen. The metrics are compared before
anything is written. Memory is that of a process of its own that reads, evaluates and bootstraps.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from posedistill.evaluation import bootstrap, evaluate_wholebody
from posedistill.evaluation.accumulate import METRICS
from posedistill.evaluation.records import FIELDS, PART_SLICES
from posedistill.evaluation.wholebody import match_wholebody
from posedistill.keypoints import PARTS, SIGMAS

Stats = dict[str, list[float]]


def make_files(folder: Path, images: int, persons: int, seed: int = 0) -> tuple[Path, Path]:
    """`images` × `persons` people with all 133 keypoints, a noisy prediction for each, and some false ones."""
    rng = np.random.default_rng(seed)
    annotations: list[dict] = []
    predictions: list[dict] = []
    for image in range(images):
        for _ in range(persons):
            x, y, w = rng.uniform(0, 300), rng.uniform(0, 200), rng.uniform(20, 250)
            h = w * rng.uniform(1.2, 2.5)
            true = np.c_[rng.uniform(x, x + w, 133), rng.uniform(y, y + h, 133), rng.choice([0.0, 1.0, 2.0], 133)]
            area = 0.6 * w * h
            person = {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "area": area}
            annotations.append({**person, "bbox": [x, y, w, h], "num_keypoints": 17, **split(true)})
            noise = rng.normal(0, 1, (133, 2)) * (2 * SIGMAS[:, None] * np.sqrt(area) * rng.exponential(0.7))
            guess = np.c_[true[:, :2] + noise, rng.uniform(0, 1, 133)]
            predictions.append({"image_id": image, "category_id": 1, "score": float(rng.random()), **split(guess)})
            if rng.random() < 0.15:
                guess[:, 0] += w
                predictions.append({"image_id": image, "category_id": 1, "score": float(rng.random()), **split(guess)})
    categories = [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}]
    truth = {"images": [{"id": i} for i in range(images)], "annotations": annotations, "categories": categories}
    paths = folder / "gt.json", folder / "dt.json"
    for path, content in zip(paths, (truth, predictions)):
        path.write_text(json.dumps(content))
    return paths


def split(keypoints: np.ndarray) -> dict[str, list[float]]:
    return {field: keypoints[PARTS[part]].ravel().round(3).tolist() for part, field in FIELDS.items()}


def with_pycocotools(gt: Path | dict, dt: Path | list) -> Stats:
    """Each part repacked as a plain keypoint task, as users without xtcocotools do it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = json.loads(gt.read_text()) if isinstance(gt, Path) else gt
    predictions = json.loads(dt.read_text()) if isinstance(dt, Path) else dt
    stats = {}
    for part, where in PART_SLICES.items():
        coco = COCO()
        coco.dataset = {**truth, "annotations": [packed(one, part) for one in truth["annotations"]]}
        coco.createIndex()
        found = coco.loadRes([packed(one, part) for one in predictions])
        for one in found.dataset["annotations"]:
            x, y = one["body"][0::3], one["body"][1::3]
            one["area"] = (max(x) - min(x)) * (max(y) - min(y))
        judge = COCOeval(coco, found, "keypoints")
        judge.params.kpt_oks_sigmas = SIGMAS[where]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        stats[part] = judge.stats.tolist()
    return stats


def packed(one: dict, part: str) -> dict:
    fields = FIELDS.values() if part == "wholebody" else [FIELDS[part]]
    keypoints = [value for field in fields for value in one[field]]
    count = sum(value > 0 for value in keypoints[2::3])
    return {**one, "keypoints": keypoints, "num_keypoints": count, "body": one["keypoints"]}


def with_xtcocotools(gt: Path | dict, dt: Path | list) -> Stats:
    from xtcocotools.coco import COCO
    from xtcocotools.cocoeval import COCOeval

    coco = COCO(str(gt)) if isinstance(gt, Path) else COCO()
    if not isinstance(gt, Path):
        coco.dataset, coco.anno_file = gt, []
        coco.createIndex()
    found = coco.loadRes(str(dt) if isinstance(dt, Path) else dt)
    stats = {}
    for part, where in PART_SLICES.items():
        judge = COCOeval(coco, found, f"keypoints_{part}", SIGMAS[where], use_area=True)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        stats[part] = judge.stats.tolist()
    return stats


def with_ours(gt: Path | dict, dt: Path | list) -> Stats:
    metrics = evaluate_wholebody(gt, dt)
    return {part: [metrics[part][name] for name in METRICS] for part in PART_SLICES}


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, wall seconds, processor seconds)."""
    with contextlib.redirect_stdout(io.StringIO()):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        return result, time.perf_counter() - wall, time.process_time() - cpu


def best(work: Callable[[], Any], repeats: int) -> tuple[Any, float, float]:
    return min((timed(work) for _ in range(repeats)), key=lambda one: one[2])


def peak_memory_gb(gt: Path, dt: Path, samples: int) -> float:
    """Of a fresh process that reads the files, evaluates and bootstraps."""
    command = [sys.executable, __file__, "--child", str(gt), str(dt), str(samples)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def child(gt: str, dt: str, samples: str) -> None:
    bootstrap.resampled_metrics(match_wholebody(gt, dt), int(samples))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--persons", type=int, default=2)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    peers = {"pycocotools": with_pycocotools}
    with contextlib.suppress(ImportError):
        import xtcocotools  # noqa: F401

        peers["xtcocotools"] = with_xtcocotools
    with tempfile.TemporaryDirectory() as folder:
        gt, dt = make_files(Path(folder), args.images, args.persons)
        rows = measure(gt, dt, peers, args)
    with args.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(args.output.read_text())


def measure(gt: Path, dt: Path, peers: dict[str, Callable], args: argparse.Namespace) -> list[dict]:
    truth, predictions = json.loads(gt.read_text()), json.loads(dt.read_text())
    rows: list[dict] = []

    def note(
        tool: str, what: str, wall: float, cpu: float | None, ours: float | None = None, memory: float | None = None
    ) -> None:
        times = f"{cpu / ours:.1f}" if cpu and ours else ""
        kept = f"{memory:.2f}" if memory else ""
        scale = {"images": args.images, "persons": args.images * args.persons, "predictions": len(predictions)}
        rows.append(
            {
                "tool": tool,
                "what": what,
                **scale,
                "wall_s": f"{wall:.2f}",
                "cpu_s": "" if cpu is None else f"{cpu:.2f}",
                "times_ours": times,
                "memory_gb": kept,
            }
        )

    expected, wall, memory_cpu = best(lambda: with_ours(truth, predictions), args.repeats)
    note("ours", "in memory", wall, memory_cpu)
    _, wall, reading_cpu = best(lambda: with_ours(gt, dt), args.repeats)
    note("ours", "with reading", wall, reading_cpu)
    for name, peer in peers.items():
        for what, ours, files in (
            ("in memory", memory_cpu, (truth, predictions)),
            ("with reading", reading_cpu, (gt, dt)),
        ):
            stats, wall, cpu = timed(lambda peer=peer, files=files: peer(*files))
            worst = max(abs(a - b) for part in expected for a, b in zip(stats[part], expected[part]))
            if worst > 1e-9:
                raise SystemExit(f"{name} disagrees by {worst}")
            note(name, what, wall, cpu, ours)
    matched = match_wholebody(truth, predictions)
    bootstrap.resampled_metrics(matched, 1)  # compiles
    _, wall, cpu = timed(lambda: bootstrap.resampled_metrics(matched, args.samples))
    note("ours", f"bootstrap of {args.samples} samples", wall, cpu)
    memory, wall, _ = timed(lambda: peak_memory_gb(gt, dt, args.samples))
    note("ours", "own process: reading, evaluation and bootstrap", wall, None, memory=memory)
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
