"""Reading a large COCO JSON one record at a time.

The training file of COCO-WholeBody holds 262,000 annotations of some 700 numbers each: as Python objects it would take
several gigabytes. The file is mapped into memory, records are found by their braces and parsed one by one.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.files import loads_json

_STRING = rb'"(?:[^"\\]|\\.)*"'
_BRACES = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_OTHER_FILES = {b"\x1f\x8b": "a gzip file", b"PK\x03\x04": "a zip file", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_NEXT = re.compile(rb"\s*([,\]{])")


def _loads(raw: bytes, path: Path, where: str) -> Any:
    try:
        return loads_json(raw)
    except ValueError:
        pass
    try:
        return json.loads(raw)  # NaN and Infinity, which some exporters write, are not JSON, but Python reads them
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {where} is not valid JSON ({error})") from error


def load_whole(path: Path, what: str) -> Any:
    """All of a JSON file at once, NaN and Infinity allowed. UserError if it is missing or no JSON."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no {what} {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror}") from error
    return _loads(raw, path, "the file")


def _end_of(data: mmap.mmap, start: int) -> int:
    """Position after the bracket that closes the one at `start`; -1 if there is none."""
    depth = 0
    for match in _BRACES.finditer(data, start):
        char = data[match.start()]
        if char in b"{[":
            depth += 1
        elif char in b"}]":
            depth -= 1
            if depth == 0:
                return match.end()
    return -1


def top_level(path: Path, *, streamed: str) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """All top-level entries of a JSON object apart from list `streamed`, and an iterator over that list's records.

    Raises UserError if the file is missing, empty, cut off or no JSON object, if an entry is there twice or `streamed`
    is not, or if a record is not an object.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise UserError(f"there is no annotation file {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read annotation file {path}: {error}") from error
    entries, span = _scan(data, path, streamed)
    return entries, _records(data, path, streamed, span)


def _scan(data: mmap.mmap, path: Path, streamed: str) -> tuple[dict[str, Any], tuple[int, int]]:
    """Parse every entry but `streamed`, whose place is returned."""
    position = 0
    while position < len(data) and data[position] in b" \t\r\n\xef\xbb\xbf":
        position += 1
    if position == len(data) or data[position] != ord("{"):
        kind = next((name for start, name in _OTHER_FILES.items() if data[: len(start)] == start), None)
        found = f", found {kind}" if kind else ""
        raise UserError(f"{path}: expected a JSON object (UTF-8) with images and annotations{found}")
    entries: dict[str, Any] = {}
    span = None
    position += 1
    key_pattern = re.compile(rb"\s*,?\s*(" + _STRING + rb")\s*:\s*", re.DOTALL)
    scalar = re.compile(_STRING + rb"|[^,}\]]+", re.DOTALL)
    while True:
        match = key_pattern.match(data, position)
        if not match:
            closing = re.compile(rb"\s*\}").match(data, position)
            if not closing:
                raise UserError(f"{path}: not valid JSON near byte {position} (cut off?)")
            if data[closing.end() :].strip():
                raise UserError(f"{path}: the file goes on after its end at byte {closing.end()}: expected one object")
            if span is None:
                raise UserError(f"{path}: the file: {streamed}: found nothing, expected a list")
            return entries, span
        key = _loads(match.group(1), path, "a key")
        if key in entries or (key == streamed and span):
            raise UserError(f"{path}: the file: {key}: there twice")
        start = match.end()
        if start < len(data) and data[start] in b"{[":
            end = _end_of(data, start)
            if end < 0:
                raise UserError(f"{path}: {key} is not closed (the file is cut off)")
        else:
            value = scalar.match(data, start)
            end = value.end() if value else start
        if key == streamed and data[start : start + 1] == b"[":
            span = (start, end)
        elif key == streamed:
            raise UserError(f"{path}: {key}: expected a list")
        else:
            entries[key] = _loads(data[start:end], path, key)
        position = end


def _records(data: mmap.mmap, path: Path, name: str, span: tuple[int, int]) -> Iterator[dict[str, Any]]:
    position, index = span[0] + 1, 0
    while True:
        match = _NEXT.match(data, position)
        if match and match.group(1) == b",":
            position = match.end()
            continue
        if match and match.group(1) == b"]":
            return
        if not match:
            raise UserError(f"{path}: {name}[{index}]: expected an object")
        start = match.start(1)
        end = _end_of(data, start)
        yield _loads(data[start:end], path, f"{name}[{index}]")
        position, index = end, index + 1
