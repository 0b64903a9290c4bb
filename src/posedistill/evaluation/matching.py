"""Greedy matching of predictions to persons, as COCOeval does it, for all images, area ranges and thresholds at once.

In each image predictions choose in the order of their score. A prediction takes the free person with the highest OKS,
at least the threshold; persons to be ignored (crowd, no labelled keypoint, area outside the range) only where no other
fits; a crowd may be taken again and again. The later one wins a tie. Here only the rank of the prediction is a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posedistill.evaluation.oks import pair_oks, part_sums
from posedistill.evaluation.records import ALL_PARTS, PART_SLICES, GroundTruth, Predictions

THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = ((0.0, 1e10), (32.0**2, 96.0**2), (96.0**2, 1e10))  # all, medium, large
MAX_PREDICTIONS = 20  # of an image


@dataclass(frozen=True)
class PartMatches:
    """One part: N predictions sorted by falling score (ties in the order of image and file); A ranges, T = 10."""

    image: np.ndarray  # [N] position in image_ids
    score: np.ndarray  # [N]
    predicted: np.ndarray  # [N] position in the predictions
    hit: np.ndarray  # [A, T, N] bool: found a person that counts
    ignored: np.ndarray  # [A, T, N] bool: neither right nor wrong
    persons: np.ndarray  # [A, I] number of persons that count, per image


@dataclass(frozen=True)
class _Groups:
    """The persons of each image: order[first[i] : first[i] + count[i]], in the order of the file."""

    order: np.ndarray
    first: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, truth: GroundTruth) -> _Groups:
        count = np.bincount(truth.image, minlength=len(truth.image_ids))
        return cls(np.argsort(truth.image, kind="stable"), np.cumsum(count) - count, count)

    def pairs(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of a prediction in `image` [N] with a person of that image, grouped by prediction.

        → person [pairs], and where each prediction's pairs start [N].
        """
        count = self.count[image]
        start = np.cumsum(count) - count
        within = np.arange(count.sum()) - np.repeat(start, count)
        return self.order[np.repeat(self.first[image], count) + within], start

    def tables(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Images of similar numbers of persons together: (images [M], their persons [M, W], which are real [M, W]).

        The widths W are powers of two, so that little is padded.
        """
        result = []
        for width in (2**i for i in range(int(self.count.max(initial=0)).bit_length() + 1)):
            images = np.flatnonzero((self.count > width // 2) & (self.count <= width))
            if len(images):
                column = np.arange(width)
                real = column < self.count[images][:, None]
                result.append((images, self.order[np.where(real, self.first[images][:, None] + column, 0)], real))
        return result


def match_parts(
    truth: GroundTruth, predictions: Predictions, ranges: Sequence[tuple[float, float]] = AREA_RANGES
) -> dict[str, PartMatches]:
    """Match the predictions to the persons, for each of ALL_PARTS and A `ranges` of the area (both ends belong)."""
    groups = _Groups.of(truth)
    chosen = [_chosen(predictions, part) for part in range(len(ALL_PARTS))]
    used = np.unique(np.concatenate(chosen))
    person, starts = groups.pairs(predictions.image[used])
    oks = pair_oks(truth, person, predictions.keypoints, np.repeat(used, groups.count[predictions.image[used]]))
    start = np.zeros(len(predictions.image), dtype=np.int64)
    start[used] = starts
    bare = part_sums((truth.keypoints[:, :, 2] > 0).astype(np.float64)) == 0
    inside = np.stack([_inside(truth.area, limits) for limits in ranges])
    result = {}
    for i, part in enumerate(ALL_PARTS):
        counts = inside & ~truth.crowd & ~bare[:, i]  # [A, G]
        found, counted = _match(truth, groups, predictions.image[chosen[i]], start[chosen[i]], oks[:, i], counts)
        outside = np.stack([~_inside(predictions.area[chosen[i]], limits) for limits in ranges])[:, None]
        order = np.argsort(-predictions.score[chosen[i], i], kind="stable")
        result[part] = PartMatches(
            image=predictions.image[chosen[i]][order],
            score=predictions.score[chosen[i], i][order],
            predicted=chosen[i][order],
            hit=(found & counted)[:, :, order],
            ignored=(~counted | ~found & outside)[:, :, order],
            persons=np.stack([np.bincount(truth.image[one], minlength=len(truth.image_ids)) for one in counts]),
        )
    return result


def _inside(area: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (area >= limits[0]) & (area <= limits[1])


def _chosen(predictions: Predictions, part: int) -> np.ndarray:
    """Predictions that take part, sorted by image and falling score, the best 20 of each image.

    Those without a positive keypoint score in the part are dropped (xtcocotools).
    """
    positive = (predictions.keypoints[:, PART_SLICES[ALL_PARTS[part]], 2] > 0).any(axis=1)
    rows = np.flatnonzero(positive)
    rows = rows[np.lexsort((-predictions.score[rows, part], predictions.image[rows]))]  # stable
    return rows[_rank(predictions.image[rows]) < MAX_PREDICTIONS]


def _rank(image: np.ndarray) -> np.ndarray:
    """Position of each entry among those of its image; `image` is sorted."""
    starts = np.flatnonzero(np.r_[True, image[1:] != image[:-1]][: len(image)])
    return np.arange(len(image)) - np.repeat(starts, np.diff(np.r_[starts, len(image)]))


def _match(
    truth: GroundTruth, groups: _Groups, image: np.ndarray, start: np.ndarray, oks: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Match N predictions, sorted by `image` and falling score, whose OKS start at oks[start].

    `counts` [A, G]: persons not to be ignored. → found [A, T, N]: has a match; counted [A, T, N]: the match, if any,
    is a person that counts.
    """
    rank = _rank(image)
    found = np.zeros((len(image), len(counts), len(THRESHOLDS)), dtype=bool)
    counted = np.ones_like(found)
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    for images, person, real in groups.tables():
        width = person.shape[1]
        column = np.arange(width)
        counts_here = counts[:, person].transpose(1, 0, 2)[:, :, None]  # [M, A, 1, W]
        crowd = truth.crowd[person][:, None, None]  # [M, 1, 1, W]
        free = np.repeat(np.repeat(real[:, None, None], len(counts), axis=1), len(THRESHOLDS), axis=2)
        slot = np.full(len(truth.image_ids), -1)
        slot[images] = np.arange(len(images))
        rows = np.flatnonzero(slot[image] >= 0)
        for place in range(int(rank[rows].max(initial=-1)) + 1):
            now = rows[rank[rows] == place]
            at = slot[image[now]]
            value = oks[np.where(real[at], start[now][:, None] + column, 0)][:, None, None]  # [n, 1, 1, W]
            fits = free[at] & (value >= least)  # [n, A, T, W]
            sure = fits & counts_here[at]
            fits = np.where(sure.any(axis=-1, keepdims=True), sure, fits)
            best = width - 1 - np.argmax(np.where(fits, value, -1.0)[..., ::-1], axis=-1)  # the later one of equals
            any_fits = fits.any(axis=-1)
            chosen = any_fits[..., None] & (column == best[..., None])  # [n, A, T, W]
            free[at] &= ~chosen | crowd[at]
            found[now] = any_fits
            counted[now] = ~(chosen & ~counts_here[at]).any(axis=-1)
    return found.transpose(1, 2, 0), counted.transpose(1, 2, 0)
