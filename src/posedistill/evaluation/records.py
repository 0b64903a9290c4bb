"""Ground truth and predictions in COCO layout → arrays.

Both come as a path to a JSON file or as the object it holds. Keypoints are either one list of 399 numbers (133 × x, y,
v) or split as COCO-WholeBody and mmpose write them: `keypoints` (17), `foot_kpts`, `face_kpts`, `lefthand_kpts`,
`righthand_kpts`. A part that is not there counts as not labelled (ground truth) or not predicted (predictions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from posedistill.errors import UserError
from posedistill.files import loads_json
from posedistill.keypoints import NUM_KEYPOINTS, PARTS

ALL_PARTS = (*PARTS, "wholebody")  # the six that are matched; "hand" is the mean of two of them
FIELDS = {
    "body": "keypoints",
    "foot": "foot_kpts",
    "face": "face_kpts",
    "lefthand": "lefthand_kpts",
    "righthand": "righthand_kpts",
}
PART_SLICES = {**PARTS, "wholebody": slice(0, NUM_KEYPOINTS)}
AREA_OF_BOX = 0.53  # a person's share of its box, where no area is annotated (CrowdPose, xtcocotools)


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


@dataclass(frozen=True)
class Predictions:
    """D predicted persons, in the order of the file."""

    image: np.ndarray  # [D] position in the ground truth's image_ids
    keypoints: np.ndarray  # [D, 133, 3] float64: x, y, score
    score: np.ndarray  # [D, 6] of each of ALL_PARTS
    area: np.ndarray  # [D] extent of the 17 body keypoints, or that of the box (see read_predictions)
    annotation_id: np.ndarray  # [D] int64, the person whose own box was used, or -1


def load_json(source: Any, what: str) -> tuple[Any, str]:
    """The object in JSON file `source`, or `source` itself if it is no path; and a name for messages."""
    if isinstance(source, (str, Path)):
        try:
            return loads_json(Path(source).read_bytes()), str(source)
        except OSError as error:
            raise UserError(f"{what}: cannot read {source}: {(error.strerror or str(error)).lower()}") from None
        except ValueError as error:
            raise UserError(f"{what}: {source} is not valid JSON ({error})") from None
    return getattr(source, "dataset", source), what  # a pycocotools COCO object carries the file in .dataset


def read_ground_truth(source: Any, *, use_area: bool = True, name: str = "ground truth") -> GroundTruth:
    """Read COCO-WholeBody annotations (path, dict or pycocotools COCO); messages call them `name`.

    With `use_area` every annotation needs its `area`; without, it is 0.53 × width × height of the box. Annotations of
    images that are not listed are left out, as pycocotools does. UserError if the layout is wrong, an annotation id
    comes twice, or several categories have annotations.
    """
    data, name = load_json(source, name)
    if not isinstance(data, Mapping) or not isinstance(data.get("images"), list):
        raise UserError(f"{name}: not COCO annotations; expected an object with lists `images` and `annotations`")
    annotations = data.get("annotations")
    if not isinstance(annotations, list):
        raise UserError(f"{name}: no list `annotations`")
    image_ids, index = _image_index(data["images"], name)
    _require(annotations, ("id", "image_id", "bbox"), name, "annotation")
    annotations = [one for one in annotations if one["image_id"] in index]
    _one_category(annotations, name)
    ids = _column([one["id"] for one in annotations], name, "id", np.int64)
    if len(np.unique(ids)) != len(ids):
        values, counts = np.unique(ids, return_counts=True)
        raise UserError(f"{name}: annotation id {values[counts > 1][0]} comes more than once")
    box = _column([one["bbox"] for one in annotations], name, "bbox", np.float64, (4,))
    if use_area:
        missing = next((one["id"] for one in annotations if one.get("area") is None), None)
        if missing is not None:
            raise UserError(f"{name}: annotation {missing} has no `area`; without areas evaluate with use_area=False")
        area = _column([one["area"] for one in annotations], name, "area", np.float64)
    else:
        area = box[:, 3] * box[:, 2] * AREA_OF_BOX
    return GroundTruth(
        image_ids=image_ids,
        image=np.array([index[one["image_id"]] for one in annotations], dtype=np.int64),
        annotation_id=ids,
        keypoints=_keypoints(annotations, name, "annotation"),
        box=box,
        area=area,
        crowd=np.array([bool(one.get("iscrowd", 0)) for one in annotations], dtype=bool),
    )


def read_predictions(source: Any, truth: GroundTruth, category: int | None = None) -> Predictions:
    """Read COCO results (path, list, or pycocotools COCO) for the images of `truth`.

    A person's score for a part is `foot_score`, `face_score`, `lefthand_score`, `righthand_score` or `wholebody_score`
    where the entry has one, else `score`; body always uses `score` (xtcocotools). The area is the extent of the body
    keypoints; if the first entry carries a `bbox`, it is the box's, for all entries (COCO's loadRes). Entries of
    another category than `category` are left out. UserError on unknown images, and on entries that are not poses.
    """
    data, name = load_json(source, "predictions")
    if isinstance(data, Mapping) and isinstance(data.get("annotations"), list):
        data = data["annotations"]
    if not isinstance(data, Sequence) or isinstance(data, (str, bytes)):
        raise UserError(f"{name}: not COCO results; expected a list of predictions")
    _require(data, ("image_id", "keypoints", "score"), name, "prediction")
    index = {image_id: position for position, image_id in enumerate(truth.image_ids.tolist())}
    unknown = sorted({str(one["image_id"]) for one in data if one["image_id"] not in index})
    if unknown:
        listed = ", ".join(unknown[:10]) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        raise UserError(f"{name}: predictions on images that the ground truth does not list: image_id {listed}")
    first_box = data[0].get("bbox") if len(data) else None
    boxed = first_box is not None and len(first_box) > 0
    if category is not None:
        data = [one for one in data if one.get("category_id", category) == category]
    keypoints = _keypoints(data, name, "prediction")
    if boxed:
        _require(data, ("bbox",), name, "prediction")
        box = _column([one["bbox"] for one in data], name, "bbox", np.float64, (4,))
        area = box[:, 2] * box[:, 3]
    else:
        x, y = keypoints[:, PARTS["body"], 0], keypoints[:, PARTS["body"], 1]
        area = np.ptp(x, axis=1) * np.ptp(y, axis=1)
    own = [one.get("annotation_id", -1) for one in data]
    return Predictions(
        image=np.array([index[one["image_id"]] for one in data], dtype=np.int64),
        keypoints=keypoints,
        score=_part_scores(data, name),
        area=area,
        annotation_id=_column([-1 if one is None else one for one in own], name, "annotation_id", np.int64),
    )


def person_category(source: Any) -> int | None:
    """The category id that the annotations of a loaded ground truth use; None if they name none."""
    categories = {one.get("category_id") for one in source.get("annotations", [])} - {None}
    if not categories:
        categories = {one["id"] for one in source.get("categories", []) if isinstance(one, Mapping) and "id" in one}
    return categories.pop() if len(categories) == 1 else None


def _image_index(images: list, name: str) -> tuple[np.ndarray, dict]:
    _require(images, ("id",), name, "image")
    try:
        ids = sorted({one["id"] for one in images})
    except TypeError:
        raise UserError(f"{name}: image ids must be all numbers or all strings") from None
    return np.array(ids) if ids else np.empty(0, np.int64), {image_id: i for i, image_id in enumerate(ids)}


def _require(entries: Sequence, keys: tuple[str, ...], name: str, what: str) -> None:
    for i, one in enumerate(entries):
        if not isinstance(one, Mapping):
            raise UserError(f"{name}: {what} {i} is no object but {type(one).__name__}")
        for key in keys:
            if key not in one:
                raise UserError(f"{name}: {what} {i} has no `{key}`")


def _one_category(annotations: list, name: str) -> None:
    categories = {one.get("category_id") for one in annotations}
    if len(categories) > 1:
        raise UserError(f"{name}: annotations of several categories {sorted(map(str, categories))}; keep the persons")


def _column(values: list, name: str, field: str, dtype: type, shape: tuple[int, ...] = ()) -> np.ndarray:
    """One field of all entries as [N, *shape], checked to be finite numbers."""
    try:
        column: np.ndarray = np.array(values, dtype=dtype).reshape(len(values), *shape)
    except (ValueError, TypeError, OverflowError):
        wanted = f"{shape[0]} numbers" if shape else "a number"
        raise UserError(f"{name}: every `{field}` must be {wanted}") from None
    if not np.isfinite(column).all():
        raise UserError(f"{name}: `{field}` of entry {np.argwhere(~np.isfinite(column))[0][0]} is not finite")
    return column


def _keypoints(entries: Sequence, name: str, what: str) -> np.ndarray:
    """[N, 133, 3] from the 399-long list or the split fields; 0 where a field is missing."""
    full = np.zeros((len(entries), NUM_KEYPOINTS, 3))
    joined = np.array([len(_numbers(one, "keypoints")) == 3 * NUM_KEYPOINTS for one in entries], dtype=bool)
    for part, field in (*FIELDS.items(), ("wholebody", "keypoints")):
        where = np.flatnonzero(joined if part == "wholebody" else ~joined)
        part_slice = PART_SLICES[part]
        numbers = 3 * (part_slice.stop - part_slice.start)
        lists = [_numbers(entries[i], field) for i in where.tolist()]
        present = [i for i, values in enumerate(lists) if len(values)]
        wrong = next((i for i in present if len(lists[i]) != numbers), None)
        if wrong is not None:
            wanted = f"{numbers} numbers" + (f" (or {3 * NUM_KEYPOINTS})" if field == "keypoints" else "")
            raise UserError(f"{name}: {what} {where[wrong]} has {len(lists[wrong])} numbers in `{field}`, not {wanted}")
        try:  # fromiter over the chained lists: half the time of np.array on a list of lists
            flat = np.fromiter(chain.from_iterable(lists), dtype=np.float64, count=numbers * len(present))
        except (ValueError, TypeError):
            raise UserError(f"{name}: `{field}` must hold numbers only") from None
        full[where[present], part_slice] = flat.reshape(len(present), numbers // 3, 3)
    if not np.isfinite(full).all():
        raise UserError(f"{name}: {what} {np.argwhere(~np.isfinite(full))[0][0]} has keypoints that are not finite")
    return full


def _numbers(entry: Mapping, field: str) -> Any:
    values = entry.get(field)
    if values is None:
        return ()
    return values.ravel() if isinstance(values, np.ndarray) else values


def _part_scores(entries: Sequence, name: str) -> np.ndarray:
    score = _column([one["score"] for one in entries], name, "score", np.float64)
    columns = [score]
    for part in ALL_PARTS[1:]:
        key = f"{part}_score"
        given = [one.get(key) for one in entries]
        if any(value is not None for value in given):
            merged = [old if value is None else value for value, old in zip(given, score.tolist())]
            columns.append(_column(merged, name, key, np.float64))
        else:
            columns.append(score)
    return np.stack(columns, axis=1)
