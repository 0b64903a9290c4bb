"""Memory and time as the data grow to COCO-WholeBody + UBody: bookkeeping of `prepare`, loader, evaluation.

A made-up store of 220,000 persons, of a few distinct crops repeated, and made-up logits for 104,125 detections, at a
sixteenth, a quarter and the whole of these sizes. Each phase and size runs in a separate process. `memory` is the
highest anonymous memory beyond that of the loaded program: memory-mapped pages of the stores, which the system takes
back when it needs them, are `mapped`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posedistill import project
from posedistill.benchmark.machine import Row, add_output, output_path, print_rows, write_rows
from posedistill.benchmark.scale_report import write_report
from posedistill.errors import UserError
from posedistill.files import refuse_overwrite
from posedistill.params import Params, from_settings
from posedistill.pipeline.recipes import settings_of

PERSONS, DETECTIONS = 220_000, 104_125  # COCO + UBody to train on; COCO val with detected boxes
SHARES = (1, 4, 16)  # sixteenths
PER_IMAGE = 2.3  # persons in a training image of COCO
VAL_IMAGES = 5000
DISTINCT = 8  # part files that the store repeats
STEPS, BATCH = 2000, 2  # of the loader: few persons per step: memory is measured, not speed
PAGE = os.sysconf("SC_PAGE_SIZE")


def memory() -> tuple[float, float]:
    """MB of this process: anonymous, and mapped files."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * PAGE / 1e6, shared * PAGE / 1e6


@dataclass
class Meter:
    """Rows of this process: time and highest memory of each block."""

    rows: list[Row] = field(default_factory=list)
    start: float = 0.0

    def begin(self) -> None:
        """All is loaded: what the process takes from now on is the work's."""
        gc.collect()
        self.start = memory()[0]

    @contextmanager
    def block(self, what: str, count: int) -> Iterator[None]:
        """Measure the block, which handles `count` persons."""
        highest = [memory()]
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.01):
                highest.append(tuple(map(max, zip(highest.pop(), memory()))))  # type: ignore[arg-type]

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            seconds, used = time.perf_counter() - wall, time.process_time() - cpu
            stop.set()
            thread.join()
        anonymous, mapped = map(max, zip(highest[0], memory()))
        values = {"seconds": round(seconds, 2), "cpu_s": round(used, 2)}
        self.rows.append(
            {
                "what": what,
                "count": count,
                **values,
                "memory_mb": round(anonymous - self.start),
                "mapped_mb": round(mapped),
            }
        )


# -- prepare and loader ------------------------------------------------------------------------------------------------


def settings(root: Path) -> Params:
    """Those of the published recipe for the student t, on made-up data."""
    recipe = settings_of("dwpose-t-256x192-coco", str(root))
    recipe["teacher"]["backbone"] = recipe["student"]["backbone"] = None
    return from_settings(recipe)


def made_up_persons(count: int, folder: Path) -> list[Any]:
    """Persons with all keypoints; each picture is a link to one small file."""
    from posedistill.sources.person import ImageRef, Person

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    first = folder / "000000.jpg"
    if not first.exists():
        first.write_bytes(bytes(1000))
    image_of = np.sort(rng.integers(0, max(1, round(count / PER_IMAGE)), count))
    found, refs = [], {}
    for identity, image in enumerate(image_of.tolist()):
        if image not in refs:
            path = folder / f"{image:06d}.jpg"
            if not path.exists():
                path.symlink_to(first)
            refs[image] = ImageRef(str(path), None, 640, 480, path.name)
        keypoints = np.ones((133, 3), np.float32)
        box = np.array([10, 10, 200, 400], np.float32)
        found.append(Person(refs[image], image, identity, box, keypoints, 4e4))
    return found


def distinct_parts(folder: Path, rows: list[int]) -> dict[int, Path]:
    """Number of persons → a part file with as many, of noise crops of the size that real ones have."""
    from posedistill.data.store import arrow, jpeg

    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (DISTINCT, 40, 30, 3)).astype(np.uint8)
    pictures = [np.ascontiguousarray(np.kron(one, np.ones((10, 10, 1), np.uint8))) for one in coarse]
    encoded = [jpeg.encode(picture) for picture in pictures]
    folder.mkdir(parents=True)
    found = {}
    for count in sorted(set(rows)):
        records = []
        for index in range(count):
            one = encoded[index % DISTINCT]
            keypoints = np.concatenate([rng.uniform(0, [300, 400], (133, 2)), np.ones((133, 1))], axis=1)
            box, factor = np.array([75, 50, 150, 300], np.float32), np.ones(2)
            records.append(
                arrow.TrainRecord(
                    *(one.jpeg, one.lengths, one.width, one.height, keypoints.astype(np.float32), box),
                    *(np.zeros(2, np.int32), factor, index, index, 0),
                )
            )
        found[count] = folder / f"{count}.arrow"
        arrow.write_batch(found[count], arrow.train_batch(records))
    return found


def finish_parts(pictures: list[Any], parts: Path, distinct: Path) -> None:
    """Make all parts of a preparation finished: links to a few files of about as many persons each."""
    from posedistill.data.store import arrow
    from posedistill.data.store.parts import Notes, chunks

    parts.mkdir()
    wanted = [sum(len(picture.persons) for picture in chunk) for chunk in chunks(pictures, whole_files=False)]
    step = max(1, max(wanted) // DISTINCT)
    rows = [max(1, round(count / step) * step) for count in wanted]
    files = distinct_parts(distinct, rows)
    for index, count in enumerate(rows):
        os.link(files[count], parts / arrow.part_name(index))
        notes = Notes(index=index, rows=count, images=[], broken=[], odd=[])
        (parts / arrow.part_name(index)).with_suffix(".json").write_text(json.dumps(notes))


def pictures_of(persons: list[Any]) -> list[Any]:
    from posedistill.data.store.parts import by_picture

    return by_picture(0, persons, {})


def build_phase(folder: Path, count: int, meter: Meter) -> None:
    """What the other phases find on the disk; not measured."""
    finish_parts(pictures_of(made_up_persons(count, folder / "images")), folder / "parts", folder / "distinct")


def prepare_phase(folder: Path, count: int, meter: Meter) -> None:
    """What `prepare` does besides the pictures themselves: grouping, looking for files, notes, books, the store."""
    from posedistill.pipeline import prepare
    from posedistill.pipeline.ledger import Ledger
    from posedistill.sources.person import Funnel, SourcePersons

    params = settings(folder)
    meter.begin()
    with meter.block("annotations in memory", count):
        persons = made_up_persons(count, folder / "images")
    read = SourcePersons(persons, [Funnel("coco", read=count, kept=count)], None, [], {})
    with meter.block("prepare: grouping, files", count):
        pictures = pictures_of(persons)
        files = [prepare.find_files("coco", [picture.ref for picture in pictures], 0.01)]
    one = prepare.PersonSet("train", params.data.train, [read], pictures, files, folder / "parts", [])
    with meter.block("prepare: notes of finished parts, books", count):
        notes = prepare.make_parts(params, one, 1, False)
        ledger = Ledger()
        ledger.settle("train", [read], notes)
    (folder / "prepared").mkdir()
    with meter.block("prepare: store in place, its statistics", count):
        prepare.publish_train(params, one, notes, folder / "prepared")


def store_of(folder: Path) -> Any:
    """The training store that `prepare_phase` has put in place."""
    from posedistill.data.store.arrow import TrainStore

    return TrainStore(folder / "prepared" / "train")


def loader_phase(folder: Path, count: int, meter: Meter, steps: int = STEPS) -> None:
    """Opening the store, an epoch's order, and the loader's steps."""
    from posedistill.data.feed.loader import TrainLoader, epoch_order

    params = settings(folder)
    meter.begin()
    with meter.block("loader: open the store, order of an epoch", count):
        store = store_of(folder)
        epoch_order(len(store), 0, 0)
    with (
        TrainLoader(store, params.input, lambda _: params.augment, batch=BATCH, seed=0) as loader,
        meter.block(f"loader: {steps} steps of {BATCH}", count),
    ):
        batches = (batch for epoch in range(steps) for batch in loader.epoch(epoch))
        for _ in range(steps):
            next(batches)


# -- evaluation --------------------------------------------------------------------------------------------------------


class MadeUp(torch.nn.Module):
    """A model whose logits are some of a few that were drawn before, in turn."""

    def __init__(self, input_size: tuple[int, int], kinds: int = 97) -> None:
        super().__init__()
        self.input_size, self.kinds, self.at = input_size, kinds, 0
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(kinds, 133, 2 * input_size[1], generator=generator)
        self.y = torch.randn(kinds, 133, 2 * input_size[0], generator=generator)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.arange(self.at, self.at + len(images)) % self.kinds
        self.at += len(images)
        return self.x[rows], self.y[rows]


def truth_of(images: int, rng: np.random.Generator) -> dict[str, Any]:
    """Two annotated persons in each image."""
    from posedistill.keypoints import PARTS
    from posedistill.sources.fields import KEYPOINT_FIELDS

    annotations = [
        {
            **{"id": 2 * image + one, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 3e4},
            **{"bbox": [100.0, 50.0, 150.0, 300.0], "num_keypoints": 17},
            **{name: points[PARTS[part]].ravel().tolist() for part, name in KEYPOINT_FIELDS.items()},
        }
        for image in range(images)
        for one, points in enumerate(np.dstack([rng.uniform(100, 400, (2, 133, 2)), np.full((2, 133), 2.0)]))
    ]
    listed = [{"id": image, "file_name": f"{image}.jpg", "width": 640, "height": 480} for image in range(images)]
    return {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def evaluation_phase(folder: Path, count: int, meter: Meter) -> None:
    """Decoding, scores, NMS, matching, metrics, results, as the stage `evaluate` does after the model."""
    from posedistill.data.feed.loader import ValBatch
    from posedistill.evaluation.predict import predict_batches
    from posedistill.evaluation.records import read_ground_truth
    from posedistill.evaluation.wholebody import match_wholebody, metrics_of

    rng = np.random.default_rng(2)
    images = max(1, round(VAL_IMAGES * count / DETECTIONS))
    truth = read_ground_truth(truth_of(images, rng))
    image_of = np.sort(rng.integers(0, images, count))
    centers, scores = rng.uniform(100, 400, (count, 2)), rng.uniform(0, 1, count)

    def batches() -> Iterator[ValBatch]:
        for first in range(0, count, 64):
            rows = np.arange(first, min(first + 64, count))
            pixels = torch.zeros(len(rows), 8, 8, 3, dtype=torch.uint8)
            scale = np.tile([150.0, 200.0], (len(rows), 1))
            nobody = np.full(len(rows), -1)
            yield ValBatch(pixels, centers[rows], scale, rows, image_of[rows], nobody, scores[rows])

    model = MadeUp((256, 192))
    meter.begin()
    with meter.block("evaluation: decoding and scores", count):
        poses = predict_batches(model, batches(), flip_test=False)  # type: ignore[arg-type]
    with meter.block("evaluation: NMS", count):
        kept = poses.without_duplicates(0.9)
    with meter.block("evaluation: matching and metrics", count):
        metrics_of(match_wholebody(truth, kept.predictions(truth)))
    with meter.block("evaluation: results for the file", count):
        kept.results()


PHASES: dict[str, Callable[[Path, int, Meter], None]] = {
    "build": build_phase,
    "prepare": prepare_phase,
    "loader": loader_phase,
    "evaluation": evaluation_phase,
}


# -- the command -------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.add_argument("--persons", type=int, default=PERSONS, help="in the whole training store (%(default)s)")
    parser.add_argument("--detections", type=int, default=DETECTIONS, help="to evaluate in all (%(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the loader (%(default)s)")
    parser.add_argument("--child", nargs=3, metavar=("PHASE", "FOLDER", "COUNT"), help=argparse.SUPPRESS)
    add_output(parser, "benchmarks/scale-{}.csv")


def run(args: argparse.Namespace) -> int:
    if args.child:
        return _child(args.child[0], Path(args.child[1]), int(args.child[2]), args.steps)
    if min(args.persons, args.detections) < 16 * 16 or args.steps < 1:
        raise UserError("--persons and --detections: allowed are at least 256; --steps: at least 1")
    output = output_path(args)
    report, picture = output.with_suffix(".md"), output.with_suffix(".png")
    refuse_overwrite([output, report, picture], project.root() / "params.yaml")
    rows: list[Row] = []
    for share in SHARES:
        with tempfile.TemporaryDirectory() as folder:
            for phase in PHASES:
                whole = args.detections if phase == "evaluation" else args.persons
                rows += _measured(phase, Path(folder), whole * share // 16, share, args.steps)
                print(f"{phase}, {share}/16: done", file=sys.stderr, flush=True)
    write_rows(output, rows)
    print_rows(rows)
    write_report(rows, report, picture)
    print(f"written to {output}, {report} and {picture}")
    return 0


def _measured(phase: str, folder: Path, count: int, share: int, steps: int) -> list[Row]:
    """The rows of a phase, measured in a separate process."""
    command = [sys.executable, "-m", "posedistill", "benchmark", "scale", "--steps", str(steps)]
    command += ["--child", phase, str(folder), str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"benchmark scale: {phase} of {count} ended with {done.returncode}; the reason stands above")
    return [{"share": f"{share}/16", **row} for row in json.loads(done.stdout.splitlines()[-1])]


def _child(phase: str, folder: Path, count: int, steps: int) -> int:
    torch.set_num_threads(1)
    os.environ["POSEDISTILL_CHECKPOINTS"] = str(folder / "checkpoints")
    meter = Meter()
    if phase == "loader":
        loader_phase(folder, count, meter, steps)
    else:
        PHASES[phase](folder, count, meter)
    print(json.dumps(meter.rows))
    return 0
