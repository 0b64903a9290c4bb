"""Where the persons are, as `--boxes boxes.json` says.

Two layouts are read. COCO detections: a list of {"image_id": 785, "bbox": [x, y, w, h], "score": 0.9,
"category_id": 1}, where "file_name" may stand in place of "image_id". Or by file name: {"a.jpg": [[x, y, w, h], …]}, a
fifth number being the score. In a video, frames count from 0 as image_id. Coordinates are pixels of the picture as it
is shown.
"""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from posedistill.errors import UserError
from posedistill.inference.sources import Frame

PERSON = 1  # COCO's category


class Boxes:
    """Boxes by picture; call it with a frame: float32 [N, 5], x, y, width, height in pixels and score."""

    def __init__(self, path: str | Path, minimum_score: float = 0.0) -> None:
        self.path = str(path)
        self.by_key: dict[int | str, list[list[float]]] = defaultdict(list)
        self.outside = 0  # boxes that touch no pixel of their picture
        self._read: set[int | str] = set()
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{path}: not JSON ({error})") from error
        for key, box in _entries(content, self.path):
            if box[4] >= minimum_score:
                self.by_key[key].append(box)

    def __call__(self, frame: Frame) -> np.ndarray:
        """Boxes that touch no pixel of the frame are left out and counted."""
        self._read |= {frame.name, frame.image_id}
        found = self.by_key.get(frame.name, []) + self.by_key.get(frame.image_id, [])
        boxes = np.array(found, np.float32).reshape(-1, 5)
        height, width = frame.image.shape[:2]
        far = boxes[:, :2] + boxes[:, 2:4]
        inside = (boxes[:, 0] < width) & (boxes[:, 1] < height) & (far > 0).all(axis=1)
        self.outside += int((~inside).sum())
        return boxes[inside]

    def notes(self) -> list[str]:
        """What of the file was not used, after all frames: sentences for the user."""
        lines = []
        if self.outside:
            lines.append(f"{self.path}: {self.outside} boxes lie outside their picture and are left out")
        unused = sorted((str(key) for key in self.by_key.keys() - self._read), key=lambda name: (len(name), name))
        if unused:
            names = ", ".join(unused[:5]) + (", …" if len(unused) > 5 else "")
            lines.append(f"{self.path}: boxes of {len(unused)} pictures that were not read: {names}")
        return lines


def whole_image(frame: Frame) -> np.ndarray:
    """One person who fills the picture: float32 [1, 5]."""
    height, width = frame.image.shape[:2]
    return np.array([[0, 0, width, height, 1]], np.float32)


def _entries(content: Any, path: str) -> list[tuple[int | str, list[float]]]:
    if isinstance(content, dict):
        if "annotations" in content or not all(isinstance(boxes, list) for boxes in content.values()):
            raise UserError(f"{path}: expected file names with lists of boxes, or a list of COCO detections")
        return [
            (str(name), _box(box, f"{path}: {name}[{i}]"))
            for name, boxes in content.items()
            for i, box in enumerate(boxes)
        ]
    if not isinstance(content, list):
        raise UserError(f"{path}: expected a list of COCO detections, or file names with lists of boxes")
    entries: list[tuple[int | str, list[float]]] = []
    for i, item in enumerate(content):
        where = f"{path}[{i}]"
        key = item.get("file_name", item.get("image_id")) if isinstance(item, dict) else None
        if not isinstance(key, int | str):
            raise UserError(f"{where}: expected an object with image_id (or file_name) and bbox")
        if item.get("category_id", PERSON) == PERSON:
            box = item.get("bbox")
            values = [*box, item.get("score", 1.0)] if isinstance(box, list) and len(box) == 4 else box
            entries.append((key, _box(values, f"{where}.bbox")))
    return entries


def _box(values: Any, where: str) -> list[float]:
    good = isinstance(values, list) and len(values) in (4, 5)
    if not good or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise UserError(f"{where}: found {values!r:.80}, expected [x, y, width, height] in pixels")
    box = [float(value) for value in values]
    if box[2] <= 0 or box[3] <= 0:
        raise UserError(f"{where}: found {values}, expected a width and height above 0")
    return [*box[:4], box[4] if len(box) == 5 else 1.0]
