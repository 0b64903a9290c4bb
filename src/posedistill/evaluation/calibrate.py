"""Fitting a calibration to labelled persons, and judging one: reliability and expected calibration error (ECE)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posedistill.errors import UserError
from posedistill.evaluation.calibration import CALIBRATED, PASSES, RIGHT, Calibration, Curve
from posedistill.evaluation.oks import keypoint_similarity
from posedistill.evaluation.records import GroundTruth, Predictions

MOST_KNOTS = 16
LEAST_POINTS = 100  # behind each knot
BINS = 10  # of a reliability diagram, with equal numbers of points


@dataclass(frozen=True)
class ScoredPoints:
    """N labelled persons, each predicted from its own box."""

    image: np.ndarray  # [N] position of the image among the ground truth's
    scores: np.ndarray  # [N, 133] raw
    right: np.ndarray  # [N, 133] bool: OKS of the point is at least RIGHT
    labelled: np.ndarray  # [N, 133] bool: only these count


@dataclass(frozen=True)
class Reliability:
    """B bins of points of equal number, by rising confidence."""

    confidence: np.ndarray  # [B] mean of the bin
    right: np.ndarray  # [B] share of its points that are right
    count: np.ndarray  # [B]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over the points of |confidence − share right| of their bin."""
        return float(np.average(np.abs(self.confidence - self.right), weights=self.count))


def scored_points(truth: GroundTruth, predictions: Predictions) -> ScoredPoints:
    """The predictions that name the labelled person whose own box they were made from (`annotation_id`)."""
    labelled = truth.keypoints[:, :, 2] > 0
    person = {truth.annotation_id[g]: g for g in np.flatnonzero(labelled.any(axis=1) & ~truth.crowd).tolist()}
    pairs = [(d, person[one]) for d, one in enumerate(predictions.annotation_id.tolist()) if one in person]
    predicted, who = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    keypoints = predictions.keypoints[predicted]
    right = keypoint_similarity(truth, who, keypoints) >= RIGHT
    return ScoredPoints(truth.image[who], keypoints[..., 2], right, labelled[who])


def fit_calibration(plain: ScoredPoints, flip_test: ScoredPoints, data: str) -> Calibration:
    """Curves for the scores of both passes; `data` names the pictures. UserError if there are too few points."""
    curves = {name: fit_curves(points) for name, points in zip(PASSES, (plain, flip_test))}
    if not all(curves.values()):
        raise UserError(f"{data}: too few labelled points to calibrate with: each part needs at least {LEAST_POINTS}")
    return Calibration(curves, len(plain.image), data)


def fit_curves(points: ScoredPoints) -> dict[str, Curve]:
    """Part → curve; a part with fewer than LEAST_POINTS labelled points is left out."""
    curves = {}
    for part, where in CALIBRATED.items():
        counts = points.labelled[:, where]
        if counts.sum() >= LEAST_POINTS:
            curves[part] = fit_curve(points.scores[:, where][counts], points.right[:, where][counts])
    return curves


def fit_curve(scores: np.ndarray, right: np.ndarray) -> Curve:
    """Isotonic regression on the means of at most MOST_KNOTS bins of equally many points: scores [P], right [P]."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, int(np.clip(len(order) // LEAST_POINTS, 1, MOST_KNOTS)))
    means = np.round([scores[one].mean() for one in bins], 4)
    knots, place = np.unique(means, return_inverse=True)  # equal scores fall into one bin
    weights = np.bincount(place, [len(one) for one in bins])
    # half a point is added to each side: no point is certain
    shares = np.bincount(place, [right[one].sum() + 0.5 for one in bins]) / (weights + np.bincount(place))
    fitted = np.clip(isotonic_regression(shares, weights=weights).x, 0.0, 1.0)
    return Curve(tuple(knots.tolist()), tuple(np.round(fitted, 4).tolist()))


def cross_fitted(points: ScoredPoints) -> np.ndarray:
    """Confidences [N, 133] from curves of the other half of the images, so that none is judged by its own curve."""
    half, result = points.image % 2, np.zeros(points.scores.shape)
    for one in (0, 1):
        mine, other = half == one, half != one
        fitted = ScoredPoints(*(getattr(points, name)[other] for name in ("image", "scores", "right", "labelled")))
        for part, curve in fit_curves(fitted).items():
            result[mine, CALIBRATED[part]] = curve(points.scores[mine, CALIBRATED[part]])
    return result


def reliabilities(points: ScoredPoints, confidence: np.ndarray) -> dict[str, Reliability]:
    """Part → reliability of the labelled points' `confidence` [N, 133]; parts with too few points are left out."""
    result = {}
    for part, where in CALIBRATED.items():
        counts = points.labelled[:, where]
        if counts.sum() >= LEAST_POINTS:
            result[part] = reliability(confidence[:, where][counts], points.right[:, where][counts])
    return result


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Confidences [P] and whether the points are right [P], in bins of equal number."""
    groups = np.array_split(np.argsort(confidence, kind="stable"), bins)
    return Reliability(
        np.array([confidence[one].mean() for one in groups]),
        np.array([right[one].mean() for one in groups]),
        np.array([len(one) for one in groups]),
    )
