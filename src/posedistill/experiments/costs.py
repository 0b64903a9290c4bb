"""Cost of a training step of a variant, measured on this machine in steps of the baseline, and the epochs of a baseline
that trains for the same time.

Only the student's training is timed; the teacher is given. On the CPU it is processor time, which other work on the
machine hardly changes.
"""

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posedistill import project
from posedistill.data.feed.loader import Batch, TrainLoader
from posedistill.data.store.arrow import TrainStore
from posedistill.devices import Device, choose, set_up
from posedistill.errors import UserError
from posedistill.experiments.engine import changed
from posedistill.files import write_atomic
from posedistill.fingerprint import code_hash
from posedistill.models.onnx_model import OnnxModel
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import Params, from_settings, setting
from posedistill.progress import progress
from posedistill.training.checkpoints import RunFolder
from posedistill.training.distributed import Group
from posedistill.training.frozen import frozen
from posedistill.training.loop import TrainingPlan, fit
from posedistill.training.objective import Objective
from posedistill.training.schedule import Schedule
from posedistill.training.stage1 import Stage1
from posedistill.training.stage2 import Stage2
from posedistill.training.supervised import Supervised

ROUNDS, STEPS = 3, 6  # the first step of a round warms up
TEACHER = Path("models/teacher.safetensors")
Setup = tuple[Mapping[str, Any], str]  # changed settings, name of the model in the pipeline


def relative_costs(settings: Mapping[str, Any], variants: Mapping[str, Setup]) -> dict[str, float]:
    """Cost of a step of each variant, in steps of the baseline, to two digits.

    Measured once for the same settings and code, and kept in the checkpoint folder: an experiment that is continued
    has the same plan. UserError without a prepared training set.
    """
    path = project.checkpoints() / "step-costs.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    code = code_hash("training.stage1:distill_stage1", "training.stage2:distill_stage2")
    keys = {name: _key(settings, variant, code) for name, variant in variants.items()}
    missing = {name: variant for name, variant in variants.items() if keys[name] not in known}
    if missing:
        found = _measure(settings, missing)
        known |= {keys[name]: cost for name, cost in found.items()}
        write_atomic(path, json.dumps(known, indent=0))
    return {name: known[key] for name, key in keys.items()}


def between(epochs: float) -> tuple[int, int, float]:
    """The whole numbers of epochs below and above `epochs` (at least 1), and the share of the larger."""
    low = max(1, math.floor(epochs))
    return low, max(low, math.ceil(epochs)), max(0.0, epochs - low)


def whole_epochs(epochs: Iterable[float]) -> list[int]:
    """All whole numbers of epochs that `between` needs."""
    return sorted({whole for value in epochs for whole in between(value)[:2]})


def _key(settings: Mapping[str, Any], variant: Setup, code: str) -> str:
    changes, model = variant
    names = ("input", "augment", "teacher.size", "teacher.input", "student.size", "train.batch", "loss", "runtime")
    used = {name: setting(settings, name) for name in names}
    content = [used, {name: str(value) for name, value in changes.items()}, model, code, torch.__version__]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _measure(settings: Mapping[str, Any], variants: Mapping[str, Setup]) -> dict[str, float]:
    """Measured in rounds over all variants, so that a slower phase of the machine hits all; median of the ratios."""
    if not Path("prepared/train").is_dir():
        raise UserError("prepared/train: there is no training set yet; run `make repro` first")
    ratios: dict[str, list[float]] = {name: [] for name in variants}
    rounds = [(number, name) for number in range(ROUNDS) for name in ("", *variants)]
    baseline = math.nan
    for _, name in progress(rounds, desc="measuring training steps", unit="trainings"):
        seconds = _seconds(settings, variants.get(name, ({}, "baseline")))
        if name:
            ratios[name].append(seconds / baseline)
        else:
            baseline = seconds
    return {name: round(float(np.median(values)), 2) for name, values in ratios.items()}


def _seconds(settings: Mapping[str, Any], variant: Setup) -> float:
    """Seconds of one training step with fresh weights, the median over some."""
    changes, model = variant
    more = len(changes.get("teacher.more") or ())
    kept = {name: value for name, value in changes.items() if name != "teacher.more"}
    params = from_settings(changed(settings, kept))
    device = choose(params.runtime)
    set_up(device)
    objective = device.place(_objective(params, model, more, device))
    own = params.input_for("teacher")
    teacher = own if model == "stage1" and own != params.input else None
    silent = Group(rank=1)  # prints nothing and writes nothing
    plan = TrainingPlan("costs", 1, STEPS, params.train.batch, Schedule(1e-4, STEPS), 0.05, 1.0, 2e-4, 2000, 1, "last")
    timer = _Timer(_clock(device), with_loading=device.workers == 0)  # worker processes prepare batches in parallel
    store, views = TrainStore("prepared/train"), (params.input, lambda _: params.augment)
    with (
        TrainLoader(store, *views, batch=plan.batch, seed=0, for_gpu=device.cuda, teacher=teacher) as loader,
        tempfile.TemporaryDirectory() as folder,
    ):
        fit(objective, plan, lambda *_: timer.watched(loader), device, RunFolder(Path(folder)), group=silent)
    return float(np.median(timer.seconds[1:]))


class _Timer:
    """The seconds of each step, with or without the time spent loading its batch."""

    def __init__(self, clock: Callable[[], float], with_loading: bool) -> None:
        self.clock, self.with_loading = clock, with_loading
        self.seconds: list[float] = []

    def watched(self, loader: TrainLoader) -> Iterator[Batch]:
        """STEPS batches."""
        for step in range(STEPS):
            start = self.clock()
            if step % loader.steps == 0:  # a small training set has fewer steps an epoch
                batches = loader.epoch(step // loader.steps)
            batch = next(batches)
            if not self.with_loading:
                start = self.clock()
            yield batch
            self.seconds.append(self.clock() - start)  # execution resumes here when the next batch is requested


def _clock(device: Device) -> Callable[[], float]:
    def synchronised() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return synchronised if device.cuda else time.process_time


def _objective(params: Params, model: str, more: int, device: Device) -> Objective:
    """What the stage of `model` trains, with fresh weights."""
    student = build_rtmpose(params.student.size, params.input.size)
    if model == "baseline":
        return Supervised(student, params.loss.reference_batch)
    if model == "stage2":
        student.eval().requires_grad_(False)
        head = build_rtmpose(params.student.size, params.input.size).head
        return Stage2(device.place(student), frozen(student, device), head, params.loss)
    if is_onnx(TEACHER):
        return Stage1(student, OnnxModel(TEACHER, params.runtime.threads), params.loss, params.teacher.keypoints)
    size = params.input_for("teacher").size
    teachers = [frozen(build_rtmpose(params.teacher.size, size).eval(), device) for _ in range(1 + more)]
    return Stage1(student, teachers[0], params.loss, more=teachers[1:])
