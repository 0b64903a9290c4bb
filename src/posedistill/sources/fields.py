"""The values of COCO-style files: what is allowed where, and how messages word what is not. Shared by all commands."""

from __future__ import annotations

import struct
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from posedistill.errors import UserError, shorten
from posedistill.files import printable
from posedistill.keypoints import NUM_KEYPOINTS, PARTS

PERSON = 1  # category of persons in COCO
LARGEST = 1e9  # pixels: a larger coordinate counts as infinite
AREA_OF_BOX = 0.53  # a person's share of its box, where no area is annotated (CrowdPose, xtcocotools)
IDS = 2**53  # JSON, Arrow and NumPy hold all smaller integers exactly
WHOLE = "a whole number below 2^53"

KEYPOINT_FIELDS = {
    "body": "keypoints",
    "foot": "foot_kpts",
    "face": "face_kpts",
    "lefthand": "lefthand_kpts",
    "righthand": "righthand_kpts",
}
JOINED = 3 * NUM_KEYPOINTS  # length of `keypoints` where it holds all parts
_COUNTS: dict[str, tuple[int, ...]] = {part: (3 * (place.stop - place.start),) for part, place in PARTS.items()}
_USUAL = [counts[0] for counts in _COUNTS.values()]
_COUNTS["body"] += (JOINED,)
_PACK = struct.Struct(f"{JOINED}d").pack  # four times as fast as np.array


def wrong(source: str | Path, where: str, field: str, found: object, expected: str) -> UserError:
    """The one line for a bad value: where it is, what was found and what would be right."""
    shown = "nothing" if found is None else shorten(repr(found) if isinstance(found, str) else found)
    return UserError(f"{printable(source)}: {where}: {field}: found {shown}, expected {expected}")


def is_whole(value: object) -> bool:
    return _is_integer(value) and abs(int(value)) < IDS


def is_number(value: object) -> TypeGuard[float]:
    """A number that a float can hold; NaN and infinity are numbers here, see `finite`."""
    return isinstance(value, (float, np.floating)) or (_is_integer(value) and abs(int(value)) < 2**1023)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def finite(value: float | None) -> bool:
    """Whether a pixel can have this coordinate: neither null, NaN, nor LARGEST or beyond."""
    return value is not None and bool(abs(value) < LARGEST)


def whole(source: str | Path, where: str, record: Any, field: str) -> int:
    if not is_whole(record.get(field)):
        raise wrong(source, where, field, record.get(field), WHOLE)
    return int(record[field])


def flag(source: str | Path, where: str, record: Any, field: str, expected: str = "0 or 1") -> int | None:
    """0 or 1, also as text; None where the field is missing or null."""
    value = record.get(field)
    if value is None:
        return None
    if type(value) in (bool, int) and value in (0, 1):  # the usual ones, for speed
        return int(value)
    for meaning in (0, 1):
        if isinstance(value, str | int | float | np.generic) and (value == meaning or value == str(meaning)):
            return meaning
    raise wrong(source, where, field, value, expected)


def category(source: str | Path, where: str, record: Any) -> int:
    """`category_id`, also as text; persons where it is missing or null."""
    value = record.get("category_id")
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    if value is not None and not is_whole(value):
        raise wrong(source, where, "category_id", value, WHOLE)
    return PERSON if value is None else int(value)


def person_categories(present: set[int], persons: set[int]) -> set[int]:
    """Categories that mean a person in a file of results; `persons`, and 0 where it is the only one present (programs
    that count categories from 0)."""
    return persons | {0} if present == {0} else persons


def is_file_name(value: object, errors: str = "surrogateescape") -> TypeGuard[str]:
    """Whether a file can have this name. Undecodable bytes on the disk are lone surrogates in Python, which `errors`
    "strict" refuses."""
    if not isinstance(value, str) or value == "" or "\0" in value:
        return False
    try:
        value.encode("utf-8", errors)
    except UnicodeEncodeError:
        return False
    return True


def numbers(source: str | Path, where: str, field: str, values: Any, *counts: int) -> None:
    """Check a list of numbers, one of `counts` long. null stands for NaN in files written by JavaScript and orjson."""
    if isinstance(values, np.ndarray):
        values = values.ravel().tolist()
    if isinstance(values, list | tuple) and len(values) in counts:
        kinds = set(map(type, values))  # a fast way through hundreds of numbers
        if kinds == {float}:
            return
        if all(value is None or is_number(value) for value in _unlike_floats(values, kinds)):
            return
    expected = " or ".join(map(str, counts)) + (" numbers" if max(counts) > 5 else " numbers: x, y, width, height")
    if not isinstance(values, list | tuple):
        raise wrong(source, where, field, values, expected)
    if len(values) not in counts:
        raise UserError(f"{printable(source)}: {where}: {field}: found {len(values)} values, expected {expected}")
    bad = next(value for value in values if value is not None and not is_number(value))
    raise wrong(source, where, field, bad, expected)


def _unlike_floats(values: Any, kinds: set[type]) -> Any:
    """The values that must be checked one by one: none if all are floats, and integers that a float can hold."""
    if kinds <= {int, float}:
        try:
            np.asarray(values, np.float64)
            return ()
        except OverflowError:
            pass
    return values


def keypoint_numbers(source: str | Path, where: str, record: Any) -> None:
    """Check the keypoint fields that an annotation or a result has."""
    if _is_usual(record):
        return
    for part, field in KEYPOINT_FIELDS.items():
        if record.get(field) is not None:
            numbers(source, where, field, record[field], *_COUNTS[part])


def _is_usual(record: Any) -> bool:
    """Whether a record has all five keypoint fields, each a list of as many numbers that a float can hold as it should
    have."""
    fields = [record.get(field) for field in KEYPOINT_FIELDS.values()]
    try:
        if [*map(len, fields)] != _USUAL:
            return False
        values = [*chain.from_iterable(fields)]
        kinds = {*map(type, values)}
        if kinds == {int, float}:
            _PACK(*values)
    except (TypeError, OverflowError, struct.error):  # without a length; too large a number
        return False
    return float in kinds and kinds <= {int, float}


def keypoints_of(record: Any, dtype: type = np.float32) -> np.ndarray:
    """[133, 3] of a checked record; parts that are missing or null are zero, null numbers NaN.

    `keypoints` holds the body alone (51 numbers), or all parts (399).
    """
    joined: list[float] = []
    for part, field in KEYPOINT_FIELDS.items():
        values = record.get(field)
        if isinstance(values, np.ndarray):
            values = values.ravel().tolist()
        joined += [0.0] * _COUNTS[part][0] if values is None else values
        if len(joined) == JOINED:
            break
    try:
        values = np.frombuffer(_PACK(*joined))
    except struct.error:  # null among them
        values = np.array(joined, np.float64)
    with np.errstate(over="ignore"):  # beyond float32: infinite
        return values.reshape(NUM_KEYPOINTS, 3).astype(dtype)
