"""Parity of the exported file and the model: logits and arg-max compared on real crops, point by point."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_DIFFERENCE = 1e-4
SAME_ARGMAX = 0.999
AP_DIFFERENCE = 0.001

Predict = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Parity:
    """How two models differ on the same crops.

    `max_difference`: largest absolute difference of a logit. `same_argmax`: share of keypoints whose arg-max is the
    same on both axes. `points`: keypoints compared, `crops`: persons.
    """

    crops: int
    points: int
    max_difference: float
    same_argmax: float

    @property
    def good(self) -> bool:
        return self.max_difference <= MAX_DIFFERENCE and self.same_argmax >= SAME_ARGMAX


def compare(model: Predict, other: Predict, images: Tensor, batch: int = 64) -> Parity:
    """Both models on `images` [B, 3, H, W] (normalised, at least one), `batch` at a time."""
    worst, same, points = 0.0, 0, 0
    with torch.inference_mode():
        for part in images.split(batch):
            pairs = list(zip(model(part), other(part)))  # x and y
            worst = max(worst, *((ours - theirs).abs().max().item() for ours, theirs in pairs))
            equal_x, equal_y = (ours.argmax(-1) == theirs.argmax(-1) for ours, theirs in pairs)  # [b, K] each
            same += int((equal_x & equal_y).sum())
            points += equal_x.numel()
    return Parity(crops=len(images), points=points, max_difference=worst, same_argmax=same / points)
