"""Annotations of a rendered picture in the COCO-WholeBody layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from posedistill.keypoints import PARTS
from posedistill.synthetic.scene import RenderedPerson, Scene

MIN_AREA = 150  # visible pixels of an annotated person
MIN_FACE, MIN_HAND = 10, 6  # longer side in pixels below which face or hand is not annotated
# part → (key, share of points inside the picture, share of visible points) for it to be annotated
DETAILS = {"face": (MIN_FACE, 0.5, 0.45), "lefthand": (MIN_HAND, 0.5, 0.5), "righthand": (MIN_HAND, 0.5, 0.5)}


def annotate(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """One entry per sufficiently visible person, without `id`. Extra keys: mode, frame."""
    height, width = scene.image.shape[:2]
    entries = []
    for person in scene.persons:
        v = person.keypoints[:, 2]
        if person.area < MIN_AREA or (v[:17] > 0).sum() < 3 or (v == 2).sum() < 5:
            continue
        foot = person.keypoints[PARTS["foot"]]
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": 1,
            "iscrowd": 0,
            "segmentation": [],
            "area": person.area,
            "bbox": [float(x) for x in person.box],
            "num_keypoints": int((v[:17] > 0).sum()),
            "keypoints": _flat(person.keypoints[PARTS["body"]]),
            "foot_kpts": _flat(foot),
            "foot_valid": bool((foot[:, 2] > 0).any()),
            "mode": person.mode,
            "frame": scene.frame,
        }
        for part in DETAILS:
            entry |= _detail(part, person, width, height)
        entries.append(entry)
    return entries


def _detail(part: str, person: RenderedPerson, width: int, height: int) -> dict[str, Any]:
    """Keypoints, box and validity of a face or a hand: zeros if too little of it is visible."""
    smallest, inside_share, visible_share = DETAILS[part]
    points = person.keypoints[PARTS[part]]
    inside = points[:, 2] > 0
    box = [0.0] * 4
    valid = bool(inside.mean() >= inside_share and (points[:, 2] == 2).mean() >= visible_share)
    if valid:
        box = _box(points[inside, :2], width, height)
        valid = max(box[2:]) >= smallest
    if not valid:
        points, box = np.zeros_like(points), [0.0] * 4
    return {f"{part}_kpts": _flat(points), f"{part}_valid": valid, f"{part}_box": box}


def _box(xy: np.ndarray, width: int, height: int) -> list[float]:
    """Bounding box of points, a tenth larger on each side, inside the picture: x, y, width, height."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = 0.1 * (high - low)
    low = (low - margin).clip(0, None)
    high = (high + margin).clip(None, [width, height])
    return [round(float(x), 2) for x in (*low, *(high - low))]


def _flat(points: np.ndarray) -> list[float | int]:
    return [x for u, v, flag in points for x in (round(float(u), 2), round(float(v), 2), int(flag))]
