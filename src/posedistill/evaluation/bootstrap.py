"""Bootstrap intervals for AP: images are resampled, matching is done once.

A sample draws as many images as there are, with replacement. An image drawn twice counts twice: that only changes the
weights of matches already made, so a sample costs an accumulation and no matching. Two models are compared on the same
draws, which cancels the difficulty of the images (paired).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from posedistill.evaluation.accumulate import METRICS, RECALLS
from posedistill.evaluation.matching import AREA_RANGES, PartMatches
from posedistill.evaluation.records import ALL_PARTS
from posedistill.evaluation.wholebody import REPORTED, Matched, add_hand
from posedistill.progress import progress as progress_bar

Intervals = dict[str, dict[str, tuple[float, float]]]  # part → metric → (low, high)


def draws(images: int, samples: int, seed: int) -> np.ndarray:
    """How often each image is drawn: int32 [samples, images]; the same for the same arguments."""
    if not images:
        return np.zeros((samples, 0), dtype=np.int32)
    rng = np.random.default_rng(seed)
    return np.stack(
        [np.bincount(rng.integers(0, images, images), minlength=images).astype(np.int32) for _ in range(samples)]
    )


def resampled_metrics(matched: Matched, samples: int = 1000, seed: int = 0, *, progress: bool = False) -> np.ndarray:
    """Metrics of bootstrap samples: [samples, 7, 10] over REPORTED and METRICS, −1 where no person counts.

    With `progress`, a bar on standard error.
    """
    weights = draws(len(matched.truth.image_ids), samples, seed)
    bar = progress_bar(ALL_PARTS, desc="bootstrap", unit="parts", show=progress)
    parts = np.stack([_part_metrics(matched.parts[part], weights) for part in bar], axis=-1)  # [S, 10, 6]
    return add_hand(parts, parts > -1).transpose(0, 2, 1)


def intervals(resampled: np.ndarray, level: float = 0.95) -> Intervals:
    """Percentile interval of each metric; (−1, −1) where no sample had a person."""
    return _intervals(np.where(resampled > -1, resampled, np.nan), level, absent=-1.0)


def paired_intervals(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Intervals:
    """Interval of the difference a − b of two resampled_metrics made with the same images, samples and seed."""
    return _intervals(np.where((a > -1) & (b > -1), a - b, np.nan), level, absent=0.0)


def _intervals(values: np.ndarray, level: float, absent: float) -> Intervals:
    """Percentile intervals of values [samples, 7, 10], NaN left out; `absent` where all are NaN."""
    tail = 100 * (1 - level) / 2

    def ends(column: np.ndarray) -> tuple[float, float]:
        column = column[~np.isnan(column)]
        low, high = np.percentile(column, (tail, 100 - tail)) + 0.0 if len(column) else (absent, absent)  # no −0
        return float(low), float(high)

    return {
        part: {metric: ends(values[:, p, m]) for m, metric in enumerate(METRICS)} for p, part in enumerate(REPORTED)
    }


def _part_metrics(matches: PartMatches, weights: np.ndarray) -> np.ndarray:
    """The ten metrics of one part for image weights [S, I] → [S, 10]."""
    thresholds = matches.hit.shape[1]
    rows = matches.hit.reshape(len(AREA_RANGES) * thresholds, matches.hit.shape[2])  # [A·T, N]
    judged = ~matches.ignored.reshape(rows.shape)
    # each row keeps the predictions that it judges; rows lie one after the other
    start = np.concatenate(([0], np.cumsum(judged.sum(axis=1))))
    image = np.broadcast_to(matches.image.astype(np.int32), rows.shape)[judged]
    hit = rows[judged]
    persons = np.repeat(weights.astype(np.float64) @ matches.persons.T, thresholds, axis=1)  # [S, A·T]
    precision, recall = _accumulator()(weights, persons, start, image, hit, RECALLS)
    p = precision.reshape(len(weights), len(AREA_RANGES), thresholds)
    r = recall.reshape(p.shape)
    mean = partial(np.mean, axis=1)  # a range without persons is −1 at every threshold
    return np.stack(
        [column for x in (p, r) for column in (mean(x[:, 0]), x[:, 0, 0], x[:, 0, 5], mean(x[:, 1]), mean(x[:, 2]))],
        axis=1,
    )


@cache
def _accumulator() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """The compiled accumulation, or the one in NumPy (ten times slower) where numba is missing."""
    try:
        from numba import njit
    except ImportError:
        return accumulate_rows
    return njit(cache=True)(_accumulate_loop)


def accumulate_rows(
    weights: np.ndarray, persons: np.ndarray, start: np.ndarray, image: np.ndarray, hit: np.ndarray, recalls: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and recall [S, rows] for image weights [S, I] and numbers of persons [S, rows].

    Row r holds predictions start[r]:start[r+1] by falling score: of which `image`, and whether a `hit`.
    """
    precision, recall = np.full(persons.shape, -1.0), np.full(persons.shape, -1.0)
    for s in range(len(weights)):
        for r in np.flatnonzero(persons[s]):
            row = slice(start[r], start[r + 1])
            weight = weights[s, image[row]]
            hits = np.cumsum(weight * hit[row])
            best = np.maximum.accumulate((hits / (np.cumsum(weight) + np.spacing(1)))[::-1])[::-1]
            places = np.searchsorted(hits / persons[s, r], recalls, side="left")
            precision[s, r] = np.append(best, 0.0)[places].sum() / len(recalls)
            recall[s, r] = hits[-1] / persons[s, r] if len(hits) else 0.0
    return precision, recall


def _accumulate_loop(
    weights: Any, persons: Any, start: Any, image: Any, hit: Any, recalls: Any
) -> tuple[np.ndarray, np.ndarray]:  # compiled by numba; the same as accumulate_rows
    samples, rows = persons.shape
    precision, recall = np.full((samples, rows), -1.0), np.full((samples, rows), -1.0)
    longest = 1
    for r in range(rows):
        longest = max(longest, start[r + 1] - start[r])
    exact, reached = np.empty(longest), np.empty(longest)
    for s in range(samples):
        for r in range(rows):
            if persons[s, r] == 0:
                continue
            hits, judged, found = 0, 0, 0
            for j in range(start[r], start[r + 1]):
                weight = weights[s, image[j]]
                judged += weight
                if hit[j] and weight > 0:
                    hits += weight
                    exact[found] = hits / (judged + 2.220446049250313e-16)
                    reached[found] = hits / persons[s, r]
                    found += 1
            best, total = 0.0, 0.0
            for k in range(len(recalls) - 1, -1, -1):  # the best precision at this recall or a higher one
                while found > 0 and reached[found - 1] >= recalls[k]:
                    found -= 1
                    best = max(best, exact[found])
                total += best
            precision[s, r] = total / len(recalls)
            recall[s, r] = hits / persons[s, r]
    return precision, recall
