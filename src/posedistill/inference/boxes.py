"""Where the persons are, as `--boxes boxes.json` says.

Two layouts are read. COCO detections: a list of {"image_id": 785, "bbox": [x, y, w, h], "score": 0.9,
"category_id": 1}, where "file_name" may stand in place of "image_id". Or by file name: {"a.jpg": [[x, y, w, h], …]}, a
fifth number being the score. In a video, frames count from 0 as image_id; in a folder it is the number in a picture's
name, or its place in the sorted names (`Source.number_as`). Coordinates are pixels of the picture as it is shown.
"""

import json
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from posedistill.errors import UserError
from posedistill.inference.sources import Frame

PERSON = 1  # COCO's category
LARGEST = 1e7


class Boxes:
    """Boxes by picture; call it with a frame: float32 [N, 5], x, y, width, height in pixels and score."""

    def __init__(self, path: str | Path, minimum_score: float = 0.0) -> None:
        self.path = str(path)
        self.by_key: dict[int | str, list[list[float]]] = defaultdict(list)
        self.outside = 0  # boxes that touch no pixel of their picture
        self.below, self.minimum_score = 0, minimum_score  # boxes with a lower score are left out
        self.image_ids: set[int] = set()  # all in the file, also of boxes with a lower score
        self._read: set[int | str] = set()
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not JSON ({error})") from error
        for key, box in _entries(content, self.path):
            key = _same_spelling(key)
            self.image_ids |= {key} if isinstance(key, int) else set()
            if box[4] >= minimum_score:
                self.by_key[key].append(box)
            else:
                self.below += 1

    def __call__(self, frame: Frame) -> np.ndarray:
        """Boxes that touch no pixel of the frame are left out and counted."""
        name = _same_spelling(frame.name)
        self._read |= {name, frame.image_id}
        found = self.by_key.get(name, []) + self.by_key.get(frame.image_id, [])
        boxes = np.array(found, np.float32).reshape(-1, 5)
        height, width = frame.image.shape[:2]
        far = boxes[:, :2] + boxes[:, 2:4]
        inside = (boxes[:, 0] < width) & (boxes[:, 1] < height) & (far > 0).all(axis=1)
        self.outside += int((~inside).sum())
        return boxes[inside]

    def notes(self) -> list[str]:
        """What of the file was not used, after all frames: sentences for the user."""
        lines = []
        if self.below:
            lines.append(f"{self.path}: {self.below} boxes have a score below --box-score {self.minimum_score:g}")
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


def _same_spelling(key: int | str) -> int | str:
    """ü as one character: macOS writes it as two into file names."""
    return unicodedata.normalize("NFC", key) if isinstance(key, str) else key


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
        if not isinstance(item, dict) or not {"file_name", "image_id"} & item.keys():
            raise UserError(f"{where}: expected an object with image_id (or file_name) and bbox")
        key = item["file_name"] if item.get("file_name") is not None else item.get("image_id")
        if not isinstance(key, int | str) or isinstance(key, bool):
            raise UserError(f"{where}: found image_id or file_name {key!r:.80}, expected a whole number or a name")
        if item.get("category_id", PERSON) == PERSON:
            box, score = item.get("bbox"), item.get("score", 1.0)
            if not _number(score):
                raise UserError(f"{where}.score: found {score!r:.80}, expected a number")
            values = [*box, score] if isinstance(box, list) and len(box) == 4 else box
            entries.append((key, _box(values, f"{where}.bbox")))
    return entries


def _number(value: Any) -> bool:
    """A number that pixels can have: beyond LARGEST float32 would not tell neighbours apart, let alone infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST  # false for NaN


def _box(values: Any, where: str) -> list[float]:
    good = isinstance(values, list) and len(values) in (4, 5)
    if not good or not all(map(_number, values)):
        raise UserError(f"{where}: found {values!r:.80}, expected [x, y, width, height] in pixels")
    box = [float(value) for value in values]
    if box[2] <= 0 or box[3] <= 0:
        raise UserError(f"{where}: found {values}, expected a width and height above 0")
    return [*box[:4], box[4] if len(box) == 5 else 1.0]
