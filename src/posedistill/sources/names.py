"""How boxes are matched to pictures: by file name, or by a number. The same for `prepare` and `predict`."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from pathlib import PurePath

from posedistill.files import printable


def spelling(name: str) -> str:
    """A file name as names are compared: NFC (macOS writes ü as two characters), undecodable bytes as \\x… ."""
    return unicodedata.normalize("NFC", printable(name))


def numbers_in(names: Iterable[str]) -> dict[str, int]:
    """File name → the number that it is (785 of 000000000785.jpg); empty where two are the same (1.jpg and 01.jpg)."""
    stems = {name: PurePath(name).stem for name in names}
    found = {name: int(stem) for name, stem in stems.items() if stem.isdecimal()}
    return found if len(set(found.values())) == len(found) else {}


def ids_are_numbers(image_ids: set[int], numbers: Collection[int], places: Collection[int]) -> bool:
    """Whether the image_ids of boxes are the numbers in the pictures' names, rather than their places.

    Numbers go first, as COCO has them, then places. Where neither fits all ids, as with the detections of a whole data
    set and a few of its pictures, they are numbers if there are any.
    """
    return bool(image_ids and numbers) and (image_ids <= set(numbers) or not image_ids <= set(places))
