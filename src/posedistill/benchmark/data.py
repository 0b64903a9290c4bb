"""Throughput of the data path on one core, step by step, and what travels to the device.

Times are CPU times of one thread, so that other load on the machine hardly matters; the row `torch.mm` (1024x1024x1024,
float32) is the speed of the core at that moment.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch

from posedistill import project
from posedistill.benchmark.machine import Row, add_output, output_path, parse_size, report
from posedistill.data.feed import augment as augmentation
from posedistill.data.feed.device_augment import to_model_input
from posedistill.data.feed.loader import TrainLoader
from posedistill.data.feed.pixel_changes import apply_median
from posedistill.data.store import jpeg
from posedistill.data.store.arrow import TrainStore
from posedistill.errors import UserError
from posedistill.files import files_below
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
        "Training samples per second and core: the worker alone, the device part, both; on rendered people and, where "
        "present, on the real photographs of the tests."
    )
    parser.add_argument("--real", type=Path, help="COCO folder with test photographs (default: ../shared/real/coco)")
    parser.add_argument("--images", type=int, default=96, help="rendered pictures (default %(default)s)")
    parser.add_argument("--input", default="256x192", help="height x width (default %(default)s)")
    parser.add_argument("--samples", type=int, default=300, help="samples per repetition (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions, for the median (default %(default)s)")
    add_output(parser, "benchmarks/data-{}.csv")


def run(args: argparse.Namespace) -> int:
    size, output = parse_size("--input", args.input), output_path(args)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            with patch.dict(os.environ, POSEDISTILL_CHECKPOINTS=f"{folder}/checkpoints"):  # none in the project
                for name, params in _data_sets(args, size, Path(folder)):
                    found = measure(params, Path(folder) / name, samples=args.samples, repeats=args.repeats)
                    rows += [{"data": name, "input": f"{size[0]}x{size[1]}", **row} for row in found]
        finally:
            torch.set_num_threads(threads)
    report(output, rows)
    return 0


def _data_sets(args: argparse.Namespace, size: tuple[int, int], folder: Path) -> Iterator[tuple[str, Params]]:
    """Name and settings of each data set to measure."""
    root = project.root()
    settings = to_settings(load_params(root / "params.yaml"))
    settings["input"] = {"height": size[0], "width": size[1]}
    settings["augment"].update(PUBLISHED)

    def of(name: str, place: Path, annotations: str, images: str) -> tuple[str, Params]:
        source = {"source": "coco_wholebody", "name": name, "annotations": annotations, "images": images}
        data = {"root": str(place.resolve()), "boxes": "ground_truth", "train": [source], "val": [source]}
        return name, from_settings({**settings, "data": {**settings["data"], **data}})

    real = args.real or Path(os.environ.get("POSEDISTILL_SHARED", root.parent / "shared")) / REAL
    annotations = sorted((real / "annotations").glob("*wholebody*.json"))
    if annotations:
        yield of("real", real, str(annotations[0].relative_to(real)), "val2017")
    elif args.real:
        raise UserError(f"--real {real}: there is no annotations/*wholebody*.json")
    render_dataset(root / "assets" / "body", folder / "people", args.images, 7, progress=False)
    yield of("rendered", folder / "people", "annotations.json", "images")


def measure(params: Params, out: Path, *, samples: int, repeats: int) -> list[Row]:
    """The rows of one data set, which is prepared in the folder `out`."""
    start = time.perf_counter()
    prepare(params, out, workers=1, progress=False)
    prepared = time.perf_counter() - start
    store = TrainStore(out / "train")
    times = step_times(store, params, samples, repeats)
    worker, device = times["worker"], times["device"]
    bytes_stored = sum(file.stat().st_size for file in files_below(out / "train"))

    def timed(step: str, seconds: np.ndarray, **more: Any) -> Row:
        ms = 1000 * np.maximum(seconds, 1e-9) / samples
        median = float(np.median(ms))
        row = {"step": step, "persons_per_s": round(1000 / median, 1), "ms": round(median, 4)}
        return row | {"ms_min": round(ms.min(), 4), "ms_max": round(ms.max(), 4), **more, "repeats": repeats}

    def within_worker(step: str, seconds: np.ndarray) -> Row:
        return timed(step, seconds, share_of_worker=round(float(np.median(seconds) / np.median(worker)), 3))

    square = torch.ones(1024, 1024)
    product = min(_timed(lambda: torch.mm(square, square))[0] for _ in range(5))
    return [
        within_worker("worker", worker),
        *(within_worker(f"worker: {step}", times[step]) for step in ("decode", "warp", "draw")),
        within_worker("worker for a GPU, with median blur", worker + times["median blur"]),
        timed("device", device),
        timed("worker + device", worker + device),
        {"step": "loader, all workers", "persons_per_s": round(_loader_rate(store, params), 1)},
        {"step": "bytes per person to the device", "value": _bytes_per_person(store, params)},
        {"step": "bytes per person in the store", "value": bytes_stored // len(store)},
        {"step": "prepare, one process", "persons_per_s": round(len(store) / prepared, 1)},
        {"step": "torch.mm", "ms": round(1000 * product, 2)},
    ]


def step_times(store: TrainStore, params: Params, samples: int, repeats: int) -> dict[str, np.ndarray]:
    """CPU seconds [repeats] for `samples` samples: the worker, its steps, and the device part."""
    _repetition(store, params, samples, 0)  # warms up
    runs = [_repetition(store, params, samples, seed) for seed in range(1, repeats + 1)]
    result = {step: np.array([run[step] for run in runs]) for step in runs[0]}
    result["draw"] = result["worker"] - result["decode"] - result["warp"]
    return result


def _repetition(store: TrainStore, params: Params, samples: int, seed: int) -> dict[str, float]:
    jobs = [(i % len(store), i // len(store)) for i in range(samples)]

    def draw_one(index: int, epoch: int) -> augmentation.Sample:
        rng = np.random.default_rng([seed, epoch, index])
        return augmentation.sample_train(store[index], params.augment, params.input, rng)

    worker, drawn = _timed(lambda: [draw_one(index, epoch) for index, epoch in jobs])
    views = [(store[index], sample.matrix) for (index, _), sample in zip(jobs, drawn)]
    viewed, _ = _timed(lambda: [augmentation.view_of(record, matrix, params.input.size) for record, matrix in views])
    parts = [_decoded(record, matrix, params.input.size) for record, matrix in views]
    decoded, _ = _timed(lambda: [jpeg.decode(*part) for part in parts if part])
    images = torch.from_numpy(np.stack([sample.image for sample in drawn]))
    changes = torch.from_numpy(np.stack([sample.changes for sample in drawn]))
    median, _ = _timed(lambda: [apply_median(sample.image, sample.changes.copy()) for sample in drawn])
    batches = [(images[s : s + BATCH], changes[s : s + BATCH]) for s in range(0, samples, BATCH)]
    device, _ = _timed(lambda: [to_model_input(*batch) for batch in batches])
    return {"worker": worker, "decode": decoded, "warp": viewed - decoded, "median blur": median, "device": device}


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    value = function()
    return time.process_time() - start, value


def _decoded(record, matrix: np.ndarray, size: tuple[int, int]):  # type: ignore[no-untyped-def]
    """The arguments of `view_of`'s decoding of this view; None if nothing of the image is in it."""
    box = augmentation.visible_part(matrix, size)
    if box[2] < 0 or box[3] < 0 or box[0] >= record.width or box[1] >= record.height:
        return None
    return record.jpeg, record.segments, record.width, record.height, box


def _loader_rate(store: TrainStore, params: Params, seconds: float = 4.0) -> float:
    """Persons/s of wall time through the loader with its worker processes."""
    workers = min(16, max(1, cores() - 1))
    batch = min(BATCH, len(store))
    with TrainLoader(store, params.input, lambda _: params.augment, batch=batch, seed=0, workers=workers) as loader:

        def persons_of(epoch: int) -> int:
            return sum(len(batch.images) for batch in loader.epoch(epoch))

        persons_of(0)  # starts the processes
        persons, epoch, start = 0, 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            epoch += 1
            persons += persons_of(epoch)
        return persons / (time.perf_counter() - start)


def _bytes_per_person(store: TrainStore, params: Params) -> int:
    batch = min(4, len(store))
    first = next(TrainLoader(store, params.input, lambda _: params.augment, batch=batch, seed=0).epoch(0))
    return sum(values.nbytes for values in (first.images, first.keypoints, first.changes)) // batch
