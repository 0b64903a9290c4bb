"""COCO-WholeBody average precision and recall of each part and of the whole body.

Equal to xtcocotools 1.14.3, the tool of the published numbers. Its rules: a person is ignored for a part if it is a
crowd or if no keypoint of the part has v > 0 (neither `num_keypoints` nor `*_valid` are looked at); a prediction
without a positive keypoint score in the part is dropped; at most 20 predictions an image count; OKS uses the area of
the person, whatever the part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from posedistill.evaluation.accumulate import METRICS, curves, metrics
from posedistill.evaluation.matching import PartMatches, match_parts
from posedistill.evaluation.records import (
    GroundTruth,
    Predictions,
    load_json,
    person_category,
    read_ground_truth,
    read_predictions,
)

REPORTED = ("body", "foot", "face", "lefthand", "righthand", "hand", "wholebody")


@dataclass(frozen=True)
class Matched:
    """One evaluation after matching: all that metrics, bootstrap and tables are made from."""

    truth: GroundTruth
    predictions: Predictions
    parts: dict[str, PartMatches]


def match_wholebody(gt: Any, dt: Any, *, use_area: bool = True, name: str = "ground truth") -> Matched:
    """Read and match; arguments as of evaluate_wholebody, `name` is what messages call a loaded `gt`."""
    annotations, name = load_json(gt, name)
    truth = read_ground_truth(annotations, use_area=use_area, name=name)
    predictions = read_predictions(dt, truth, person_category(annotations))
    return Matched(truth, predictions, match_parts(truth, predictions))


def evaluate_wholebody(
    gt: Any, dt: Any, *, use_area: bool = True, reference: bool = False
) -> dict[str, dict[str, float]]:
    """COCO-WholeBody metrics of predictions `dt` against annotations `gt`.

    Each is a path of a JSON file or the loaded object (a dict or pycocotools COCO; a list of COCO results). → part
    (body, foot, face, lefthand, righthand, hand, wholebody) → AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL, each
    in [0, 1], or −1 where no person counts. `hand` is the mean of left and right (of the one there is, if only one).
    Without `use_area` a person's area is 0.53 × that of its box, for data sets without areas. `reference` has
    pycocotools' COCOeval do the work, slowly. UserError on files that are not what they should be, and on predictions
    for images that `gt` does not list.
    """
    if reference:
        from posedistill.evaluation.reference import evaluate_with_pycocotools

        return with_hand(evaluate_with_pycocotools(gt, dt, use_area=use_area))
    return metrics_of(match_wholebody(gt, dt, use_area=use_area))


def metrics_of(matched: Matched) -> dict[str, dict[str, float]]:
    """What evaluate_wholebody returns, of an evaluation that is already matched."""
    return with_hand({part: metrics(curves(matches)) for part, matches in matched.parts.items()})


def with_hand(parts: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Add the mean of both hands, in the order of REPORTED."""
    hand = {}
    for name in METRICS:
        sides = [value for value in (parts["lefthand"][name], parts["righthand"][name]) if value > -1]
        hand[name] = sum(sides) / len(sides) if sides else -1.0
    return {part: hand if part == "hand" else parts[part] for part in REPORTED}
