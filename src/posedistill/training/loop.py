"""The training loop, for every objective."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from posedistill.data.feed.device_augment import to_model_input
from posedistill.devices import Device
from posedistill.errors import UserError
from posedistill.models.rtmpose import RTMPose
from posedistill.training import distributed
from posedistill.training.checkpoints import RunFolder
from posedistill.training.distributed import Group
from posedistill.training.ema import ExpMomentumEMA
from posedistill.training.metrics import Meter, accuracy, agreement
from posedistill.training.objective import Objective
from posedistill.training.optim import build_optimizer, set_lr
from posedistill.training.schedule import Schedule

LOG_EVERY = 20  # steps between two looks at the loss, each of which waits for the device
CHECKPOINT_EVERY = 500  # steps; and at the end of every epoch
CHECKPOINT_SECONDS = 300  # or after this time; when one is written changes nothing in the result
PROBED = 64  # persons of the batch on which the terms' gradients are compared
ROWS = 48  # of the curves over the whole training, about; at least one an epoch

Row = dict[str, float]


class Batch(Protocol):
    """What the loader gives: this process's share of a global batch."""

    images: Tensor  # [B, H, W, 3] uint8
    keypoints: Tensor  # [B, K, 3] input pixels, and 1 where labelled
    recipe: Tensor  # [B, R], what of the augmentation is left to the device


@dataclass(frozen=True)
class Plan:
    """What the loop needs to know of the settings. Steps are optimiser steps, each of one global batch."""

    name: str
    epochs: int
    steps_per_epoch: int
    batch: int  # global
    schedule: Schedule
    weight_decay: float
    clip_norm: float | None
    ema_momentum: float
    ema_gamma: int
    validate_every: int
    keep: str  # last | best

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def row_due(self, step: int) -> bool:
        """Whether the curves have a row after `step` steps: at least one an epoch, about ROWS in all."""
        within = step % self.steps_per_epoch
        every = self.steps_per_epoch // max(1, ROWS // self.epochs)
        return within == 0 or (every > 0 and within % every == 0 and within + every <= self.steps_per_epoch)

    def validation_due(self, epoch: int) -> bool:
        return (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs


@dataclass
class Result:
    """The trained model (its moving average) and the rows of its curves."""

    model: RTMPose
    rows: list[Row]


def fit(
    objective: Objective,
    plan: Plan,
    batches: Callable[[int, int], Iterator[Any]],
    device: Device,
    folder: RunFolder,
    *,
    group: Group | None = None,
    validate: Callable[[RTMPose], float] | None = None,
    on_rows: Callable[[list[Row]], None] = lambda rows: None,
) -> Result:
    """Train `objective` (already on `device`) for `plan.epochs`, from the last checkpoint in `folder` if there is one.

    `batches(epoch, step)` gives this process's batches of an epoch from its step `step` on, the same whenever it is
    asked. `validate` gives the validation AP of a model. `on_rows` is called with all rows of the curves whenever there
    is a new one. A training that was interrupted and continued ends with the same bits as one that was not.

    Raises UserError when the loss is no longer a number.
    """
    group = group or Group()
    folder.open()
    optimizer = build_optimizer(objective, plan.schedule.lr, plan.weight_decay)
    parameters = [parameter for options in optimizer.param_groups for parameter in options["params"]]
    ema = ExpMomentumEMA(objective.averaged, plan.ema_momentum, plan.ema_gamma)
    meter = Meter(device.device)
    rows: list[Row] = []
    best: dict[str, Any] = {"val_ap": -math.inf}
    step = 0

    if state := folder.load_last():
        step, rows, best = state["step"], state["rows"], state["best"]
        objective.load_state_dict(state["objective"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        meter.load_state_dict(state["meter"])
        torch.set_rng_state(state["rng"])

    def save() -> None:
        if not group.main:
            return
        if not all(norm.isfinite() for norm in torch._foreach_norm(parameters)):  # finite loss, infinite gradient
            raise _not_a_number(plan, step, folder)
        state = {"step": step, "rows": rows, "best": best, "meter": meter.state_dict(), "rng": torch.get_rng_state()}
        state |= {"objective": objective.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict()}
        folder.save(step, state)

    if device.compile:
        objective.compile()
    forward = distributed.wrap(objective, device.device, group)
    objective.train()

    with _bar(plan, step, group) as bar:
        for epoch in range(step // plan.steps_per_epoch, plan.epochs):
            objective.start_epoch(epoch, plan.epochs)
            bar.set_description(f"{plan.name}: epoch {epoch + 1}/{plan.epochs}")
            saved = time.monotonic()
            for batch in batches(epoch, step % plan.steps_per_epoch):
                lr = plan.schedule.at(step)
                set_lr(optimizer, lr)
                row_due = plan.row_due(step + 1)
                look = row_due or (step + 1) % LOG_EVERY == 0

                # One optimiser step: the gradients of the micro-batches add up to that of the whole batch.
                for images, keypoints, share, last in _micro_batches(batch, device, parameters[0].dtype):
                    with _gradients_stay_here(forward, until=last):
                        with device.autocast():
                            terms, prediction, teacher = forward(images, keypoints)
                        (terms["total"] * share).backward()
                    meter.add(terms, share)
                    if look:
                        meter.add({"accuracy": accuracy(prediction, keypoints, objective.weight(keypoints))}, share)
                        if teacher is not None:
                            meter.add({"agreement": agreement(prediction, teacher)}, share)
                if plan.clip_norm is not None:
                    nn.utils.clip_grad_norm_(parameters, plan.clip_norm, foreach=True)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                ema.update()
                meter.end_step(step + 1)
                step += 1
                bar.update(plan.batch)
                if group.main:
                    folder.note_step(step)

                # All that waits for the device stands below.
                if look:
                    if (bad := meter.first_bad_step(group)) is not None:
                        raise _not_a_number(plan, bad, folder)
                    means = meter.means(group)
                    bar.set_postfix(loss=f"{means['total']:.4g}", refresh=False)
                if row_due:
                    rows.append(
                        {"epoch": step / plan.steps_per_epoch, "step": step, "lr": lr, **objective.facts(), **means}
                    )
                    meter.clear()
                    if group.main:
                        on_rows(rows)
                within_epoch = step % plan.steps_per_epoch != 0  # at its end, after validation
                if within_epoch and (step % CHECKPOINT_EVERY == 0 or time.monotonic() - saved > CHECKPOINT_SECONDS):
                    if meter.bad.isinf():  # no bad step until now
                        save()
                    saved = time.monotonic()

            if plan.validation_due(epoch) and group.main:
                with device.autocast():
                    rows[-1] |= objective.gradient_norms(images[:PROBED], keypoints[:PROBED])
                if validate is not None:
                    ap = validate(objective.model(ema.model))
                    rows[-1]["val_ap"] = ap
                    if plan.keep == "best" and ap > best["val_ap"]:
                        best = {"val_ap": ap, "ema": copy.deepcopy(ema.state_dict())}
                on_rows(rows)
                objective.train()
            save()
            group.wait()

    if "ema" in best:
        ema.load_state_dict(best["ema"])
    return Result(objective.model(ema.model), rows)


def _micro_batches(batch: Batch, device: Device, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor, float, bool]]:
    """The batch in parts, on the device: images [b, 3, H, W] for the model, keypoints [b, K, 3], the part's share of
    the batch, and whether it is the last."""
    size = len(batch.images)
    part = device.micro_batch or size
    for start in range(0, size, part):
        images, keypoints, recipe = (
            values[start : start + part].to(device.device, non_blocking=True)
            for values in (batch.images, batch.keypoints, batch.recipe)
        )
        images = device.layout(to_model_input(images, recipe).to(dtype))
        yield images, keypoints, len(images) / size, start + part >= size


def _gradients_stay_here(forward: nn.Module, until: bool) -> AbstractContextManager:
    """Processes exchange gradients once a step: with the last micro-batch."""
    if isinstance(forward, nn.parallel.DistributedDataParallel) and not until:
        return forward.no_sync()
    return nullcontext()


def _bar(plan: Plan, step: int, group: Group) -> tqdm:
    """Progress in persons; shows persons/s, time left and the loss."""
    return tqdm(
        total=plan.steps * plan.batch,
        initial=step * plan.batch,
        unit=" persons",
        unit_scale=True,
        desc=plan.name,
        disable=not group.main,
        dynamic_ncols=True,
    )


def _not_a_number(plan: Plan, step: int, folder: RunFolder) -> UserError:
    epoch = (step - 1) // plan.steps_per_epoch + 1
    return UserError(
        f"{plan.name}: the loss of step {step} (epoch {epoch}) is not a number, so the training was stopped; "
        f"{folder.last_good()}; a lower learning rate, or a gradient clip (clip_norm), usually helps"
    )
