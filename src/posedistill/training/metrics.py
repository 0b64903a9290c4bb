"""Logged quantities: running means of losses and metrics, kept on the device until they are read."""

import math
from typing import Any

import torch
from torch import Tensor

from posedistill.losses import Pair
from posedistill.models.simcc import SPLIT_RATIO
from posedistill.training.distributed import Group

# Share of the input's width (x) and height (y) within which a point counts as found (PCK at 0.05).
THRESHOLD = 0.05


def _found(prediction: Pair, where: Pair) -> Tensor:
    """Whether each arg-max [B, K] lies within the threshold of `where`, in bins."""
    squared = sum(
        ((logits.argmax(-1) - target) / logits.shape[-1]).square() for logits, target in zip(prediction, where)
    )
    return torch.as_tensor(squared) < THRESHOLD**2


def accuracy(prediction: Pair, keypoints: Tensor, weight: Tensor) -> Tensor:
    """Share of the labelled keypoints (`keypoints` [B, K, 3] in input pixels, `weight` [B, K]) whose prediction (logits
    x [B, K, 2W], y [B, K, 2H]) lies within 0.05 of the input's size; a 0-d tensor."""
    labelled = weight > 0
    keypoints = keypoints[:, : weight.shape[1]]  # pretraining predicts the body alone, which comes first
    found = _found(prediction, (keypoints[..., 0] * SPLIT_RATIO, keypoints[..., 1] * SPLIT_RATIO))
    return (found & labelled).sum() / labelled.sum().clamp(min=1)


def agreement(prediction: Pair, teacher: Pair) -> Tensor:
    """Share of all keypoints for which student and teacher point to the same place, within the same distance."""
    return _found(prediction, (teacher[0].argmax(-1), teacher[1].argmax(-1))).float().mean()


class Meter:
    """Means over the steps since the last `clear`, and the first step whose loss was not finite."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}
        self.weights: dict[str, float] = {}
        self.total = torch.zeros((), device=device)  # loss of the present step
        self.bad = torch.full((), math.inf, device=device)

    def add(self, values: dict[str, Tensor], share: float) -> None:
        """Add the values of a micro-batch that is `share` of its batch."""
        for name, value in values.items():
            value = value.detach().float() * share
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.weights[name] = self.weights.get(name, 0.0) + share
        if "total" in values:
            self.total = self.total + values["total"].detach()

    def end_step(self, step: int) -> None:
        """Note whether the loss of `step` was finite."""
        self.bad = torch.where(torch.isfinite(self.total), self.bad, self.bad.clamp(max=step))
        self.total = torch.zeros_like(self.total)

    def means(self, group: Group) -> dict[str, float]:
        """Means over steps and processes. Waits for the device, and all processes must call it."""
        if not self.sums:
            return {}
        sums = group.sum(torch.stack(list(self.sums.values()))).tolist()
        return {name: value / (self.weights[name] * group.size) for name, value in zip(self.sums, sums)}

    def first_bad_step(self, group: Group) -> int | None:
        """The first step whose loss was not finite in any process. Waits, and all processes must call it."""
        bad = group.min(self.bad.clone()).item()
        return None if math.isinf(bad) else int(bad)

    def clear(self) -> None:
        self.sums, self.weights = {}, {}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {name: value.item() for name, value in self.sums.items()}, "weights": dict(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums = {name: torch.tensor(value, device=self.device) for name, value in state["sums"].items()}
        self.weights = dict(state["weights"])
