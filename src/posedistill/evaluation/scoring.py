"""Score of a predicted person and OKS-NMS, as published (top-down evaluation of mmpose)."""

from __future__ import annotations

import numpy as np

from posedistill.keypoints import SIGMAS


def person_scores(box_scores: np.ndarray, keypoint_scores: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """Box score × mean of the keypoint scores above `threshold`: [N], [N, K] → [N]; 0 where none is above."""
    above = keypoint_scores > threshold
    mean = np.where(above, keypoint_scores, 0).sum(axis=1) / np.maximum(above.sum(axis=1), 1)
    return box_scores * mean


def oks_nms(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, threshold: float = 0.9, sigmas: np.ndarray = SIGMAS
) -> np.ndarray:
    """Indices of the persons of one image to keep, best first.

    The best of the remaining persons is kept; those with an OKS above `threshold` to it are dropped. OKS over all
    keypoints [N, K, 2+], with the mean of the two persons' `areas` (padded, aspect-fixed box: width × height).
    """
    order = np.argsort(-scores, kind="stable")
    points, area = keypoints[order, :, :2].astype(np.float64), areas[order].astype(np.float64)
    alive = np.ones(len(order), dtype=bool)
    keep = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        keep.append(i)
        rest = i + 1 + np.flatnonzero(alive[i + 1 :])
        squared = ((points[rest] - points[i]) ** 2).sum(axis=2)
        scale = (area[i] + area[rest]) / 2 + np.spacing(1)
        oks = np.exp(-squared / (2 * sigmas) ** 2 / scale[:, None] / 2).mean(axis=1)
        alive[rest[oks > threshold]] = False
    return order[keep]


def keep_best(
    image: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, threshold: float = 0.9
) -> np.ndarray:
    """OKS-NMS within each image: indices to keep [M] of N persons, in the order given; `image` [N] groups them."""
    order = np.argsort(image, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(image[order])) + 1)
    kept = [rows[oks_nms(keypoints[rows], scores[rows], areas[rows], threshold)] for rows in groups if len(rows)]
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, dtype=np.int64)
