"""Time of a distillation step on the CPU, in units of a 1024×1024×1024 float32 matrix product.

Measured in CPU time on one thread, so that load on the machine hardly matters. The ratio shows what a change of the
code does on one machine; it does not carry to another processor or memory allocator. The comparison with the published
code is benchmarks/steps.py.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from posedistill.benchmark.machine import Row, add_output, output_path, report
from posedistill.devices import Device, keep_memory
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import Loss
from posedistill.progress import progress
from posedistill.training.ema import MovingAverage
from posedistill.training.frozen import frozen
from posedistill.training.objective import Objective
from posedistill.training.optim import build_optimizer
from posedistill.training.stage1 import Stage1
from posedistill.training.stage2 import Stage2

# name → (teacher or None for stage 2, student)
STEPS: dict[str, tuple[str | None, str]] = {
    "stage 1, l to t": ("l", "t"),
    "stage 1, x to l": ("x", "l"),
    "stage 2, l": (None, "l"),
}
BATCH = 8
INPUT = (256, 192)
LOSS = Loss(
    alpha=7e-5,
    beta=0.1,
    gamma=1.0,
    decay=True,
    logit_on="all",
    feature_reduction="sum",
    extra={},
    reference_batch=64,
    clip_norm=1.0,
)


def distillation(teacher: str | None, student: str, device: Device, input_size: tuple[int, int] = INPUT) -> Objective:
    """The objective of stage 1, or of stage 2 without a teacher, with fresh weights, on the device."""
    model = build_rtmpose(student, input_size)
    if teacher is None:
        model.eval().requires_grad_(False)
        head = build_rtmpose(student, input_size).head
        return device.place(Stage2(device.place(model), frozen(model, device), head, LOSS))
    return device.place(Stage1(model, frozen(build_rtmpose(teacher, input_size).eval(), device), LOSS))


def persons(batch: int, device: Device, input_size: tuple[int, int] = INPUT) -> tuple[Tensor, Tensor]:
    """Noise as images [B, 3, H, W], and keypoints [B, 133, 3] anywhere in them, all labelled."""
    height, width = input_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, height, width, generator=generator)
    where = torch.rand(batch, 133, 2, generator=generator) * torch.tensor([width - 1.0, height - 1.0])
    keypoints = torch.cat((where, torch.ones(batch, 133, 1)), dim=2)
    return device.layout(images.to(device.device)), keypoints.to(device.device)


class Step:
    """Optimiser steps on one batch, as the training loop does them. Calling it returns the seconds of each phase."""

    def __init__(self, objective: Objective, images: Tensor, keypoints: Tensor, device: Device) -> None:
        self.objective, self.images, self.keypoints, self.device = objective, images, keypoints, device
        self.optimizer = build_optimizer(objective, 1e-3, 0.05)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.ema = MovingAverage(objective.averaged)
        objective.train()

    def __call__(self, clock: Callable[[], float] = time.process_time) -> dict[str, float]:
        marks = [clock()]
        with self.device.autocast():
            terms, _, _ = self.objective(self.images, self.keypoints)
        marks.append(clock())
        terms["total"].backward()
        marks.append(clock())
        nn.utils.clip_grad_norm_(self.parameters, LOSS.clip_norm or 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        marks.append(clock())
        self.ema.update_parameters(self.objective.averaged)
        marks.append(clock())
        names = ("forward", "backward", "optimizer", "ema")
        return dict(zip(names, np.diff(marks).tolist())) | {"step": marks[-1] - marks[0]}


def unit() -> Callable[[], float]:
    """A function that times one 1024×1024×1024 float32 product: CPU seconds, the median of ten."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)

    def measure() -> float:
        times = []
        for _ in range(11):
            start = time.process_time()
            torch.mm(left, right)
            times.append(time.process_time() - start)
        return float(np.median(times[1:]))

    return measure


def measure_steps(
    steps: dict[str, tuple[str | None, str]] | None = None,
    *,
    batch: int = BATCH,
    input_size: tuple[int, int] = INPUT,
    repeats: int = 5,
) -> list[Row]:
    """One row per step: medians over `repeats`, each divided by the product measured right before and after it."""
    torch.set_num_threads(1)
    keep_memory()
    device = Device(torch.device("cpu"), torch.float32, True, False, 0, 1, None)
    product = unit()
    rows: list[Row] = []
    for name, (teacher, student) in progress((steps or STEPS).items(), desc="measuring training steps", unit="steps"):
        step = Step(distillation(teacher, student, device, input_size), *persons(batch, device, input_size), device)
        step()
        phases, ratios = [], []
        for _ in range(repeats):
            before = product()
            phases.append(step())
            ratios.append(phases[-1]["step"] / ((before + product()) / 2))
        medians = {phase: 1000 * float(np.median([times[phase] for times in phases])) for phase in phases[0]}
        low, middle, high = np.quantile(ratios, (0, 0.5, 1)).tolist()
        rows.append(
            {
                "step": name,
                "batch": batch,
                "input": f"{input_size[0]}x{input_size[1]}",
                "ms": medians.pop("step"),
                **{f"{phase} ms": value for phase, value in medians.items()},
                "torch.mm units": middle,
                "lowest": low,
                "highest": high,
                "repeats": repeats,
                "threads": 1,
                "torch": torch.__version__,
            }
        )
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.add_argument("--repeats", type=int, default=5)
    add_output(parser, "benchmarks/training-{}.csv")


def run(args: argparse.Namespace) -> int:
    output = output_path(args)
    report(output, measure_steps(repeats=args.repeats))
    return 0
