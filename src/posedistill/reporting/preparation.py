"""Numbers of the prepare report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from posedistill.keypoints import PARTS
from posedistill.sources.person import Person

IOU_STEPS = (0.5, 0.75, 0.9)


def part_statistics(labelled: NDArray) -> dict[str, dict[str, int]]:
    """Persons with a labelled keypoint of each part, and labelled keypoints, from [N, 133] weights."""
    return {
        part: {
            "persons": int((labelled[:, where] > 0).any(axis=1).sum()),
            "keypoints": int((labelled[:, where] > 0).sum()),
        }
        for part, where in PARTS.items()
    }


def box_iou(a: NDArray, b: NDArray) -> NDArray:
    """Intersection over union of boxes (x, y, w, h) [N, 4] and [M, 4] → [N, M]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    union = a[:, 2:].prod(axis=-1)[:, None] + b[:, 2:].prod(axis=-1)[None] - shared
    return shared / np.maximum(union, 1e-9)


def overlap_with_ground_truth(detections: list[Person], truth: dict[str, Any]) -> dict[str, Any]:
    """How well detector boxes cover the annotated persons (crowds aside): recall of the best box at IoU steps."""
    by_image: dict[int, list[NDArray]] = {}
    for person in detections:
        by_image.setdefault(person.image_id, []).append(person.box)
    best = []
    for annotation in truth["annotations"]:
        if annotation["iscrowd"] or not annotation["num_keypoints"]:
            continue
        boxes = by_image.get(annotation["image_id"])
        box = np.array(annotation["bbox"], np.float64)[None]
        best.append(float(box_iou(box, np.array(boxes, np.float64)).max()) if boxes else 0.0)
    values = np.array(best)
    return {
        "detections": len(detections),
        "annotated persons": len(best),
        "mean best IoU": round(float(values.mean()), 4) if best else None,
        "recall": {f"{step:g}": round(float((values >= step).mean()), 4) if best else None for step in IOU_STEPS},
        "histogram": np.histogram(values, bins=10, range=(0, 1))[0].tolist(),
    }
