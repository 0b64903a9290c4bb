"""A GPU in under nine minutes: the distillation step, its memory, the loader beside it, and a short real training.

Renders its own data with all cores. Each part has a share of the time, so that a slow machine gives fewer numbers
rather than none. `--small` runs the same parts in miniature, on the CPU too.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from posedistill import project
from posedistill.benchmark.machine import Row, hardware, print_rows, write_rows
from posedistill.benchmark.training import Step, distillation, persons
from posedistill.data.feed.device_augment import to_model_input
from posedistill.data.feed.loader import TrainLoader
from posedistill.data.store.arrow import TrainStore
from posedistill.devices import Device, choose, set_up
from posedistill.errors import UserError
from posedistill.models.macs import count_macs
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import ROLES, Params, from_settings
from posedistill.pipeline.prepare import prepare
from posedistill.pipeline.recipes import settings_of
from posedistill.training.checkpoints import say

MINUTES = 8.0


@dataclass(frozen=True)
class GpuPlan:
    """Sizes of the measurements. `pairs`: teacher (None: stage 2), student; the first also with the loader."""

    pairs: tuple[tuple[str | None, str], ...]
    batch: int
    micro_batches: tuple[int, ...]
    images: int
    warm_up: int
    steps: int
    changes: dict[str, dict[str, Any]]  # of the recipe, for the short training


LARGE = GpuPlan(
    pairs=(("x", "l"), ("l", "t"), (None, "l")),
    batch=512,
    micro_batches=(64, 128, 256),
    images=6000,
    warm_up=5,
    steps=20,
    changes={"runtime": {"compile": False}},
)
SMALL = GpuPlan(
    pairs=(("nw", "n"), (None, "n")),
    batch=8,
    micro_batches=(4,),
    images=16,
    warm_up=1,
    steps=2,
    changes={
        "input": {"height": 64, "width": 64},
        "teacher": {"size": "nw"},
        "student": {"size": "n"},
        "train": {"batch": 8, "reference_batch": 8, "validate_every": 1},
        "augment": {"weak_epochs": 0},
        "evaluate": {"bootstrap": 0},
        "runtime": {"device": "auto"},
    },
)


def settings(plan: GpuPlan, data_root: Path) -> dict[str, Any]:
    """The GPU recipe with the plan's changes, on rendered data."""
    recipe = settings_of("gpu-rendered")
    recipe = {name: values | plan.changes.get(name, {}) for name, values in recipe.items()}
    train, val = recipe["data"]["train"][0], recipe["data"]["val"][0]
    recipe["data"] |= {
        "root": str(data_root),
        "train": [train | {"images": plan.images}],
        "val": [val | {"images": max(8, plan.images // 12)}],
    }
    return recipe


@contextlib.contextmanager
def workshop(folder: Path) -> Iterator[None]:
    """Work in `folder` as in a project of its own."""
    own = {"POSEDISTILL_ROOT": str(folder), "POSEDISTILL_CHECKPOINTS": str(folder / ".checkpoints")}
    with patch.dict(os.environ, own), contextlib.chdir(folder):
        yield


def synchronise(device: Device) -> None:
    if device.cuda:
        torch.cuda.synchronize(device.device)


def matrix_rate(device: Device) -> float:
    """Floating-point operations per second of a large matrix product in the device's precision, measured."""
    side, repeats = (8192, 20) if device.cuda else (512, 3)
    left, right = (torch.randn(side, side, device=device.device, dtype=device.precision) for _ in range(2))
    torch.mm(left, right)
    synchronise(device)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(left, right)
    synchronise(device)
    return 2 * side**3 * repeats / (time.perf_counter() - start)


def operations(teacher: str | None, student: str, size: tuple[int, int]) -> float:
    """Floating-point operations per person: a forward pass of the frozen model, and three times that of the trained one
    (its backward pass costs two forward passes)."""
    trained = 2.0 * count_macs(build_rtmpose(student, size))
    if teacher is None:  # of the head alone, which is little beside the backbone
        return trained
    return 2.0 * count_macs(build_rtmpose(teacher, size)) + 3 * trained


def measure_step(
    plan: GpuPlan, pair: tuple[str | None, str], device: Device, size: tuple[int, int], micro_batch: int, rate: float
) -> Row:
    """Persons/s of steps on one micro-batch that is already on the device, and the memory they take."""
    teacher, student = pair
    if device.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = _step(teacher, student, device, size, micro_batch)
    began = time.perf_counter()
    for _ in range(plan.warm_up):
        step()
    synchronise(device)
    warm_up = time.perf_counter() - began
    times = []
    for _ in range(plan.steps):
        start = time.perf_counter()
        step()
        synchronise(device)
        times.append(time.perf_counter() - start)
    speed = micro_batch / statistics.median(times)
    return {
        "what": f"{'stage 1' if teacher else 'stage 2'}, {f'{teacher} to ' if teacher else ''}{student}",
        **_facts(device, size, micro_batch),
        "persons/s": speed,
        "slowest": micro_batch / max(times),
        "fastest": micro_batch / min(times),
        "share of matrix rate": speed * operations(teacher, student, size) / rate,
        "memory GB": torch.cuda.max_memory_allocated() / 1e9 if device.cuda else "",
        "warm-up s": warm_up,
    }


def _step(teacher: str | None, student: str, device: Device, size: tuple[int, int], micro_batch: int) -> Step:
    objective = distillation(teacher, student, device, size)
    if device.compile:
        objective.compile()
    return Step(objective, *persons(micro_batch, device, size), device)


def measure_with_loader(plan: GpuPlan, params: Params, device: Device, micro_batch: int) -> Row:
    """Persons/s with the loader: worker processes, transfer, the device's part of the augmentation, and the step; and
    the share of the time that the step waits for the loader."""
    teacher, student = plan.pairs[0]
    store = TrainStore("prepared/train")
    batch = min(micro_batch, len(store))
    loader = TrainLoader(
        store, params.input, lambda _: params.augment, batch=batch, seed=0, workers=device.workers, for_gpu=device.cuda
    )
    batches = chain.from_iterable(map(loader.epoch, count()))
    step = _step(teacher, student, device, params.input.size, batch)
    waited, start = 0.0, 0.0
    for number in range(plan.warm_up + plan.steps):
        began = time.perf_counter()
        given = next(batches)
        wait = time.perf_counter() - began
        if number == plan.warm_up:
            synchronise(device)
            start, waited = time.perf_counter(), 0.0
        waited += wait
        parts = (given.images, given.keypoints, given.changes)
        images, keypoints, changes = (values.to(device.device, non_blocking=True) for values in parts)
        step.images, step.keypoints = device.layout(to_model_input(images, changes)), keypoints
        step()
    synchronise(device)
    seconds = time.perf_counter() - start
    loader.close()
    return {
        "what": f"stage 1, {teacher} to {student}, with the loader",
        **_facts(device, params.input.size, batch),
        "persons/s": plan.steps * batch / seconds,
        "waiting for the loader": waited / seconds,
        "workers": device.workers,
    }


def _facts(device: Device, size: tuple[int, int], micro_batch: int) -> Row:
    return {
        "input": f"{size[0]}x{size[1]}",
        "micro-batch": micro_batch,
        "precision": str(device.precision).removeprefix("torch."),
        "channels_last": device.channels_last,
        "compiled": device.compile,
    }


def measure_steps(plan: GpuPlan, params: Params, device: Device, end: float) -> list[Row]:
    """Steps of all pairs and micro-batches, then the first pair with the loader; until the time `end` (monotonic)."""
    rate = matrix_rate(device)
    rows: list[Row] = [{"what": "matrix product", "Tflop/s": rate / 1e12}]
    for pair in plan.pairs:
        sizes = plan.micro_batches if pair is plan.pairs[0] else plan.micro_batches[-1:]
        for micro_batch in sizes:
            if time.monotonic() > end:
                say("no time left for the other steps")
                return rows
            rows.append(
                _with_or_without_compiler(measure_step, plan, pair, device, params.input.size, micro_batch, rate)
            )
            say(f"{rows[-1]['what']}: {rows[-1]['persons/s']:.0f} persons/s")
    fastest = max((row for row in rows if row["what"] == rows[1]["what"]), key=lambda row: float(str(row["persons/s"])))
    rows.append(_with_or_without_compiler(measure_with_loader, plan, params, device, int(str(fastest["micro-batch"]))))
    return rows


def _with_or_without_compiler(measure: Any, *arguments: Any) -> Row:
    """Falls back to the uncompiled step where the compiler fails on this GPU."""
    try:
        return measure(*arguments)
    except torch._dynamo.exc.TorchDynamoException as error:
        say(f"torch.compile failed: {str(error).splitlines()[0]}")
        torch._dynamo.reset()
        plain = [replace(item, compile=False) if isinstance(item, Device) else item for item in arguments]
        return measure(*plain)


def short_training(base: dict[str, Any], epochs: int) -> list[Row]:
    """Teacher, baseline, stage 1 and stage 2 in `epochs` epochs each (stage 2: a fifth), and what they reach."""
    from posedistill.pipeline.evaluate import evaluate_model
    from posedistill.training import train_stage

    for section in ("teacher", "student"):
        base[section] |= {"epochs": epochs}
    base["stage2"] |= {"epochs": max(1, epochs // 5)}
    base["augment"] |= {"weak_epochs": epochs // 10}
    base["train"] |= {"validate_every": max(1, epochs // 3)}
    params = from_settings(base)
    rows: list[Row] = []
    for role in ROLES:
        start = time.perf_counter()
        trained = train_stage(role, params)
        seconds = time.perf_counter() - start
        found = evaluate_model(params, role)
        rows.append(
            {
                "model": role,
                "size": params.teacher.size if role == "teacher" else params.student.size,
                "epochs": int(trained.history["epoch"].iloc[-1]),
                "steps": int(trained.history["step"].iloc[-1]),
                "minutes": seconds / 60,
                "persons/s": trained.history["step"].iloc[-1] * params.train.batch / seconds,
                "AP": 100 * found.metrics["wholebody"]["AP"],
                "mean OKS": 100 * found.mean_oks["wholebody"],
                "validation persons": found.persons,
            }
        )
    return rows


def epochs_for(seconds: float, persons: int, speed: float) -> int:
    """Epochs per training so that all four take about `seconds`; a quarter of it is reserved for everything else."""
    return max(1, min(60, int(0.75 * seconds / (3.2 * persons / speed))))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark gpu`."""
    parser.description = __doc__
    parser.add_argument("--small", action="store_true", help="in miniature, on the CPU too: to test this program")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks"), help="folder of the files (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Measure, print and write gpu-steps-….csv, gpu-training-….csv and the curves of the training."""
    if not args.small and not torch.cuda.is_available():
        raise UserError("benchmark gpu: PyTorch finds no GPU here; --small runs it in miniature on the CPU")
    plan = SMALL if args.small else LARGE
    end = time.monotonic() + 60 * args.minutes
    output = args.output.resolve()
    base = settings(plan, project.root() / "assets")
    params = from_settings(base)
    device = choose(params.runtime)
    if not args.small:
        device = replace(device, compile=True)  # for the steps; the short training would spend minutes compiling
    name = hardware(device.device.type)
    with tempfile.TemporaryDirectory() as folder, workshop(Path(folder)):
        prepare(params)
        persons = len(TrainStore("prepared/train"))
        left = end - time.monotonic()
        say(f"{persons} persons rendered and prepared, {left:.0f} s left")
        set_up(device)
        rows = measure_steps(plan, params, device, end - 0.5 * left)
        print_rows(rows)
        write_rows(output / f"gpu-steps-{name}.csv", rows)
        epochs = 1 if args.small else epochs_for(end - time.monotonic(), persons, 2500)
        trained = short_training(base, epochs)
        print_rows(trained)
        write_rows(output / f"gpu-training-{name}.csv", trained)
        for curves in sorted(Path("reports/curves").glob("*.tsv")):
            shutil.copyfile(curves, output / f"gpu-curves-{curves.stem}-{name}.tsv")
    print(f"written to {output}")
    return 0
