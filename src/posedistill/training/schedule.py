"""The learning rate: linear warm-up, flat, cosine, in optimiser steps (RTMPose's training schedule)."""

import math
from dataclasses import dataclass
from typing import Literal

from posedistill.params import Train


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step; steps count from 0.

    Published, per 270 epochs: lr 4e-3, `warmup_steps` 1000 from `warmup_factor` 1e-5, `flat_steps` = 135 epochs, then a
    cosine towards `final_lr` = 5 % of lr at step `steps`.
    """

    lr: float
    steps: int
    warmup_steps: int = 1000
    warmup_factor: float = 1e-5
    flat_steps: int = 0
    final_lr: float = 0.05

    def at(self, step: int) -> float:
        """Learning rate of optimiser step `step`, 0 ≤ step < steps."""
        return self.lr * self._warmup(step) * self._cosine(step)

    def _warmup(self, step: int) -> float:
        last = self.warmup_steps - 1  # the first step with the full rate
        if step >= last:
            return 1.0
        return self.warmup_factor + (1 - self.warmup_factor) * step / last

    def _cosine(self, step: int) -> float:
        if step <= self.flat_steps:
            return 1.0
        progress = (step - self.flat_steps) / (self.steps - self.flat_steps)
        return self.final_lr + (1 - self.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def build_schedule(
    train: Train, lr: float, epochs: int, steps_per_epoch: int, shape: Literal["cosine", "published"] = "cosine"
) -> Schedule:
    """The schedule of a training of `epochs` under the settings of `train`, with `lr` its full rate.

    Warm-up takes `train.warmup_steps`, at most a tenth of all steps; `train.flat` is the share of the epochs before the
    cosine. `shape="published"` is the published stage 2: there the cosine of the inherited 270-epoch schedule begins at
    epoch 135 and so never comes in 60 epochs; the rate stays full to the end.
    """
    steps = epochs * steps_per_epoch
    flat = steps if shape == "published" else round(train.flat * epochs) * steps_per_epoch
    return Schedule(lr, steps, min(train.warmup_steps, steps // 10), train.warmup_factor, flat, train.final_lr)


def scaled_lr(lr: float, batch: int, reference_batch: int | None) -> float:
    """`lr`, given for `reference_batch` (None: for `batch` itself), for a global batch of `batch`: in proportion.

    At the published rate 4e-3 a batch far below 512 makes the AP collapse to 0 (mmpose issue 2761).
    """
    return lr if reference_batch is None else lr * batch / reference_batch
