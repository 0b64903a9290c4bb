"""Matches → precision, recall and the ten COCO keypoint metrics, as COCOeval accumulates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posedistill.evaluation.matching import PartMatches

RECALLS = np.linspace(0.0, 1.0, 101)
METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
_ALL, _MEDIUM, _LARGE = 0, 1, 2  # of matching.AREA_RANGES
_AT_50, _AT_75 = 0, 5  # of matching.THRESHOLDS


@dataclass(frozen=True)
class Curves:
    """A area ranges, T = 10 OKS thresholds, R = 101 recalls; −1 in ranges without persons."""

    precision: np.ndarray  # [A, T, R] interpolated: the best precision at this recall or a higher one
    recall: np.ndarray  # [A, T] the highest reached


def curves(matches: PartMatches) -> Curves:
    """Precision over recall, and the recall reached."""
    persons = matches.persons.sum(axis=1)  # [A]
    precision = np.full((*matches.hit.shape[:2], len(RECALLS)), -1.0)
    recall = np.full(matches.hit.shape[:2], -1.0)
    for a in np.flatnonzero(persons):
        hits = np.cumsum(matches.hit[a], axis=1, dtype=np.float64)  # [T, N]
        misses = np.cumsum(~matches.hit[a] & ~matches.ignored[a], axis=1, dtype=np.float64)
        reached = hits / persons[a]
        exact = hits / (misses + hits + np.spacing(1))
        best = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]
        best = np.concatenate((best, np.zeros((len(best), 1))), axis=1)  # recalls that are never reached
        recall[a] = reached[:, -1] if reached.shape[1] else 0.0
        for t in range(len(best)):
            precision[a, t] = best[t, np.searchsorted(reached[t], RECALLS, side="left")]
    return Curves(precision, recall)


def metrics(part: Curves) -> dict[str, float]:
    """The ten numbers of METRICS, each in [0, 1], or −1 where no person counts."""
    p, r = part.precision, part.recall
    values = (
        *(p[_ALL].mean(), p[_ALL, _AT_50].mean(), p[_ALL, _AT_75].mean(), p[_MEDIUM].mean(), p[_LARGE].mean()),
        *(r[_ALL].mean(), r[_ALL, _AT_50], r[_ALL, _AT_75], r[_MEDIUM].mean(), r[_LARGE].mean()),
    )
    return {name: float(value) for name, value in zip(METRICS, values)}
