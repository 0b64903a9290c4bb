"""Boxes of persons: COCO detections, or boxes by file name. The same for `prepare` and `predict --boxes`.

COCO detections are a list of {"image_id": 785, "bbox": [x, y, w, h], "score": 0.9, "category_id": 1}, where `file_name`
may name the picture instead of `image_id`. They may also be the `annotations` of an object, as in the keypoints.json of
`posedistill predict`, whose boxes are `box` and `box_score`.
Boxes by file name: {"a.jpg": [[x, y, w, h], …]}, a fifth number being the score.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posedistill.errors import UserError, shorten
from posedistill.files import printable
from posedistill.sources.coco import CROWD, DEGENERATE, NOT_FINITE, NOT_PERSON, SCORE_NOT_FINITE
from posedistill.sources.fields import (
    PERSON,
    category,
    finite,
    is_file_name,
    is_number,
    numbers,
    person_categories,
    whole,
    wrong,
)
from posedistill.sources.json_stream import load_whole
from posedistill.sources.names import spelling
from posedistill.sources.person import Funnel, ImageRef, Person, no_keypoints

ELSEWHERE = "image not in this validation set"
LAYOUTS = "expected a list of COCO detections, a keypoints.json, or file names with lists of boxes"


class Detection(NamedTuple):
    """One box of a person: its picture by `image_id`, `file_name` (as `names.spelling` has it), or both."""

    where: str
    image_id: int | None
    file_name: str | None
    box: list[float]  # x, y, w, h
    score: float

    def picture(self, *, by_number: bool) -> int | str:
        """How the picture is named: by its file name where there is one, unless `by_number` (frames of a video)."""
        first, second = (self.image_id, self.file_name) if by_number else (self.file_name, self.image_id)
        found = second if first is None else first
        assert found is not None
        return found


def read_boxes(path: Path, funnel: Funnel, *, default_score: float | None = None) -> list[Detection]:
    """The usable person boxes of a file, in its order; the others are counted in the funnel.

    default_score: for boxes without a score; None if one is required. UserError naming file, record and field.
    """
    name = printable(path)
    entries = list(_entries(load_whole(path, "detection file"), name))
    categories = [category(name, where, entry) for where, entry in entries]
    persons = person_categories(set(categories), {PERSON})
    found = []
    for (where, entry), kind in zip(entries, categories):
        funnel.read += 1
        detection = _checked(name, where, entry, default_score)
        if entry.get("iscrowd"):
            funnel.drop(CROWD, where)
        elif kind not in persons:
            funnel.drop(NOT_PERSON, f"{where}: category_id {kind}")
        elif not all(map(finite, detection.box)):
            funnel.drop(NOT_FINITE, where)
        elif not finite(detection.score):
            funnel.drop(SCORE_NOT_FINITE, where)
        elif detection.box[2] <= 0 or detection.box[3] <= 0:
            funnel.drop(DEGENERATE, where)
        else:
            found.append(detection)
    return found


def _entries(content: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All layouts as records with the words for their place in the file."""
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if isinstance(content, list):
        for index, entry in enumerate(content):
            if not isinstance(entry, dict):
                raise UserError(f"{name}: detections[{index}]: found {shorten(entry)}, expected an object")
            yield f"detections[{index}]", entry
    elif isinstance(content, dict) and not {"annotations", "images"} & content.keys():
        for picture, boxes in content.items():
            if not isinstance(boxes, list):
                raise UserError(f"{name}: {shorten(picture)}: found {shorten(boxes)}; {LAYOUTS}")
            for index, box in enumerate(boxes):
                where = f"{shorten(picture)}[{index}]"
                numbers(name, where, "box", box, 4, 5)
                yield where, {"file_name": picture, "bbox": box[:4], **({"score": box[4]} if len(box) == 5 else {})}
    else:
        raise UserError(f"{name}: {LAYOUTS}")


def _checked(name: str, where: str, entry: dict[str, Any], default_score: float | None) -> Detection:
    picture = entry.get("file_name")
    if picture is not None and not is_file_name(picture):
        raise wrong(name, where, "file_name", picture, "a file name")
    by_id = picture is None or entry.get("image_id") is not None
    if by_id and entry.get("image_id") is None:
        raise UserError(f"{name}: {where}: expected image_id or file_name")
    image_id = whole(name, where, entry, "image_id") if by_id else None
    field = "bbox" if "bbox" in entry or "box" not in entry else "box"
    numbers(name, where, field, entry.get(field), 4)
    score = entry.get("box_score", entry.get("score", default_score))  # a person's score is that of its keypoints, too
    if not is_number(score):
        raise wrong(name, where, "score", score, "a number")
    return Detection(where, image_id, None if picture is None else spelling(picture), entry[field], float(score))


def read_detections(path: Path, images: dict[int, ImageRef], funnel: Funnel) -> list[Person]:
    """Person boxes of a COCO detection result file, unclipped and without a score threshold, as published.

    images: those of the validation set by id. The order is the file's, grouped by image.
    """
    by_name = {spelling(ref.name): identity for identity, ref in images.items()}
    persons = []
    for detection in read_boxes(path, funnel):
        picture = detection.picture(by_number=True)
        identity = by_name.get(picture, -1) if isinstance(picture, str) else picture
        if identity not in images:
            funnel.drop(ELSEWHERE, f"image {shorten(picture)}")
            continue
        funnel.kept += 1
        persons.append(person(detection, identity, images[identity]))
    order = {identity: position for position, identity in enumerate(images)}
    persons.sort(key=lambda one: order[one.image_id])
    return persons


def person(detection: Detection, image_id: int, image: ImageRef) -> Person:
    """A detection as a person without labels."""
    box = np.array(detection.box, np.float32)
    return Person(image, image_id, -1, box, no_keypoints(), float(box[2] * box[3]), score=detection.score)
