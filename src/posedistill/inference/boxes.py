"""Person boxes from `--boxes boxes.json`, in any layout of posedistill.sources.detections.

A box's image_id is a video's frame number from 0; in a folder the number in a picture's name, or its place in the
sorted names (`Source.number_as`). Coordinates are pixels of the upright picture.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from posedistill.errors import shorten
from posedistill.files import printable
from posedistill.inference.sources import Frame
from posedistill.sources.detections import read_boxes
from posedistill.sources.names import spelling
from posedistill.sources.person import Funnel


class Boxes:
    """Boxes by picture; call it with a frame: float32 [N, 5], x, y, width, height in pixels and score.

    Boxes with a score below `minimum_score` are left out. by_number: if a box has both a file name and an
    image_id, the latter is used (videos, whose frames have no names).
    """

    def __init__(self, path: str | Path, minimum_score: float = 0.0, *, by_number: bool = False) -> None:
        self.path, self.minimum_score = printable(path), minimum_score
        self.read = Funnel(self.path, what="boxes")
        self.by_picture: dict[int | str, list[list[float]]] = defaultdict(list)
        self.image_ids: set[int] = set()  # that name a picture, also of boxes with a lower score
        self.below = 0  # boxes with a lower score
        self.outside = 0  # boxes that touch no pixel of their picture
        self._visited: set[int | str] = set()
        for detection in read_boxes(Path(path), self.read, default_score=1.0):
            picture = detection.picture(by_number=by_number)
            if isinstance(picture, int):
                self.image_ids.add(picture)
            if detection.score >= minimum_score:
                self.by_picture[picture].append([*detection.box, detection.score])
            else:
                self.below += 1

    def __call__(self, frame: Frame) -> np.ndarray:
        """Boxes that touch no pixel of the frame are left out and counted."""
        name = spelling(frame.name)
        self._visited |= {name, frame.image_id}
        found = self.by_picture.get(name, []) + self.by_picture.get(frame.image_id, [])
        boxes = np.array(found, np.float32).reshape(-1, 5)
        height, width = frame.image.shape[:2]
        far = boxes[:, :2] + boxes[:, 2:4]
        inside = (boxes[:, 0] < width) & (boxes[:, 1] < height) & (far > 0).all(axis=1)
        self.outside += int((~inside).sum())
        return boxes[inside]

    def notes(self) -> list[str]:
        """Sentences for the user about boxes that were not used; to be called after the last frame."""
        lines = [
            f"{self.path}: {count} of {self.read.read} boxes left out, {reason}: {self.read.examples[reason][0]}"
            for reason, count in self.read.dropped.items()
        ]
        if self.below:
            lines.append(f"{self.path}: {self.below} boxes have a score below --box-score {self.minimum_score:g}")
        if self.outside:
            lines.append(f"{self.path}: {self.outside} boxes lie outside their picture and are left out")
        unused = sorted(
            (str(key) for key in self.by_picture.keys() - self._visited), key=lambda name: (len(name), name)
        )
        if unused:
            names = ", ".join(map(shorten, unused[:5])) + (", …" if len(unused) > 5 else "")
            lines.append(f"{self.path}: boxes of {len(unused)} pictures that were not read: {names}")
        return lines


def whole_image(frame: Frame) -> np.ndarray:
    """The whole picture as one box: float32 [1, 5]."""
    height, width = frame.image.shape[:2]
    return np.array([[0, 0, width, height, 1]], np.float32)
