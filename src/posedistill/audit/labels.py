"""The labels under audit: pictures with their annotated persons, read as every command reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posedistill.errors import UserError
from posedistill.files import printable
from posedistill.keypoints import NUM_KEYPOINTS, PARTS
from posedistill.sources import ubody
from posedistill.sources.coco import open_annotations
from posedistill.sources.fields import JOINED, KEYPOINT_FIELDS, LARGEST, PERSON, finite, keypoints_of, wrong
from posedistill.sources.person import Funnel, ImageRef

SMALLEST = 0.01  # pixels, of a box: products of the least floats would be 0
FEW = 3  # labelled points that a part needs to be judged


@dataclass(frozen=True)
class Labelled:
    """One annotated person.

    keypoints: float64 [133, 3], pixels of the picture; third value > 0 = labelled. outside: how far each labelled point
    lies beyond the picture's edge, pixels [133]. box: (x, y, width, height). annotation: as in the file.
    """

    identity: int
    keypoints: np.ndarray
    outside: np.ndarray
    box: np.ndarray
    annotation: Mapping[str, Any]

    @property
    def labelled(self) -> np.ndarray:
        """Which of the keypoints are labelled, bool [133]."""
        return self.keypoints[:, 2] > 0

    @property
    def shown(self) -> np.ndarray:
        """Which of these are inside the picture, bool [133]: only they are compared with anything."""
        return self.labelled & (self.outside == 0)


@dataclass(frozen=True)
class Picture:
    """A picture and its annotated persons; crowds and persons without a usable box or any label are not among them."""

    image_id: int
    ref: ImageRef
    persons: list[Labelled]


def read_pictures(annotations: Path, images: Path) -> list[Picture]:
    """The pictures of a COCO-WholeBody file that have persons, in the file's order.

    images: the folder of the pictures or, for a scene of UBody, of its videos or cut frames. UserError names file,
    annotation and field of what is wrong.
    """
    if not images.is_dir():
        raise UserError(f"{printable(images)}: there is no such folder of pictures")
    entries, _, records = open_annotations(annotations)
    frames = ubody.Frames(images, images)
    funnel = Funnel(annotations.name)
    refs = {identity: _locate(image, annotations, images, frames, funnel) for identity, image in entries.items()}
    persons: dict[int, list[Labelled]] = {identity: [] for identity in entries}
    for record in records:
        image = entries[record["image_id"]]
        person = to_labelled(record, (image["width"], image["height"]))
        if person is not None:
            persons[record["image_id"]].append(person)
    return [Picture(identity, refs[identity], found) for identity, found in persons.items() if found]


def to_labelled(record: Mapping[str, Any], size: tuple[int, int]) -> Labelled | None:
    """A checked annotation of a picture of `size` (width, height); None for other things than persons, crowds, and what
    has no usable box or no label."""
    box = record.get("bbox")
    if record.get("category_id", PERSON) != PERSON or record.get("iscrowd") or box is None:
        return None
    if not all(map(finite, box)) or box[2] <= 0 or box[3] <= 0:
        return None
    keypoints = keypoints_of(record, np.float64)
    keypoints[~(np.abs(keypoints) < LARGEST).all(axis=1)] = 0  # as in training: unlabelled
    if not (keypoints[:, 2] > 0).any():
        return None
    kept = {field: value for field, value in record.items() if field != "segmentation"}  # of hundreds of numbers
    xy = keypoints[:, :2]
    outside = np.maximum(-xy, xy - np.array(size)).max(axis=1).clip(0) * (keypoints[:, 2] > 0)
    corner, sides = np.array(box[:2], np.float64), np.maximum(box[2:], SMALLEST)
    return Labelled(record["id"], keypoints, outside, np.concatenate((corner, sides)), kept)


def _locate(
    image: Mapping[str, Any], annotations: Path, images: Path, frames: ubody.Frames, funnel: Funnel
) -> ImageRef:
    name = image["file_name"]
    of_ubody = bool(frames.videos) or annotations.name == ubody.ANNOTATIONS
    if Path(name).is_absolute() and not of_ubody:
        raise wrong(annotations, f"image {image['id']}", "file_name", name, "a path inside the image folder")
    name = name.lstrip("/")  # some names in UBody begin with it
    if (images / name).exists() or not of_ubody:
        return ImageRef(str(images / name), None, image["width"], image["height"], name)
    return frames.find(annotations.parent.name, PurePosixPath(name), dict(image), funnel)


def fields_of(annotation: Mapping[str, Any], points: np.ndarray, part: str) -> dict[str, list[float]]:
    """The keypoint field of `annotation` that holds a part, with what differs in `points` [133, 3] put in; all other
    numbers stay as they stand in the file."""
    joined = len(annotation.get("keypoints") or ()) == JOINED
    field, place = ("keypoints", slice(0, NUM_KEYPOINTS)) if joined else (KEYPOINT_FIELDS[part], PARTS[part])
    new, old = points[place], keypoints_of(annotation, np.float64)[place]
    values = list(annotation.get(field) or [0] * old.size)
    for i in np.flatnonzero((new != old).any(axis=1)):
        values[3 * i : 3 * i + 3] = [round(float(value), 3) for value in new[i]]
    return {field: values}


def extent(points: np.ndarray) -> np.ndarray:
    """(x, y, width, height) of points [N, 2+]."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return np.concatenate((low, high - low))


def size_of(points: np.ndarray) -> float:
    """The longer side of the box around points [N, 2+]; at least a pixel."""
    return max(1.0, float(extent(points)[2:].max()))
