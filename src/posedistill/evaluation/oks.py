"""Object keypoint similarity (COCO), vectorised over pairs of a prediction and a person."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from posedistill.evaluation.records import ALL_PARTS, PART_SLICES, GroundTruth
from posedistill.keypoints import PARTS, SIGMAS

_STARTS = [part.start for part in PARTS.values()]
_CHUNK = 4096  # pairs at a time: their [pairs, 133] arrays stay in the cache


def part_sums(values: np.ndarray) -> np.ndarray:
    """Sums over the keypoints of each of ALL_PARTS: [N, 133] → [N, 6]."""
    parts = np.add.reduceat(values, _STARTS, axis=1)
    return np.concatenate((parts, parts.sum(axis=1, keepdims=True)), axis=1)


def keypoint_similarity(truth: GroundTruth, person: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """exp(−d² / (2 area (2σ)²)) of each keypoint: persons [N] against keypoints [N, 133, 2+] → [N, 133]."""
    delta = keypoints[:, :, :2] - truth.keypoints[person, :, :2]
    return _similarity(delta[..., 0], delta[..., 1], truth.area[person])


def pair_oks(truth: GroundTruth, person: np.ndarray, keypoints: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """OKS per part of N pairs, [N, 6] in [0, 1].

    `person` [N] and `predicted` [N] index the truth's persons and `keypoints` [D, 133, 3]. Only labelled keypoints
    count. Where a person has none in a part, the distance is how far each predicted point lies outside its box enlarged
    three times, as in COCOeval (such persons are ignored, but may absorb a prediction).
    """
    labelled = truth.keypoints[:, :, 2] > 0
    counts = part_sums(labelled.astype(np.float64))  # [G, 6]
    result = np.empty((len(person), len(ALL_PARTS)))
    for rows in _chunks(len(person)):
        who, points = person[rows], keypoints[predicted[rows]]
        similarity = keypoint_similarity(truth, who, points) * labelled[who]
        oks = part_sums(similarity) / np.maximum(counts[who], 1)
        bare = np.flatnonzero((counts[who] == 0).any(axis=1))
        if len(bare):
            beyond = part_sums(_similarity(*_outside(truth, who[bare], points[bare]), truth.area[who[bare]]))
            oks[bare] = np.where(counts[who[bare]] == 0, beyond / _SIZES, oks[bare])
        result[rows] = oks
    return result


_SIZES = np.array([PART_SLICES[part].stop - PART_SLICES[part].start for part in ALL_PARTS], dtype=np.float64)


def _chunks(length: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, length, _CHUNK))


def _similarity(dx: np.ndarray, dy: np.ndarray, area: np.ndarray) -> np.ndarray:
    # the order of the operations is COCOeval's, so that ties and thresholds fall the same way
    error = (dx**2 + dy**2) / (SIGMAS * 2) ** 2 / (area[:, None] + np.spacing(1)) / 2
    return np.exp(-error)


def _outside(truth: GroundTruth, person: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    box = truth.box[person]
    distances = []
    for axis in (0, 1):
        low = (box[:, axis] - box[:, axis + 2])[:, None]
        high = (box[:, axis] + box[:, axis + 2] * 2)[:, None]
        along = points[:, :, axis]
        distances.append(np.maximum(0, low - along) + np.maximum(0, along - high))
    return distances[0], distances[1]
