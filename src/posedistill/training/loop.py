"""The training loop, for every objective."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from posedistill.data.feed.device_augment import compiled_model_input, to_model_input
from posedistill.data.feed.loader import Batch
from posedistill.data.feed.pixel_changes import enlarged
from posedistill.devices import Device
from posedistill.errors import UserError
from posedistill.models.rtmpose import RTMPose
from posedistill.progress import Lines, progress
from posedistill.training import distributed
from posedistill.training.checkpoints import RunFolder, Writer
from posedistill.training.compiled import prepare_compiler
from posedistill.training.distributed import Group
from posedistill.training.ema import MovingAverage
from posedistill.training.metrics import Meter, accuracy, agreement
from posedistill.training.objective import Objective
from posedistill.training.optim import build_optimizer, set_lr
from posedistill.training.schedule import Schedule

LOG_EVERY = 20  # steps between loss reads; each synchronises with the device
CHECKPOINT_EVERY = 500  # steps; and at the end of every epoch
CHECKPOINT_SECONDS = 300  # or after this time; checkpoint timing never affects results
PROBED = 64  # persons of the batch on which the terms' gradients are compared
ROWS = 48  # of the curves over the whole training, about; at least one per epoch

Row = dict[str, float]


@dataclass(frozen=True)
class TrainingPlan:
    """What the loop needs to know of the settings. Steps are optimiser steps, each on one global batch."""

    name: str
    epochs: int
    steps_per_epoch: int
    batch: int  # global
    schedule: Schedule
    weight_decay: float
    clip_norm: float | None
    ema_momentum: float
    ema_gamma: int
    validate_every: float  # epochs
    keep: str  # last | best
    settings: tuple[str, str] = ("lr", "clip_norm")  # names of learning rate and gradient clip, for messages

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def steps_per_row(self) -> int:
        """Steps between rows of the curves: at least one row per epoch, about ROWS in all."""
        return self.steps_per_epoch // max(1, ROWS // self.epochs) or self.steps_per_epoch

    def row_due(self, step: int) -> bool:
        """Whether the curves have a row after `step` steps."""
        within, every = step % self.steps_per_epoch, self.steps_per_row
        return within == 0 or (within % every == 0 and within + every <= self.steps_per_epoch)

    def validation_due(self, step: int) -> bool:
        """Whether the model is validated after `step` steps: with every row that completes another `validate_every`
        epochs, and at the end."""
        if not self.row_due(step):
            return False
        epochs, within = divmod(step, self.steps_per_epoch)
        rows = self.steps_per_epoch // self.steps_per_row
        before, now = (
            int((epochs + row / rows) / self.validate_every + 1e-9)
            for row in (within // self.steps_per_row - 1, within // self.steps_per_row)
        )
        return now > before or step == self.steps


@dataclass
class Result:
    """The trained model (its moving average) and the rows of its curves."""

    model: RTMPose
    rows: list[Row]


def fit(
    objective: Objective,
    plan: TrainingPlan,
    batches: Callable[[int, int], Iterator[Batch]],
    device: Device,
    folder: RunFolder,
    *,
    group: Group | None = None,
    validate: Callable[[RTMPose], Mapping[str, float]] | None = None,
    on_rows: Callable[[list[Row]], None] = lambda rows: None,
) -> Result:
    """Train `objective` (already on `device`) for `plan.epochs`, from the last checkpoint in `folder` if there is one.

    `batches(epoch, step)` gives this process's batches of an epoch from its step `step` on, always the same ones.
    `validate` gives what the curves show of a model, `val_ap` (by which the best is kept) among it; NaN if its
    predictions are not finite. `on_rows` is called with all
    rows of the curves whenever there is a new one. An interrupted and continued training ends with the same bits as an
    undisturbed one.

    Raises UserError when the training diverges: the loss, a weight or a prediction is no longer finite.
    """
    with Writer(folder) as writer:
        loop = _Loop(objective, plan, device, writer, group or Group(), on_rows)
        for epoch in range(loop.step // plan.steps_per_epoch, plan.epochs):
            objective.start_epoch(epoch, plan.epochs)
            loop.train_epoch(epoch, batches, validate)
            loop.save()
    if "ema" in loop.best:
        loop.ema.load_state_dict(loop.best["ema"])
    return Result(objective.model(loop.ema.module), loop.rows)


class _Loop:
    """The state of a training, which a checkpoint holds, and what changes it."""

    probe: tuple[Tensor, ...]  # what `forward` took of the last batch, of some persons

    def __init__(
        self,
        objective: Objective,
        plan: TrainingPlan,
        device: Device,
        writer: Writer,
        group: Group,
        on_rows: Callable[[list[Row]], None],
    ) -> None:
        self.objective, self.plan, self.device = objective, plan, device
        self.writer, self.group, self.on_rows = writer, group, on_rows
        self.optimizer = build_optimizer(objective, plan.schedule.lr, plan.weight_decay)
        self.parameters = [parameter for options in self.optimizer.param_groups for parameter in options["params"]]
        self.ema = MovingAverage(objective.averaged, plan.ema_momentum, plan.ema_gamma)
        self.meter = Meter(device.device)
        self.rows: list[Row] = []
        self.best: dict[str, Any] = {"val_ap": -math.inf}
        self.step = 0  # steps done
        writer.folder.open()
        if state := writer.folder.load_last():
            self.load_state_dict(state)
        self.first_step, self.start = self.step, time.monotonic()
        if device.compile:
            prepare_compiler()
            objective.compile()
        compiles = device.compile and device.cuda
        self.model_input = compiled_model_input(device.device) if compiles else to_model_input
        self.forward = distributed.wrap(objective, device.device, group)
        objective.train()

    def state_dict(self) -> dict[str, Any]:
        plain = {"step": self.step, "rows": self.rows, "best": self.best, "rng": torch.get_rng_state()}
        return plain | {name: getattr(self, name).state_dict() for name in ("objective", "optimizer", "ema", "meter")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.rows, self.best = state["step"], state["rows"], state["best"]
        for name in ("objective", "optimizer", "ema", "meter"):
            getattr(self, name).load_state_dict(state[name])
        torch.set_rng_state(state["rng"])

    def save(self) -> None:
        """Have a checkpoint written, unless the training has diverged."""
        if not self.group.main:
            return
        tensors = [*self.objective.state_dict().values(), *self.ema.state_dict().values()]
        floats = [tensor for tensor in tensors if tensor.is_floating_point()]
        if not nn.utils.get_total_norm(floats, math.inf).isfinite():  # the largest of all, infinite or NaN
            raise self.diverged("a weight or BatchNorm statistic", self.step)
        self.writer.save(self.step, self.state_dict())

    def train_epoch(
        self,
        epoch: int,
        batches: Callable[[int, int], Iterator[Batch]],
        validate: Callable[[RTMPose], Mapping[str, float]] | None,
    ) -> None:
        """All steps of an epoch that are left, and the validations that are due."""
        plan, within = self.plan, self.step % self.plan.steps_per_epoch
        saved = time.monotonic()
        with progress(
            desc=f"{plan.name}: epoch {epoch + 1}/{plan.epochs}",
            unit="persons",
            total=plan.steps_per_epoch * plan.batch,
            initial=within * plan.batch,
            show=self.group.main,
        ) as bar:
            for batch in batches(epoch, within):
                self.optimise(batch)
                bar.update(plan.batch)
                # Whatever waits for the device stands below.
                if self.loss_read_due(self.step):
                    self.read_loss(bar)
                if plan.validation_due(self.step):
                    if self.group.main:
                        self.validate(validate)
                    self.group.wait()
                within_epoch = self.step % plan.steps_per_epoch != 0  # at its end, validation comes first
                if within_epoch and (
                    self.step % CHECKPOINT_EVERY == 0 or time.monotonic() - saved > CHECKPOINT_SECONDS
                ):
                    if self.meter.bad.isinf():  # no bad step so far
                        self.save()
                    saved = time.monotonic()

    def loss_read_due(self, step: int) -> bool:
        """Whether the loss is read, and the accuracy measured, at the end of `step` (from 1)."""
        return self.plan.row_due(step) or step % LOG_EVERY == 0

    def optimise(self, batch: Batch) -> None:
        """One optimiser step: the gradients of the micro-batches add up to the gradient of the whole batch."""
        set_lr(self.optimizer, self.plan.schedule.at(self.step))
        measured = self.loss_read_due(self.step + 1)
        for inputs, share, last in self.micro_batches(batch):
            with _no_gradient_exchange(self.forward, until=last):
                with self.device.autocast():
                    terms, prediction, teacher = self.forward(*inputs)
                (terms["total"] * share).backward()
            self.meter.add(terms, share)
            if measured:
                keypoints = inputs[1]
                weight = self.objective.weight(keypoints)
                self.meter.add({"accuracy": accuracy(prediction, keypoints, weight)}, share)
                if teacher is not None:
                    self.meter.add({"agreement": agreement(prediction, teacher)}, share)
            self.probe = tuple(values[:PROBED] for values in inputs)
        if self.plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.plan.clip_norm, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.objective.averaged)
        self.step += 1
        self.meter.end_step(self.step)

    def micro_batches(self, batch: Batch) -> Iterator[tuple[tuple[Tensor, ...], float, bool]]:
        """The batch in parts, on the device: what the objective takes (images [b, 3, H, W], keypoints [b, K, 3], and
        the teacher's images where they are of another size), the part's share of the batch, and whether it is the
        last."""
        size, device, dtype = len(batch.images), self.device, self.parameters[0].dtype
        part = device.micro_batch or size
        for start in range(0, size, part):
            images, keypoints, changes = (
                values[start : start + part].to(device.device, non_blocking=True)
                for values in (batch.images, batch.keypoints, batch.changes)
            )
            inputs = [device.layout(self.model_input(images, changes).to(dtype)), keypoints]
            if batch.teacher_images is not None:
                larger = batch.teacher_images[start : start + part].to(device.device, non_blocking=True)
                factor = larger.shape[1] / images.shape[1]
                inputs.append(device.layout(self.model_input(larger, enlarged(changes, factor)).to(dtype)))
            yield tuple(inputs), len(images) / size, start + part >= size

    def read_loss(self, bar: tqdm | Lines) -> None:
        """Show the loss, write a row of the curves when one is due; UserError if a loss was not finite."""
        if (bad := self.meter.first_bad_step(self.group)) is not None:
            raise self.diverged("the loss", bad)
        means = self.meter.means(self.group)
        seconds = (time.monotonic() - self.start) * (self.plan.steps - self.step) / (self.step - self.first_step)
        bar.set_postfix_str(f"loss {means['total']:.4g}, {tqdm.format_interval(seconds)} left in all", refresh=False)
        if self.plan.row_due(self.step):
            when = {"epoch": self.step / self.plan.steps_per_epoch, "step": self.step}
            lr = self.plan.schedule.at(self.step - 1)
            self.rows.append({**when, "lr": lr, **self.objective.facts(), **means})
            self.meter.clear()
            if self.group.main:
                self.on_rows(self.rows)

    def validate(self, validate: Callable[[RTMPose], Mapping[str, float]] | None) -> None:
        """Complete the last row with gradient norms and what `validate` gives, and remember the best model."""
        # Compiling for one look at a few persons in eval mode would take longer than all looks.
        eager = torch.compiler.set_stance("force_eager") if self.device.compile else nullcontext()
        with eager, self.device.autocast():
            loss, norms = self.objective.evaluated_terms(*self.probe)
        self.rows[-1] |= norms
        if not math.isfinite(loss):
            raise self.diverged("the loss in eval mode", self.step)
        if validate is not None:
            found = validate(self.objective.model(self.ema.module))
            if any(map(math.isnan, found.values())):
                raise self.diverged("a prediction on the validation images", self.step)
            self.rows[-1] |= found
            if self.plan.keep == "best" and found["val_ap"] > self.best["val_ap"]:
                self.best = {"val_ap": found["val_ap"], "ema": copy.deepcopy(self.ema.state_dict())}
        self.on_rows(self.rows)
        self.objective.train()

    def diverged(self, what: str, step: int) -> UserError:
        self.writer.wait()
        plan, (lr, clip_norm) = self.plan, self.plan.settings
        epoch = (step - 1) // plan.steps_per_epoch + 1
        return UserError(
            f"{plan.name}: the training diverged: {what} is not finite after step {step} (epoch {epoch}), with "
            f"learning rate {plan.schedule.lr:g} and gradient clip {plan.clip_norm or 'off'}; lower {lr} or set "
            f"{clip_norm}; {self.writer.folder.last_good()}"
        )


def _no_gradient_exchange(forward: nn.Module, until: bool) -> AbstractContextManager:
    """Processes exchange gradients once per step: with the last micro-batch."""
    if isinstance(forward, nn.parallel.DistributedDataParallel) and not until:
        return forward.no_sync()
    return nullcontext()
