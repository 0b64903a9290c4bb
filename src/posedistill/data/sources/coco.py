"""COCO-WholeBody annotation files, body-only COCO files, and person detections, as mmpose reads them.

Two readings of one file: `read_persons` gives the persons to train on or to predict (filtered as published), and
`read_ground_truth` the annotations that the evaluation needs (unfiltered: it has its own rules).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posedistill.data.person import Funnel, ImageRef, Person, ValidFlags, no_keypoints
from posedistill.data.sources.json_stream import load_whole, top_level
from posedistill.errors import UserError
from posedistill.keypoints import PARTS

FIELDS = {
    "body": "keypoints",
    "foot": "foot_kpts",
    "face": "face_kpts",
    "lefthand": "lefthand_kpts",
    "righthand": "righthand_kpts",
}
FLAGS = tuple(f"{part}_valid" for part in ValidFlags._fields)
PERSON = 1  # category of persons in COCO
OTHER = 0  # any other category, after reading

CROWD = "crowd"
NO_KEYPOINT = "no labelled body keypoint"
DEGENERATE = "empty box"
OUTSIDE = "box outside the image"
NOT_FINITE = "box not finite"
NOT_PERSON = "not a person"
NO_FIELD = "without box or keypoints"
ELSEWHERE = "image not in this validation set"

LARGEST = 1e9  # pixels: a larger coordinate is taken for infinite
WHOLE = "a whole number below 2^53"
IDS = 2**53  # what JSON, Arrow and NumPy all hold exactly

Images = dict[int, dict[str, Any]]
Locate = Callable[[dict[str, Any]], ImageRef | None]


def _field(path: Path, where: str, name: str, found: object, allowed: str) -> UserError:
    shown = " ".join((repr(found) if isinstance(found, str) else str(found)).split())[:60]
    return UserError(f"{path}: {where}: {name}: found {shown}, expected {allowed}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < IDS


def _file_name(value: object) -> bool:
    """Whether a file can be called so: no half of a UTF-16 pair, no zero byte."""
    return isinstance(value, str) and value != "" and not re.search("[\ud800-\udfff\0]", value)


def _number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def _finite(value: float | None) -> bool:
    return value is not None and abs(value) < LARGEST  # false for NaN, too


def open_annotations(path: Path) -> tuple[Images, Iterator[dict[str, Any]]]:
    """Images by id, and an iterator over the checked annotations of a COCO JSON.

    Their `category_id` is PERSON for persons, whatever number the file has for them, and OTHER for the others.
    """
    entries, annotations = top_level(path, streamed="annotations")
    images = entries.get("images")
    if not isinstance(images, list):
        raise UserError(f"{path}: the file: images: found {type(images).__name__}, expected a list")
    by_id: Images = {}
    for index, image in enumerate(images):
        where = f"images[{index}]"
        if not isinstance(image, dict):
            raise UserError(f"{path}: {where}: expected an object")
        if not _whole(image.get("id")):
            raise _field(path, where, "id", image.get("id"), WHOLE)
        if image["id"] in by_id:
            raise UserError(f"{path}: {where}: id: {image['id']} is there twice")
        if not _file_name(image.get("file_name")):
            raise _field(path, f"image {image['id']}", "file_name", image.get("file_name"), "a file name")
        for name in ("width", "height"):
            if not _whole(image.get(name)) or not 0 < image[name] < 2**31:
                raise _field(path, f"image {image['id']}", name, image.get(name), "a positive whole number")
        by_id[image["id"]] = image
    return by_id, _checked(path, annotations, by_id, _person_categories(path, entries.get("categories")))


def _person_categories(path: Path, categories: Any) -> set[int]:
    """The ids of the category `person`; of the only one, whatever its name. COCO's own id where none are listed."""
    if not isinstance(categories, list) or not categories:
        return {PERSON}
    for index, category in enumerate(categories):
        if not isinstance(category, dict) or not _whole(category.get("id")):
            raise UserError(f"{path}: categories[{index}]: expected an object with a whole number as id")
    if len(categories) == 1:
        return {PERSON, categories[0]["id"]}
    found = {one["id"] for one in categories if str(one.get("name")).strip().casefold() == "person"}
    if not found:
        names = ", ".join(str(one.get("name")) for one in categories)[:60]
        raise UserError(f"{path}: categories: found {names}, expected one with the name person")
    return found


def _checked(path: Path, annotations: Iterator[Any], images: Images, persons: set[int]) -> Iterator[dict[str, Any]]:
    """Structural checks of each annotation: what they stop cannot be guessed right, so it is an error, not a drop."""
    seen: set[int] = set()
    for index, annotation in enumerate(annotations):
        where = f"annotations[{index}]"
        if not isinstance(annotation, dict):
            raise UserError(f"{path}: {where}: expected an object")
        identity: Any = annotation.get("id")
        if not _whole(identity):
            raise _field(path, where, "id", identity, WHOLE)
        if identity in seen:
            raise UserError(f"{path}: annotation {identity}: id: there twice")
        seen.add(identity)
        where = f"annotation {identity}"
        if not _whole(annotation.get("image_id")):
            raise _field(path, where, "image_id", annotation.get("image_id"), WHOLE)
        if annotation["image_id"] not in images:
            raise _field(path, where, "image_id", annotation["image_id"], "the id of one of the file's images")
        if "category_id" in annotation and not _whole(annotation["category_id"]):
            raise _field(path, where, "category_id", annotation["category_id"], WHOLE)
        if annotation.get("category_id", PERSON) not in persons:
            yield {"id": identity, "image_id": annotation["image_id"], "category_id": OTHER}
            continue
        annotation["category_id"] = PERSON
        if annotation.get("iscrowd", 0) not in (0, 1):
            raise _field(path, where, "iscrowd", annotation["iscrowd"], "0 or 1")
        for name in FLAGS:
            if annotation.get(name) not in (None, 0, 1):
                raise _field(path, where, name, annotation[name], "true or false")
        _check_numbers(path, where, "bbox", annotation.get("bbox"), 4)
        for part, name in FIELDS.items():
            count = 3 * (PARTS[part].stop - PARTS[part].start)
            _check_numbers(path, where, name, annotation.get(name), count)
        for name in ("num_keypoints", "area"):
            if annotation.get(name) is not None and not _number(annotation[name]):
                raise _field(path, where, name, annotation[name], "a number")
        yield annotation


def _check_numbers(path: Path, where: str, name: str, values: Any, count: int) -> None:
    if values is None:
        return
    if not isinstance(values, list) or len(values) != count:
        found = f"{len(values)} values" if isinstance(values, list) else type(values).__name__
        raise UserError(f"{path}: {where}: {name}: found {found}, expected {count} numbers")
    # null stands for NaN in files written by JavaScript and by orjson
    if not all(value is None or _number(value) for value in values):
        bad = next(value for value in values if value is not None and not _number(value))
        raise _field(path, where, name, bad, f"{count} numbers")


def keypoints_of(annotation: dict[str, Any]) -> np.ndarray:
    """float32 [133, 3] of an annotation; parts that are absent or null are zero."""
    keypoints = no_keypoints()
    for part, name in FIELDS.items():
        values = annotation.get(name)
        if values is not None:
            with np.errstate(over="ignore"):  # beyond float32: infinite
                keypoints[PARTS[part]] = np.array(values, np.float32).reshape(-1, 3)  # None becomes NaN
    return keypoints


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


def _beside(box: Any, image: ImageRef) -> bool:
    """Whether a box has nothing of its picture in it; unknown, and so false, for a picture of unknown size."""
    x, y, w, h = box
    return bool(image.width) and (x >= image.width or y >= image.height or x + w <= 0 or y + h <= 0)


def to_person(annotation: dict[str, Any], image: ImageRef, funnel: Funnel) -> Person | None:
    """The person of a checked annotation, or None with the reason noted in the funnel (published filter)."""
    case = f"annotation {annotation['id']}"
    if annotation.get("category_id", PERSON) != PERSON:
        funnel.drop(NOT_PERSON, case)
        return None
    if annotation.get("iscrowd", 0):
        funnel.drop(CROWD, case)
        return None
    if annotation.get("bbox") is None or annotation.get("keypoints") is None:
        funnel.drop(NO_FIELD, case)
        return None
    raw = annotation["bbox"]
    if not all(map(_finite, raw)):
        funnel.drop(NOT_FINITE, case)
        return None
    keypoints = keypoints_of(annotation)
    broken = ~(np.abs(keypoints) < LARGEST).all(axis=1)  # NaN included
    if broken.any():
        keypoints[broken] = 0
        funnel.note("keypoints not finite, taken as unlabelled", case, int(broken.sum()))
    count = annotation.get("num_keypoints")
    if not _finite(count):
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


def read_persons(path: Path, locate: Locate, funnel: Funnel) -> list[Person]:
    """The persons of a COCO(-WholeBody) JSON that training and ground-truth boxes use, in the file's order of images.

    locate: image entry → where its pixels are, or None where this image is not wanted (another split).
    Annotations of unwanted images are not counted as read. Raises UserError naming file, annotation and field.
    """
    images, annotations = open_annotations(path)
    refs = {identity: locate(image) for identity, image in images.items()}
    order = {identity: position for position, identity in enumerate(images)}
    persons = []
    for annotation in annotations:
        ref = refs[annotation["image_id"]]
        if ref is None:
            continue
        funnel.read += 1
        person = to_person(annotation, ref, funnel)
        if person is not None:
            persons.append(person)
    persons.sort(key=lambda person: order[person.image_id])  # stable: the order within an image is the file's
    return persons


GROUND_TRUTH_FIELDS = (
    *("id", "image_id", "category_id", "iscrowd", "area", "bbox", "num_keypoints", "keypoints"),
    *("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"),
    *("foot_valid", "face_valid", "lefthand_valid", "righthand_valid"),
)


def ground_truth_annotation(annotation: dict[str, Any]) -> dict[str, Any]:
    """An annotation as gt.json holds it: every field the evaluation reads is there (missing parts are all zero)."""
    entry = {name: annotation[name] for name in GROUND_TRUTH_FIELDS if name in annotation}
    keypoints = keypoints_of(annotation)
    keypoints[~(np.abs(keypoints) < LARGEST).all(axis=1)] = 0  # as in training: unlabelled
    for part, name in FIELDS.items():
        values = annotation.get(name)
        if values is None or not all(map(_finite, values)):
            entry[name] = keypoints[PARTS[part]].ravel().tolist()
    box = [value if _finite(value) else 0.0 for value in annotation.get("bbox") or [0.0] * 4]
    area = annotation.get("area")
    if area is None or not 0 < area < LARGEST**2:
        area = box[2] * box[3] * 0.53  # body-only files without segments: the usual share of a person in its box
    entry.update(bbox=box, area=area, iscrowd=int(annotation.get("iscrowd", 0)), category_id=PERSON)
    if not _finite(annotation.get("num_keypoints")):
        entry["num_keypoints"] = int((keypoints[PARTS["body"], 2] > 0).sum())
    return entry


def read_ground_truth(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """COCO-WholeBody JSON (as a dict) of the wanted images: all their person annotations, crowds included."""
    images, annotations = open_annotations(path)
    kept = {identity: image for identity, image in images.items() if wanted(image)}
    return {
        "images": [{name: image[name] for name in ("id", "file_name", "width", "height")} for image in kept.values()],
        "annotations": [
            ground_truth_annotation(annotation)
            for annotation in annotations
            if annotation["image_id"] in kept and annotation.get("category_id", PERSON) == PERSON
        ],
        "categories": [{"id": PERSON, "name": "person", "supercategory": "person"}],
    }


def read_detections(path: Path, images: dict[int, ImageRef], funnel: Funnel) -> list[Person]:
    """Person boxes of a COCO detection result file, unclipped and without a score threshold, as published.

    images: those of the validation set by id. The order is the file's, grouped by image.
    """
    detections = load_whole(path, "detection file")
    return detections_to_persons(path, detections, images, funnel)


def detections_to_persons(
    path: Path,
    detections: Any,
    images: dict[int, ImageRef],
    funnel: Funnel,
    elsewhere: str = ELSEWHERE,
    *,
    seen: bool = False,
) -> list[Person]:
    """Check the entries of a detection file and turn those of `images` into boxes; the others are `elsewhere`.

    seen: drop boxes that have nothing of their picture in them (the published evaluation keeps them).
    """
    if not isinstance(detections, list):
        raise UserError(f"{path}: expected a list of detections")
    persons = []
    for index, detection in enumerate(detections):
        where = f"detections[{index}]"
        funnel.read += 1
        if not isinstance(detection, dict):
            raise UserError(f"{path}: {where}: expected an object")
        if not _whole(detection.get("image_id")):
            raise _field(path, where, "image_id", detection.get("image_id"), WHOLE)
        box: Any = detection.get("bbox")
        score: Any = detection.get("score")
        _check_numbers(path, where, "bbox", box if box is not None else [], 4)
        if not _number(score):
            raise _field(path, where, "score", score, "a number")
        if detection.get("category_id", PERSON) != PERSON:
            funnel.drop(NOT_PERSON, where)
        elif detection["image_id"] not in images:
            funnel.drop(elsewhere, f"image {detection['image_id']}")
        elif not all(map(_finite, [*box, score])):
            funnel.drop(NOT_FINITE, where)
        elif box[2] <= 0 or box[3] <= 0:
            funnel.drop(DEGENERATE, where)
        elif seen and _beside(box, images[detection["image_id"]]):
            funnel.drop(OUTSIDE, where)
        else:
            funnel.kept += 1
            persons.append(
                Person(
                    image=images[detection["image_id"]],
                    image_id=detection["image_id"],
                    annotation_id=-1,
                    box=np.array(box, np.float32),
                    keypoints=no_keypoints(),
                    score=float(score),
                )
            )
    order = {identity: position for position, identity in enumerate(images)}
    persons.sort(key=lambda person: order[person.image_id])
    return persons
