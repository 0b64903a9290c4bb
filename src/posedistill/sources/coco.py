"""COCO-WholeBody annotation files and body-only COCO files, as mmpose reads them.

`read_annotations` gives the persons to train on or to predict (filtered as published) and the annotations that the
evaluation needs (unfiltered: it has its own rules). `open_annotations` gives any command the checked records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from posedistill.errors import UserError, shorten
from posedistill.files import printable
from posedistill.keypoints import PARTS
from posedistill.sources.fields import (
    AREA_OF_BOX,
    JOINED,
    KEYPOINT_FIELDS,
    LARGEST,
    PERSON,
    category,
    finite,
    flag,
    is_file_name,
    is_number,
    is_whole,
    keypoint_numbers,
    keypoints_of,
    numbers,
    whole,
    wrong,
)
from posedistill.sources.json_stream import top_level
from posedistill.sources.person import Funnel, ImageRef, Person, ValidFlags

FLAGS = tuple(f"{part}_valid" for part in ValidFlags._fields)
OTHER = 0  # any category but that of persons, after reading

CROWD = "crowd"
NO_KEYPOINT = "no labelled body keypoint"
DEGENERATE = "empty box"
OUTSIDE = "box outside the image"
NOT_FINITE = "box not finite"
SCORE_NOT_FINITE = "score not finite"
NOT_PERSON = "not a person"
NO_FIELD = "without box or keypoints"

GROUND_TRUTH_FIELDS = (
    *("id", "image_id", "category_id", "iscrowd", "area", "bbox", "num_keypoints", "keypoints"),
    *("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"),
    *("foot_valid", "face_valid", "lefthand_valid", "righthand_valid"),
)

Locate = Callable[[dict[str, Any]], ImageRef | None]


class Annotations(NamedTuple):
    """A checked COCO file. `records` are read lazily; their `category_id` is PERSON or OTHER, `iscrowd` 0 or 1."""

    images: dict[int, dict[str, Any]]
    persons: set[int]  # the category ids that mean a person in the file
    records: Iterator[dict[str, Any]]


def open_annotations(source: Path | Mapping[str, Any], name: str = "", *, for_metrics: bool = False) -> Annotations:
    """Read and check a COCO annotation file, or the object that it holds, which messages call `name`.

    for_metrics: images need no file name and size, and annotations of images that are not listed are allowed, as in
    pycocotools. Raises UserError naming file, record and field; errors in `records` are raised as they are read.
    """
    if isinstance(source, Path):
        entries, annotations = top_level(source, streamed="annotations")
        name = printable(source)
    elif isinstance(source, Mapping):
        entries, annotations = dict(source), iter(_list(source.get("annotations"), name, "annotations"))
    else:
        raise UserError(f"{name}: found {shorten(source)}, expected an object with images and annotations")
    images = _images(name, _list(entries.get("images"), name, "images"), for_metrics)
    persons = _person_categories(name, entries.get("categories"))
    return Annotations(images, persons, _checked(name, annotations, images, persons, for_metrics))


def _list(value: Any, name: str, field: str) -> list[Any]:
    if not isinstance(value, list):
        found = "nothing" if value is None else type(value).__name__
        raise UserError(f"{name}: the file: {field}: found {found}, expected a list")
    return value


def _images(name: str, images: list[Any], for_metrics: bool) -> dict[int, dict[str, Any]]:
    by_id: dict[int, dict[str, Any]] = {}
    for index, image in enumerate(images):
        where = f"images[{index}]"
        if not isinstance(image, dict):
            raise UserError(f"{name}: {where}: expected an object")
        identity = whole(name, where, image, "id")
        if identity in by_id:
            raise UserError(f"{name}: {where}: duplicate id {identity}")
        by_id[identity] = image
        if for_metrics:
            continue
        where, file_name = f"image {identity}", image.get("file_name")
        if not is_file_name(file_name, "strict"):  # gt.json, which is UTF-8, holds it
            raise wrong(name, where, "file_name", file_name, "a file name")
        if ".." in PurePosixPath(file_name).parts:
            raise wrong(name, where, "file_name", file_name, "a path inside the image folder")
        for field in ("width", "height"):
            if not is_whole(image.get(field)) or not 0 < image[field] < 2**31:
                raise wrong(name, where, field, image.get(field), "a positive whole number")
    return by_id


def _person_categories(name: str, categories: Any) -> set[int]:
    """The ids of the category `person`; of the only one, whatever its name. COCO's own id where none are listed."""
    if not isinstance(categories, list) or not categories:
        return {PERSON}
    for index, one in enumerate(categories):
        if not isinstance(one, dict) or not is_whole(one.get("id")):
            raise UserError(f"{name}: categories[{index}]: expected an object with a whole number as id")
    if len(categories) == 1:
        return {PERSON, categories[0]["id"]}
    found = {one["id"] for one in categories if str(one.get("name")).strip().casefold() == "person"}
    if not found:
        names = shorten(", ".join(str(one.get("name")) for one in categories))
        raise UserError(f"{name}: categories: found {names}, expected one with the name person")
    return found


def _checked(
    name: str, annotations: Iterator[Any], images: Mapping[int, Any], persons: set[int], for_metrics: bool
) -> Iterator[dict[str, Any]]:
    """Structural checks of each annotation. What fails them cannot be interpreted: an error, not a drop."""
    known: set[int] = set()
    for index, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            raise UserError(f"{name}: annotations[{index}]: expected an object")
        identity = whole(name, f"annotations[{index}]", annotation, "id")
        where = f"annotation {identity}"
        if identity in known:
            raise UserError(f"{name}: {where}: duplicate id")
        known.add(identity)
        image_id = whole(name, where, annotation, "image_id")
        if image_id not in images and not for_metrics:
            raise wrong(name, where, "image_id", image_id, "the id of one of the file's images")
        if category(name, where, annotation) not in persons:
            yield {"id": identity, "image_id": image_id, "category_id": OTHER}
            continue
        crowd = flag(name, where, annotation, "iscrowd") or 0
        valid = {field: flag(name, where, annotation, field, "true or false") for field in FLAGS}
        if annotation.get("bbox") is not None:
            numbers(name, where, "bbox", annotation["bbox"], 4)
        keypoint_numbers(name, where, annotation)
        for field in ("num_keypoints", "area"):
            if annotation.get(field) is not None and not is_number(annotation[field]):
                raise wrong(name, where, field, annotation[field], "a number")
        text = {field: value for field, value in valid.items() if isinstance(annotation.get(field), str)}
        yield {**annotation, **text, "category_id": PERSON, "iscrowd": crowd}


def clip_box(box: Any, width: int, height: int) -> np.ndarray:
    """(x, y, w, h) cut to the image, float32: corners are held within [0, size - 1], as published."""
    x, y, w, h = (float(value) for value in box)
    limit = np.array([width - 1, height - 1] * 2)
    corners = np.clip([x, y, x + w, y + h], 0, limit).astype(np.float32)
    return np.concatenate([corners[:2], corners[2:] - corners[:2]])


def _box_problem(raw: Any, box: np.ndarray, width: int, height: int) -> str | None:
    if box[2] > 0 and box[3] > 0:
        return None
    x, y, w, h = (float(value) for value in raw)
    if w <= 0 or h <= 0:
        return DEGENERATE
    outside = x >= width - 1 or y >= height - 1 or x + w <= 0 or y + h <= 0
    return OUTSIDE if outside else DEGENERATE


def beside(box: Any, image: ImageRef) -> bool:
    """Whether a box lies entirely outside its image; false for an image of unknown size."""
    x, y, w, h = box
    return bool(image.width) and (x >= image.width or y >= image.height or x + w <= 0 or y + h <= 0)


def to_person(annotation: dict[str, Any], image: ImageRef, funnel: Funnel) -> Person | None:
    """The person of a checked annotation, or None with the reason noted in the funnel (published filter)."""
    case = f"annotation {annotation['id']}"
    if annotation["category_id"] != PERSON:
        funnel.drop(NOT_PERSON, case)
        return None
    if annotation["iscrowd"]:
        funnel.drop(CROWD, case)
        return None
    if annotation.get("bbox") is None or annotation.get("keypoints") is None:
        funnel.drop(NO_FIELD, case)
        return None
    raw = annotation["bbox"]
    if not all(map(finite, raw)):
        funnel.drop(NOT_FINITE, case)
        return None
    keypoints = keypoints_of(annotation)
    broken = ~(np.abs(keypoints) < LARGEST).all(axis=1)  # NaN included
    if broken.any():
        keypoints[broken] = 0
        funnel.note("keypoints not finite, taken as unlabelled", case, int(broken.sum()))
    count = annotation.get("num_keypoints")
    if not finite(count):
        count = np.count_nonzero(keypoints[PARTS["body"], 2] > 0)
    if count == 0 or keypoints[:, :2].max() <= 0 or not (keypoints[:, 2] > 0).any():
        funnel.drop(NO_KEYPOINT, case)
        return None
    box = clip_box(raw, image.width, image.height)
    problem = _box_problem(raw, box, image.width, image.height)
    if problem:
        funnel.drop(problem, case)
        return None
    x, y, w, h = raw
    if x < 0 or y < 0 or x + w > image.width or y + h > image.height:
        funnel.note("box reaches out of the image, cut", case)
    flags = ValidFlags(*(annotation.get(name) in (None, 1) for name in FLAGS))
    funnel.kept += 1
    return Person(
        image=image,
        image_id=annotation["image_id"],
        annotation_id=annotation["id"],
        box=box,
        keypoints=keypoints,
        area=float(annotation.get("area") or 0.0),
        valid=flags,
    )


def ground_truth_annotation(annotation: dict[str, Any]) -> dict[str, Any]:
    """A checked annotation as gt.json holds it: with every field that the evaluation reads (missing parts are zero)."""
    entry = {name: annotation[name] for name in GROUND_TRUTH_FIELDS if name in annotation}
    keypoints = keypoints_of(annotation)
    broken = ~(np.abs(keypoints) < LARGEST).all(axis=1)
    keypoints[broken] = 0  # as in training: unlabelled
    joined = len(annotation.get("keypoints") or []) == JOINED
    for part, name in KEYPOINT_FIELDS.items():
        values = annotation.get(name)
        if joined or values is None or broken[PARTS[part]].any():
            entry[name] = keypoints[PARTS[part]].ravel().tolist()
    box = [value if finite(value) else 0.0 for value in annotation.get("bbox") or [0.0] * 4]
    area = annotation.get("area")
    if area is None or not 0 < area < LARGEST**2:
        area = box[2] * box[3] * AREA_OF_BOX  # body-only files without segments
    entry.update(bbox=box, area=area)
    if not finite(annotation.get("num_keypoints")):
        entry["num_keypoints"] = int((keypoints[PARTS["body"], 2] > 0).sum())
    return entry


def read_annotations(
    path: Path, locate: Locate, funnel: Funnel, *, ground_truth: bool = False
) -> tuple[list[Person], dict[str, Any] | None]:
    """Persons to train on or to predict, in the file's order of images, and what they are evaluated against.

    locate: image entry → where its pixels are, or None where the image is not wanted (another split): its annotations
    do not count as read. The second value, with `ground_truth`, is a COCO-WholeBody JSON (as a dict) of the wanted
    images: all their person annotations, crowds included. Raises UserError naming file, annotation and field.
    """
    images, _, annotations = open_annotations(path)
    refs = {identity: locate(image) for identity, image in images.items()}
    persons, entries = [], []
    for annotation in annotations:
        ref = refs[annotation["image_id"]]
        if ref is None:
            continue
        funnel.read += 1
        person = to_person(annotation, ref, funnel)
        if person is not None:
            persons.append(person)
        if ground_truth and annotation["category_id"] == PERSON:
            entries.append(ground_truth_annotation(annotation))
    order = {identity: position for position, identity in enumerate(images)}
    persons.sort(key=lambda person: order[person.image_id])  # stable: the order within an image is the file's
    if not ground_truth:
        return persons, None
    kept = [image for identity, image in images.items() if refs[identity] is not None]
    return persons, {
        "images": [{name: image[name] for name in ("id", "file_name", "width", "height")} for image in kept],
        "annotations": entries,
        "categories": [{"id": PERSON, "name": "person", "supercategory": "person"}],
    }
