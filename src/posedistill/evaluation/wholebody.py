"""COCO-WholeBody average precision and recall of each part and of the whole body.

Equal to xtcocotools 1.14.3, the tool of the published numbers. Its rules: a person is ignored for a part if it is a
crowd or if no keypoint of the part has v > 0 (neither `num_keypoints` nor `*_valid` are looked at); a prediction
without a positive keypoint score in the part is dropped; at most 20 predictions an image count; OKS uses the area of
the person, whatever the part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from posedistill.evaluation.accumulate import METRICS, curves, metrics
from posedistill.evaluation.matching import PartMatches, match_parts
from posedistill.evaluation.records import ALL_PARTS, GroundTruth, Predictions, read_ground_truth, read_predictions

REPORTED = ("body", "foot", "face", "lefthand", "righthand", "hand", "wholebody")


@dataclass(frozen=True)
class Matched:
    """One evaluation after matching: all that metrics, bootstrap and tables are made from."""

    truth: GroundTruth
    predictions: Predictions
    parts: dict[str, PartMatches]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or changed in either file, as sentences for the user."""
        return self.truth.notes + self.predictions.notes


def match_wholebody(gt: Any, dt: Any, *, use_area: bool = True) -> Matched:
    """Read and match; arguments as of evaluate_wholebody, or arrays that are already read."""
    truth = read_ground_truth(gt, use_area=use_area)
    predictions = read_predictions(dt, truth)
    return Matched(truth, predictions, match_parts(truth, predictions))


def evaluate_wholebody(
    gt: Any, dt: Any, *, use_area: bool = True, reference: bool = False
) -> dict[str, dict[str, float]]:
    """COCO-WholeBody metrics of predictions `dt` against annotations `gt`.

    Each is a path of a JSON file, the loaded object (a dict or pycocotools COCO; a list of COCO results), or arrays (a
    GroundTruth, Predictions). → part (body, foot, face, lefthand, righthand, hand, wholebody) → AP, AP50, AP75, APM,
    APL, AR, AR50, AR75, ARM, ARL, each in [0, 1], or −1 where no person counts. `hand` is the mean of left and right
    (or the only one present).
    Without `use_area` a person's area is 0.53 × that of its box, for data sets without areas. `reference`
    computes with pycocotools' COCOeval, slowly. UserError on malformed files and on predictions for images
    that `gt` does not list.
    """
    if reference:
        from posedistill.evaluation.reference import evaluate_with_pycocotools

        return with_hand(evaluate_with_pycocotools(gt, dt, use_area=use_area))
    return metrics_of(match_wholebody(gt, dt, use_area=use_area))


def metrics_of(matched: Matched) -> dict[str, dict[str, float]]:
    """The result of evaluate_wholebody from an evaluation that is already matched."""
    return with_hand({part: metrics(curves(matches)) for part, matches in matched.parts.items()})


def with_hand(parts: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Add the mean of both hands, in the order of REPORTED."""
    values = np.array([[parts[part][name] for name in METRICS] for part in ALL_PARTS]).T  # [10, 6]
    columns = add_hand(values, values > -1).T.tolist()
    return {part: dict(zip(METRICS, column)) for part, column in zip(REPORTED, columns)}


def add_hand(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """[..., 6] of ALL_PARTS → [..., 7] of REPORTED: `hand` is the mean of those `present`, −1 if none is."""
    hands, sides = values[..., 3:5], present[..., 3:5]
    hand = np.where(sides, hands, 0).sum(axis=-1) / np.maximum(sides.sum(axis=-1), 1)
    hand = np.where(sides.any(axis=-1), hand, -1.0)
    return np.concatenate((values[..., :5], hand[..., None], values[..., 5:]), axis=-1)
