"""The precision certificate: the loss of a file in another precision against float32, end to end, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill.data.feed.loader import ValBatch
from posedistill.evaluation.bootstrap import paired_intervals, resampled_metrics
from posedistill.evaluation.calibrate import ScoredPoints, scored_points
from posedistill.evaluation.mean_oks import PersonOks, own_box_oks, paired_mean_oks_difference
from posedistill.evaluation.predict import Poses, predict_both
from posedistill.evaluation.records import GroundTruth
from posedistill.evaluation.wholebody import Matched, match_wholebody, metrics_of
from posedistill.keypoints import PART_NAMES
from posedistill.models.onnx_model import PoseModel
from posedistill.params_sections import Evaluate

PRECISIONS = ("fp32", "fp16", "int8")
TOLERATED = 0.003  # AP
SAMPLES = 1000  # of the images, for the intervals

Estimate = tuple[float, float, float]  # a difference, and the ends of its 95 % interval


@dataclass(frozen=True)
class Judged:
    """One file on the validation persons, with and without flip test; metrics are those of the settings' flip test."""

    poses: Poses  # in the boxes of the validation set
    matched: Matched
    ap: dict[str, float]  # part → AP in [0, 1], −1 where no person counts
    person_oks: PersonOks
    points: tuple[ScoredPoints, ScoredPoints]  # plain, flip test


@dataclass(frozen=True)
class Row:
    """One file of the certificate; differences are to the float32 file, empty for that itself."""

    precision: str
    path: Path
    file_bytes: int
    ap: dict[str, float]
    mean_oks: dict[str, float]
    ap_difference: dict[str, Estimate]
    oks_difference: dict[str, Estimate]

    @property
    def loss(self) -> tuple[str, float] | None:
        """The part that loses too much, and how much AP it loses: None for a file that is as good as float32."""
        return too_much(self.ap_difference)

    @property
    def warning(self) -> str | None:
        """One line on a file that loses too much."""
        if self.loss is None:
            return None
        part, loss = self.loss
        low, high = (100 * end for end in self.ap_difference[part][1:])
        return (
            f"{self.path}: {self.precision} loses {100 * loss:.1f} AP of the {PART_NAMES[part]} against fp32 "
            f"(95 % interval of the difference {low:.1f} to {high:.1f})"
        )

    def content(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "precision": self.precision,
            "file": self.path.name,
            "bytes": self.file_bytes,
            "AP": self.ap,
            "mean_oks": self.mean_oks,
            "AP_difference": self.ap_difference,
            "mean_oks_difference": self.oks_difference,
        }


def judge(
    model: PoseModel, batches: Iterable[ValBatch], own: Iterable[ValBatch], truth: GroundTruth, settings: Evaluate
) -> Judged:
    """Predict and score on the CPU. `own`: batches of the persons' own boxes that `batches` lacks."""
    passes = predict_both(model, batches, score_threshold=settings.score_threshold)
    poses = passes[settings.flip_test]
    matched = match_wholebody(truth, poses.without_duplicates(settings.nms).predictions(truth))
    more = predict_both(model, own, score_threshold=settings.score_threshold)
    all_own = [Poses.join([one, other]).predictions(truth) for one, other in zip(passes, more)]
    return Judged(
        poses=poses,
        matched=matched,
        ap={part: values["AP"] for part, values in metrics_of(matched).items()},
        person_oks=own_box_oks(truth, all_own[settings.flip_test]),
        points=(scored_points(truth, all_own[0]), scored_points(truth, all_own[1])),
    )


def differences(judged: Judged, base: Judged, samples: int = SAMPLES) -> tuple[dict[str, Estimate], ...]:
    """AP and mean OKS of each part minus those of `base`, with paired 95 % intervals over the same images."""
    intervals = paired_intervals(resampled_metrics(judged.matched, samples), resampled_metrics(base.matched, samples))
    ap = {part: (judged.ap[part] - base.ap[part], *intervals[part]["AP"]) for part in judged.ap if base.ap[part] >= 0}
    oks = paired_mean_oks_difference([judged.person_oks], [base.person_oks], samples)
    return ap, {part: values for part, values in oks.items() if part in ap}


def too_much(ap_difference: dict[str, Estimate]) -> tuple[str, float] | None:
    """(part, loss of AP) if the whole body loses more than TOLERATED, or if another part significantly does: its
    interval ends below −TOLERATED. A part's AP alone varies too much between samples for a fixed limit."""
    whole = ap_difference.get("wholebody", (0.0, 0.0, 0.0))
    if -whole[0] > TOLERATED:
        return "wholebody", -whole[0]
    sure = {part: -found for part, (found, _, high) in ap_difference.items() if high < -TOLERATED}
    return max(sure.items(), key=lambda one: one[1]) if sure else None


def file_name(stem: str, precision: str, loss: tuple[str, float] | None) -> str:
    """student.fp16.onnx, or student.int8-loses-1.2-ap.onnx; with the part behind it where it is not the whole body."""
    if loss is None:
        return f"{stem}.{precision}.onnx"
    part, lost = loss
    return f"{stem}.{precision}-loses-{100 * lost:.1f}-ap{'' if part == 'wholebody' else f'-{part}'}.onnx"


def certificate(rows: Sequence[Row], persons: int) -> dict[str, Any]:
    """The certificate as plain values, as certificate.json holds it."""
    return {
        "persons": persons,
        "tolerated_loss_of_AP": TOLERATED,
        "files": [row.content() for row in rows],
    }
