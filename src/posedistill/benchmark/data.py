"""Persons a second of the data path on one core, step by step, and what travels to the device.

Times are CPU times of one thread, so that other work on the machine counts as little as possible; the row `torch.mm`
(1024x1024x1024, float32) says how fast the core was at that moment.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch

from posedistill import project
from posedistill.benchmark.machine import Row, add_output, output_path, print_rows, write_rows
from posedistill.data.feed import augment as augmentation
from posedistill.data.feed.device_augment import to_model_input
from posedistill.data.feed.loader import TrainLoader
from posedistill.data.feed.pixel_changes import apply_median
from posedistill.data.store import jpeg
from posedistill.data.store.arrow import TrainStore
from posedistill.errors import UserError
from posedistill.parallel import cores
from posedistill.params import Params, from_settings, load_params, to_settings
from posedistill.pipeline.prepare import prepare
from posedistill.synthetic import render_dataset

# The published augmentation until epoch 240 (facts: COCO + UBody configurations).
PUBLISHED = {
    **{"box_padding": 1.25, "flip": 0.5, "half_body": 0.3, "shift": 0.16, "shift_p": 0.3, "scale": [0.6, 1.4]},
    **{"rotation": 80, "rotation_p": 0.6, "hsv": True, "blur_p": 0.1, "median_blur_p": 0.1, "dropout_p": 1.0},
    "dropout_size": [0.2, 0.4],
}
REAL = "real/coco"
BATCH = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Persons/s a core of the training samples: the worker alone, the device part, both; on rendered persons and, "
        "where it is at hand, on the real photographs of the tests. Writes benchmarks/data-<hardware>.csv."
    )
    parser.add_argument("--real", type=Path, help="COCO folder with test photographs (default: ../shared/real/coco)")
    parser.add_argument("--images", type=int, default=96, help="rendered pictures (default 96)")
    parser.add_argument("--input", default="256x192", help="height x width (default 256x192)")
    parser.add_argument("--samples", type=int, default=300, help="samples a repetition (default 300)")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions; the table shows their median (default 7)")
    add_output(parser, "benchmarks/data-{}.csv")


def run(args: argparse.Namespace) -> int:
    try:
        height, width = (int(side) for side in args.input.split("x"))
    except ValueError:
        raise UserError(f"--input {args.input}: expected height x width, such as 256x192") from None
    output = output_path(args)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory() as folder, _checkpoints_in(Path(folder)):
            for name, P in _data_sets(args, (height, width), Path(folder)):
                found = measure(name, P, Path(folder) / name, samples=args.samples, repeats=args.repeats)
                print_rows(found)
                rows += found
    finally:
        torch.set_num_threads(threads)
    write_rows(output, rows)
    print(f"written to {output}")
    return 0


def _data_sets(args: argparse.Namespace, size: tuple[int, int], folder: Path) -> Iterator[tuple[str, Params]]:
    """Name and settings of each data set to measure."""
    settings = to_settings(load_params(project.root() / "params.yaml"))
    settings["input"] = {"height": size[0], "width": size[1]}
    settings["augment"].update(PUBLISHED)
    root = project.root()
    real = args.real or Path(os.environ.get("POSEDISTILL_SHARED", root.parent / "shared")) / REAL
    annotations = sorted((real / "annotations").glob("*wholebody*.json"))
    if annotations:
        source = {
            "source": "coco_wholebody",
            "name": "real",
            "annotations": str(annotations[0].relative_to(real)),
            "images": "val2017",
        }
        data = {**settings["data"], "root": str(real.resolve()), "boxes": "ground_truth"}
        yield "real", from_settings({**settings, "data": {**data, "train": [source], "val": [source]}})
    elif args.real:
        raise UserError(f"--real {real}: there is no annotations/*wholebody*.json")
    render_dataset(root / "assets" / "body", folder / "people", args.images, 7, progress=False)
    source = {"source": "coco_wholebody", "name": "rendered", "annotations": "annotations.json", "images": "images"}
    data = {**settings["data"], "root": str(folder / "people"), "boxes": "ground_truth"}
    yield "rendered", from_settings({**settings, "data": {**data, "train": [source], "val": [source]}})


@contextmanager
def _checkpoints_in(folder: Path) -> Iterator[None]:
    """Unfinished work of the measurement stays out of the project."""
    before = os.environ.get("POSEDISTILL_CHECKPOINTS")
    os.environ["POSEDISTILL_CHECKPOINTS"] = str(folder / "checkpoints")
    try:
        yield
    finally:
        if before is None:
            del os.environ["POSEDISTILL_CHECKPOINTS"]
        else:
            os.environ["POSEDISTILL_CHECKPOINTS"] = before


def measure(name: str, P: Params, out: Path, *, samples: int, repeats: int) -> list[Row]:
    """The rows of one data set."""
    start = time.perf_counter()
    report = prepare(P, out, workers=1, progress=False)
    prepared = time.perf_counter() - start
    store = TrainStore(out / "train")
    times = step_times(store, P, samples, repeats)
    worker, device = times["worker"], times["device"]
    rows: list[Row] = []

    def add(step: str, seconds: np.ndarray, *, share: bool = True) -> None:
        per_person = np.maximum(seconds, 1e-9) / samples
        rows.append(
            {
                "data": name,
                "input": f"{P.input.height}x{P.input.width}",
                "step": step,
                "persons_per_s": round(float(1 / np.median(per_person)), 1),
                "ms_min": round(float(1000 * per_person.min()), 4),
                "ms_max": round(float(1000 * per_person.max()), 4),
                "ms": round(float(1000 * np.median(per_person)), 4),
                "share_of_worker": round(float(np.median(seconds) / np.median(worker)), 3) if share else "",
                "repeats": repeats,
            }
        )

    add("worker", worker)
    for step in ("decode", "warp", "draw"):
        add(f"worker: {step}", times[step])
    add("worker for a GPU, with median blur", worker + times["median blur"])
    add("device", device, share=False)
    add("worker + device", worker + device, share=False)
    rows.append(_plain(name, P, "loader, all workers", persons_per_s=round(_loader_rate(store, P), 1)))
    rows.append(_plain(name, P, "bytes a person to the device", value=_bytes_a_person(store, P)))
    rows.append(_plain(name, P, "bytes a person in the store", value=report.sets["train"]["bytes a person"]))
    rows.append(_plain(name, P, "prepare, one process", persons_per_s=round(len(store) / prepared, 1)))
    mm = _best(lambda: torch.mm(_SQUARE, _SQUARE))
    rows.append(_plain(name, P, "torch.mm", ms=round(1000 * mm, 2)))
    return rows


_SQUARE = torch.ones(1024, 1024)


def _plain(name: str, P: Params, step: str, **values: object) -> Row:
    return {"data": name, "input": f"{P.input.height}x{P.input.width}", "step": step, **values}


def _best(function: Callable[[], object], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def step_times(store: TrainStore, P: Params, samples: int, repeats: int) -> dict[str, np.ndarray]:
    """CPU seconds [repeats] for `samples` samples: the worker, its steps, and the device part."""
    _repetition(store, P, samples, 0)  # warms up
    runs = [_repetition(store, P, samples, seed) for seed in range(1, repeats + 1)]
    result = {step: np.array([run[step] for run in runs]) for step in runs[0]}
    result["draw"] = result["worker"] - result["decode"] - result["warp"]
    return result


def _repetition(store: TrainStore, P: Params, samples: int, seed: int) -> dict[str, float]:
    jobs = [(i % len(store), i // len(store)) for i in range(samples)]

    def draw() -> list[augmentation.Sample]:
        return [
            augmentation.sample_train(store[index], P.augment, P.input, np.random.default_rng([seed, epoch, index]))
            for index, epoch in jobs
        ]

    worker, drawn = _timed(draw)
    views = [(store[index], sample.matrix) for (index, _), sample in zip(jobs, drawn)]
    looked, _ = _timed(lambda: [augmentation.view_of(record, matrix, P.input.size) for record, matrix in views])
    parts = [_decoded(record, matrix, P.input.size) for record, matrix in views]
    decoded, _ = _timed(lambda: [jpeg.decode(*part) for part in parts if part])
    images = torch.from_numpy(np.stack([sample.image for sample in drawn]))
    changes = torch.from_numpy(np.stack([sample.changes for sample in drawn]))
    median, _ = _timed(lambda: [apply_median(sample.image, sample.changes.copy()) for sample in drawn])
    batches = [(images[s : s + BATCH], changes[s : s + BATCH]) for s in range(0, samples, BATCH)]
    device, _ = _timed(lambda: [to_model_input(*batch) for batch in batches])
    return {
        "worker": worker,
        "decode": decoded,
        "warp": looked - decoded,
        "median blur": median,
        "device": device,
    }


def _timed(function: Callable[[], list]) -> tuple[float, list]:
    start = time.process_time()
    value = function()
    return time.process_time() - start, value


def _decoded(record, matrix: np.ndarray, size: tuple[int, int]):  # type: ignore[no-untyped-def]
    """Arguments with which `view_of` decodes this view."""
    box = augmentation.visible_part(matrix, size)
    if box[2] < 0 or box[3] < 0 or box[0] >= record.width or box[1] >= record.height:
        return None
    return record.jpeg, record.segments, record.width, record.height, box


def _loader_rate(store: TrainStore, P: Params, seconds: float = 4.0) -> float:
    """Persons/s of wall time through the loader with its worker processes."""
    workers = min(16, max(1, cores() - 1))
    batch = min(BATCH, len(store))
    with TrainLoader(store, P.input, lambda _: P.augment, batch=batch, seed=0, workers=workers) as loader:

        def persons_of(epoch: int) -> int:
            return sum(len(batch.images) for batch in loader.epoch(epoch))

        persons_of(0)  # starts the processes
        persons, epoch, start = 0, 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            epoch += 1
            persons += persons_of(epoch)
        return persons / (time.perf_counter() - start)


def _bytes_a_person(store: TrainStore, P: Params) -> int:
    batch = min(4, len(store))
    first = next(TrainLoader(store, P.input, lambda _: P.augment, batch=batch, seed=0).epoch(0))
    return sum(values.nbytes for values in (first.images, first.keypoints, first.changes)) // batch
