"""Ground truth and predictions in COCO layout → arrays.

Both come as a path to a JSON file or as the object it holds. Keypoints are either one list of 399 numbers (133 × x, y,
v) or split as COCO-WholeBody and mmpose write them: `keypoints` (17), `foot_kpts`, `face_kpts`, `lefthand_kpts`,
`righthand_kpts`. A part that is missing counts as not labelled (ground truth) or not predicted (predictions).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posedistill.errors import UserError, shorten
from posedistill.files import printable
from posedistill.keypoints import NUM_KEYPOINTS, PARTS
from posedistill.sources.coco import open_annotations
from posedistill.sources.fields import (
    AREA_OF_BOX,
    LARGEST,
    PERSON,
    category,
    is_number,
    keypoint_numbers,
    keypoints_of,
    numbers,
    person_categories,
    whole,
    wrong,
)
from posedistill.sources.fields import KEYPOINT_FIELDS as FIELDS
from posedistill.sources.json_stream import load_whole

ALL_PARTS = (*PARTS, "wholebody")  # the six that are matched; "hand" is the mean of two of them
PART_SLICES = {**PARTS, "wholebody": slice(0, NUM_KEYPOINTS)}


@dataclass(frozen=True)
class GroundTruth:
    """G persons in I images. Lengths in pixels of the image."""

    image_ids: np.ndarray  # [I] sorted, each once
    image: np.ndarray  # [G] position in image_ids
    annotation_id: np.ndarray  # [G] int64
    keypoints: np.ndarray  # [G, 133, 3] float64: x, y, v; v > 0 = labelled
    box: np.ndarray  # [G, 4] x, y, width, height
    area: np.ndarray  # [G] annotated, or 0.53 × the box's
    crowd: np.ndarray  # [G] bool
    categories: frozenset[int] = frozenset({PERSON})  # that mean a person
    notes: tuple[str, ...] = ()  # what of the file was left out or changed: sentences for the user


@dataclass(frozen=True)
class Predictions:
    """D predicted persons, in the order of the file."""

    image: np.ndarray  # [D] position in the ground truth's image_ids
    keypoints: np.ndarray  # [D, 133, 3] float64: x, y, score
    score: np.ndarray  # [D, 6] of each of ALL_PARTS
    area: np.ndarray  # [D] extent of the 17 body keypoints, or that of the box (see read_predictions)
    annotation_id: np.ndarray  # [D] int64, the person whose own box was used, or -1
    notes: tuple[str, ...] = ()


def load_json(source: Any, what: str) -> tuple[Any, str]:
    """The object in JSON file `source`, or `source` itself if it is not a path; and a name for messages."""
    if isinstance(source, str | Path):
        return load_whole(Path(source), what), printable(source)
    return getattr(source, "dataset", source), what  # a pycocotools COCO object carries the file in .dataset


def read_ground_truth(source: Any, *, use_area: bool = True, name: str = "ground truth") -> GroundTruth:
    """Read COCO-WholeBody annotations (path, dict or pycocotools COCO); messages call a loaded object `name`.

    With `use_area` every annotation needs its `area`; without, it is 0.53 × width × height of the box. Left out, with a
    note: annotations of images that are not listed (as in pycocotools) and of other categories. Keypoints that are not
    finite count as unlabelled. UserError names file, annotation and field of what is wrong.
    """
    if isinstance(source, GroundTruth):
        return source
    if isinstance(source, str | Path):
        source = Path(source)
        name = printable(source)
    images, categories, annotations = open_annotations(getattr(source, "dataset", source), name, for_metrics=True)
    index = {image_id: position for position, image_id in enumerate(sorted(images))}
    left_out: Counter[str] = Counter()
    image, ids, crowd, boxes, areas, points = [], [], [], [], [], []
    for one in annotations:
        if one["image_id"] not in index:
            left_out["of images that the file does not list"] += 1
            continue
        if one["category_id"] != PERSON:
            left_out["of another category than person"] += 1
            continue
        where = f"annotation {one['id']}"
        if one.get("bbox") is None:
            raise wrong(name, where, "bbox", None, "4 numbers: x, y, width, height")
        if use_area and one.get("area") is None:
            raise wrong(name, where, "area", None, _AREA)
        image.append(index[one["image_id"]])
        ids.append(one["id"])
        crowd.append(one["iscrowd"])
        boxes.append(one["bbox"])
        areas.append(one["area"] if use_area else None)
        points.append(keypoints_of(one, np.float64))
    box = np.array(boxes, np.float64).reshape(-1, 4)
    box[~(np.abs(box) < LARGEST)] = 0
    keypoints = np.stack(points) if points else np.empty((0, NUM_KEYPOINTS, 3))
    broken = ~(np.abs(keypoints) < LARGEST).all(axis=2)
    keypoints[broken] = 0
    notes = [f"{name}: {count} annotations {reason} are left out" for reason, count in left_out.items()]
    if broken.any():
        notes.append(f"{name}: {broken.sum()} keypoints are not finite and count as unlabelled")
    truth = GroundTruth(
        image_ids=np.array(sorted(images), dtype=np.int64),
        image=np.array(image, dtype=np.int64),
        annotation_id=np.array(ids, dtype=np.int64),
        keypoints=keypoints,
        box=box,
        area=np.array(areas, np.float64) if use_area else box[:, 3] * box[:, 2] * AREA_OF_BOX,
        crowd=np.array(crowd, dtype=bool),
        categories=frozenset(categories),
        notes=tuple(notes),
    )
    return _with_areas_checked(truth, name)


_AREA = "a number above 0 (--no-area or use_area=False takes areas from the boxes)"


def _with_areas_checked(truth: GroundTruth, name: str) -> GroundTruth:
    """UserError for areas that would silently make every prediction wrong."""
    counts = ~truth.crowd & (truth.keypoints[:, :, 2] > 0).any(axis=1)
    good = (truth.area >= 0) & (truth.area < LARGEST**2) & ((truth.area > 0) | ~counts)
    if not good.all():
        first = int(np.argmin(good))
        raise wrong(name, f"annotation {truth.annotation_id[first]}", "area", float(truth.area[first]), _AREA)
    if counts.any():
        return truth
    crowds = int(truth.crowd.sum())
    unlabelled = len(counts) - crowds
    reason = f"{crowds} are crowds, {unlabelled} have no labelled keypoint" if len(counts) else "there is none"
    note = f"{name}: no person counts: {reason}"
    return replace(truth, notes=(*truth.notes, note))


def read_predictions(source: Any, truth: GroundTruth) -> Predictions:
    """Read COCO results (path, list, or pycocotools COCO) for the images of `truth`.

    A person's score for a part is `foot_score`, `face_score`, `lefthand_score`, `righthand_score` or `wholebody_score`
    where the entry has one, else `score`; body always uses `score` (xtcocotools). The area is the extent of the body
    keypoints; if the first entry carries a `bbox`, it is the box's, for all entries (COCO's loadRes). Entries of other
    categories than persons are left out, with a note. UserError on unknown images, on entries that are not poses, and
    where no entry is a person.
    """
    if isinstance(source, Predictions):
        return source
    entries, name = load_json(source, "prediction file" if isinstance(source, str | Path) else "predictions")
    if isinstance(entries, Mapping) and isinstance(entries.get("annotations"), list):
        entries = entries["annotations"]
    if not isinstance(entries, list | tuple):
        raise UserError(f"{name}: found {shorten(type(entries).__name__)}, expected a list of predictions")
    index = {image_id: position for position, image_id in enumerate(truth.image_ids.tolist())}
    rows, notes = _persons(entries, name, truth, index)
    persons = [entries[row] for row in rows]
    boxed = bool(len(entries)) and entries[0].get("bbox") is not None and len(np.atleast_1d(entries[0]["bbox"])) > 0
    keypoints = np.zeros((len(persons), NUM_KEYPOINTS, 3))
    score = np.empty((len(persons), len(ALL_PARTS)))
    boxes = np.zeros((len(persons), 4))
    own = np.full(len(persons), -1, dtype=np.int64)
    for i, (row, one) in enumerate(zip(rows, persons)):
        where = f"predictions[{row}]"
        keypoint_numbers(name, where, one)
        keypoints[i] = keypoints_of(one, np.float64)
        score[i] = _scores(name, where, one)
        if boxed:
            numbers(name, where, "bbox", one.get("bbox"), 4)
            boxes[i] = one["bbox"]
        if one.get("annotation_id") is not None:
            own[i] = whole(name, where, one, "annotation_id")
    for field, values in (("keypoints", keypoints), ("score", score), ("bbox", boxes)):
        good = (np.abs(values) < LARGEST).reshape(len(persons), -1).all(axis=1) if persons else np.ones(0, dtype=bool)
        if not good.all():
            where = f"predictions[{rows[int(np.argmin(good))]}]"
            raise UserError(f"{name}: {where}: {field}: not finite, or beyond 1e9: did the model diverge?")
    return Predictions(
        image=np.array([index[one["image_id"]] for one in persons], dtype=np.int64),
        keypoints=keypoints,
        score=score,
        area=boxes[:, 2] * boxes[:, 3] if boxed else body_extent(keypoints),
        annotation_id=own,
        notes=tuple(notes),
    )


def body_extent(keypoints: np.ndarray) -> np.ndarray:
    """Width × height that the 17 body keypoints of [D, 133, 3] span: [D]."""
    x, y = keypoints[:, PARTS["body"], 0], keypoints[:, PARTS["body"], 1]
    return np.ptp(x, axis=1) * np.ptp(y, axis=1)


def _persons(entries: Any, name: str, truth: GroundTruth, index: Mapping[int, int]) -> tuple[list[int], list[str]]:
    """Which entries are predictions of persons, and what to say of the others."""
    kinds, unknown = [], set()
    for i, one in enumerate(entries):
        where = f"predictions[{i}]"
        if not isinstance(one, Mapping):
            raise UserError(f"{name}: {where}: found {shorten(one)}, expected an object")
        image_id = whole(name, where, one, "image_id")
        if image_id not in index:
            unknown.add(image_id)
        if all(one.get(field) is None for field in FIELDS.values()):
            raise wrong(name, where, "keypoints", None, "51 or 399 numbers")
        kinds.append(category(name, where, one))
    if unknown:
        listed = ", ".join(map(str, sorted(unknown)[:10])) + (
            f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        )
        raise UserError(f"{name}: predictions on images that the ground truth does not list: image_id {listed}")
    categories = person_categories(set(kinds), set(truth.categories))
    rows = [i for i, kind in enumerate(kinds) if kind in categories]
    if len(rows) == len(kinds):
        return rows, []
    others = ", ".join(map(str, sorted(set(kinds) - categories)[:10]))
    persons = ", ".join(map(str, sorted(categories)))
    if not rows:
        raise UserError(f"{name}: all predictions have category_id {others}, expected {persons} (person)")
    left_out = len(kinds) - len(rows)
    return rows, [f"{name}: {left_out} of {len(kinds)} predictions are left out: category_id {others} is not a person"]


def _scores(name: str, where: str, one: Any) -> list[float]:
    score = one.get("score")
    if not is_number(score):
        raise wrong(name, where, "score", score, "a number: how sure the model is of the person, by which AP ranks")
    scores = [score]
    for part in ALL_PARTS[1:]:
        value = one.get(f"{part}_score")
        if value is not None and not is_number(value):
            raise wrong(name, where, f"{part}_score", value, "a number")
        scores.append(score if value is None else value)
    return scores
