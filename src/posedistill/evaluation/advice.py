"""Warnings for the user about scores and labels that distort the metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from posedistill.evaluation.records import GroundTruth, Predictions

_RARE = 0.05  # AR below which AP says little anyway


def advice(truth: GroundTruth, predictions: Predictions, metrics: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Sentences on unlabelled persons, constant scores, and AP far below AR; none where all is usual."""
    persons = ~truth.crowd
    labelled = (truth.keypoints[:, :, 2] > 0).any(axis=1)
    bare = int((persons & ~labelled).sum())
    if bare and (persons & labelled).any():
        yield (
            f"{bare} of {int(persons.sum())} persons have no labelled keypoint: they are ignored, and a prediction "
            "that matches one counts neither as right nor as wrong"
        )
    scores = predictions.score[:, -1]
    constant = len(scores) > 1 and bool(np.ptp(scores) == 0)
    if constant:
        yield (
            f"all {len(scores)} predictions have the score {scores[0]:g}: AP ranks by it, and now depends on the order "
            "of the file; write how sure the model is, such as the box's score times the mean keypoint score"
        )
    ap, ar = (metrics["wholebody"][name] for name in ("AP", "AR"))
    if ar > _RARE and 0 <= ap < ar / 2:
        surplus = len(scores) - int((persons & labelled).sum())
        more = f"; there are {surplus} more predictions than labelled persons" if surplus > 0 else ""
        yield (
            f"whole body: AP {100 * ap:.1f} lies far below AR {100 * ar:.1f}: good poses are there, but bad ones have "
            f"higher scores{'' if constant else ' (is `score` filled, and does it fall with doubt?)'}{more}"
        )
