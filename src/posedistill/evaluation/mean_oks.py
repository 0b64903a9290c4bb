"""Mean OKS: how well each labelled person is placed when its own box is given, without ranking or matching.

Less noisy than AP and never zero, so it tells small models apart; and it pairs by person, so that differences of two
models get narrow intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posedistill.errors import UserError
from posedistill.evaluation.bootstrap import draws
from posedistill.evaluation.oks import pair_oks, part_sums
from posedistill.evaluation.records import ALL_PARTS, GroundTruth, Predictions, read_ground_truth, read_predictions
from posedistill.evaluation.wholebody import REPORTED, add_hand


@dataclass(frozen=True)
class PersonOks:
    """OKS of each labelled person's prediction from its own box."""

    annotation_id: np.ndarray  # [G] int64, rising
    image_id: np.ndarray  # [G]
    oks: np.ndarray  # [G, 6] of each of ALL_PARTS; NaN where the person has no labelled keypoint in the part


def person_oks(gt: Any, dt: Any, *, use_area: bool = True) -> PersonOks:
    """OKS of every labelled, non-crowd person of `gt` with the prediction in `dt` that carries its `annotation_id`.

    A person without a prediction counts with OKS 0. UserError if no prediction names the person it belongs to.
    """
    truth = read_ground_truth(gt, use_area=use_area)
    return own_box_oks(truth, read_predictions(dt, truth))


def own_box_oks(truth: GroundTruth, predictions: Predictions) -> PersonOks:
    """`person_oks` on arrays."""
    if len(predictions.image) and not (predictions.annotation_id >= 0).any():
        raise UserError("mean OKS needs predictions from the persons' own boxes: no prediction has an `annotation_id`")
    labelled = part_sums((truth.keypoints[:, :, 2] > 0).astype(np.float64)) > 0  # [G, 6]
    rows = np.flatnonzero(labelled[:, -1] & ~truth.crowd)
    rows = rows[np.argsort(truth.annotation_id[rows])]
    place = {annotation: d for d, annotation in enumerate(predictions.annotation_id.tolist())}
    predicted = np.array([place.get(annotation, -1) for annotation in truth.annotation_id[rows].tolist()], np.int64)
    oks = np.zeros((len(rows), len(ALL_PARTS)))
    found = predicted >= 0
    oks[found] = pair_oks(truth, rows[found], predictions.keypoints, predicted[found])
    oks[~labelled[rows]] = np.nan
    return PersonOks(truth.annotation_id[rows], truth.image_ids[truth.image[rows]], oks)


def mean_oks(gt: Any, dt: Any, *, use_area: bool = True) -> dict[str, float]:
    """Part → mean over the persons with labelled keypoints in it; `hand` is the mean of left and right; −1 if none."""
    return mean_of(person_oks(gt, dt, use_area=use_area))


def mean_of(persons: PersonOks) -> dict[str, float]:
    """Mean OKS per part, of the persons' values."""
    present = ~np.isnan(persons.oks)
    sums, counts = np.nansum(persons.oks, axis=0), present.sum(axis=0)
    return dict(zip(REPORTED, _means(sums, counts).tolist()))


def _means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums and counts [..., 6] of ALL_PARTS → means [..., 7] of REPORTED, −1 where nothing is counted."""
    return add_hand(np.where(counts > 0, sums / np.maximum(counts, 1), -1.0), counts > 0)


def mean_oks_intervals(persons: PersonOks, samples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % interval over images of each part's mean OKS; (−1, −1) where no person counts."""
    drawn = _resampled(persons, np.nan_to_num(persons.oks), samples, seed)
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    return {part: (float(low[i]), float(high[i])) for i, part in enumerate(REPORTED)}


def paired_mean_oks_difference(
    a: Sequence[PersonOks], b: Sequence[PersonOks], samples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Mean OKS of runs `a` minus that of runs `b`, per part → (mean, low, high) of the 95 % interval over images.

    Runs of several seeds are averaged. The same images are drawn for all runs in each bootstrap sample, so the interval
    is that of the paired difference; 0 where no person counts. UserError if the runs do not cover the same persons.
    """
    runs = [*a, *b]
    for run in runs[1:]:
        if not np.array_equal(run.annotation_id, runs[0].annotation_id):
            raise UserError("paired mean OKS: the runs were judged on different persons")
    values = np.nan_to_num(np.stack([run.oks for run in runs]))  # [runs, G, 6]
    difference = values[: len(a)].mean(axis=0) - values[len(a) :].mean(axis=0)  # [G, 6]
    counts = (~np.isnan(runs[0].oks)).sum(axis=0)
    empty = _means(np.zeros(len(ALL_PARTS)), counts) < 0
    drawn = np.where(empty, 0.0, _resampled(runs[0], difference, samples, seed))
    mean = np.where(empty, 0.0, _means(difference.sum(axis=0), counts))
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0) + 0.0  # no −0
    return {part: (float(mean[i] + 0.0), float(low[i]), float(high[i])) for i, part in enumerate(REPORTED)}


def _resampled(persons: PersonOks, values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Means of `values` [G, 6] in bootstrap samples of the images: [samples, 7] over REPORTED."""
    images, image = np.unique(persons.image_id, return_inverse=True)
    sums, counts = np.zeros((len(images), values.shape[1])), np.zeros((len(images), values.shape[1]))
    np.add.at(sums, image, values)
    np.add.at(counts, image, ~np.isnan(persons.oks))
    weights = draws(len(images), samples, seed).astype(np.float64)
    return _means(weights @ sums, weights @ counts)
