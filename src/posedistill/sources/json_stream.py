"""Read JSON files written by other programs, a large COCO file one record at a time.

The training file of COCO-WholeBody holds 262,000 annotations of some 700 numbers each: as Python objects it would take
several gigabytes. The file is mapped into memory, and its records are found and parsed one by one.

Beyond the standard: NaN and Infinity, a byte order mark, and lone surrogates (names that are not UTF-8) are read.
Not ijson: as fast (both 1.4 s for 20,000 annotations, 70 MB) and as small in memory, but it stops at NaN and at 1e400,
silently joins entries that occur twice, and has to read the file twice where `images` follows `annotations`.
"""

from __future__ import annotations

import json
import mmap
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posedistill.errors import UserError, shorten
from posedistill.files import loads_json, printable, refusal

_STRING = rb'"(?:[^"\\]|\\.)*"'
_BRACES = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_KEY = re.compile(rb"\s*,?\s*(" + _STRING + rb")\s*:\s*", re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|[^,}\]]+", re.DOTALL)
_CLOSING = re.compile(rb"\s*\}")
_NEXT = re.compile(rb"\s*([,\]{])")
_MOST = 2**32  # bytes read from a pipe
_OTHER_FILES = {b"\x1f\x8b": "a gzip file", b"PK\x03\x04": "a zip file", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def load_whole(path: Path, what: str) -> Any:
    """The content of a JSON file. UserError, calling it `what`, if it is missing or not JSON."""
    return _loads(bytes(_content(path, what)), path, "the file")


def top_level(path: Path, *, streamed: str) -> tuple[dict[str, Any], Iterator[Any]]:
    """All top-level entries of a JSON object apart from list `streamed`, and an iterator over that list's records.

    Raises UserError if the file is missing, empty, cut off or not a JSON object, if an entry occurs twice or `streamed`
    not at all, or if a record is not an object.
    """
    data = _content(path, "annotation file")
    entries, start = _scan(data, path, streamed)
    return entries, _records(data, path, streamed, start)


def _content(path: Path, what: str) -> mmap.mmap | bytes:
    """A file's bytes, mapped. Of a pipe, only one that a shell has opened: any other may never have a writer."""
    try:
        status = path.stat()
        opened = str(path) == "/dev/stdin" or str(path.parent) in ("/dev/fd", "/proc/self/fd")
        if not stat.S_ISREG(status.st_mode) and not (stat.S_ISFIFO(status.st_mode) and opened):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
            raise UserError(f"cannot read {what} {printable(path)}: it is {kind}, expected a file")
        with path.open("rb") as file:
            if stat.S_ISREG(status.st_mode) and status.st_size:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            data = file.read(_MOST + 1)
    except FileNotFoundError:
        raise UserError(f"there is no {what} {printable(path)}") from None
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and (refusal(error) or error.strerror)) or str(error)
        raise UserError(f"cannot read {what} {printable(path)}: {reason.lower()}") from error
    if len(data) > _MOST:
        raise UserError(
            f"cannot read {what} {printable(path)}: more than {_MOST} bytes come out of it, expected a file"
        )
    return data


def _loads(raw: bytes, path: Path, where: str) -> Any:
    try:
        return loads_json(raw)
    except ValueError:
        pass
    try:
        return json.loads(raw)  # the standard library reads what the module's first lines list
    except (ValueError, RecursionError) as error:
        if _ends_early(error):
            raise UserError(
                f"{printable(path)}: {shorten(where)} is not valid JSON: cut off at byte {len(raw)}"
            ) from error
        raise UserError(f"{printable(path)}: {shorten(where)} is not valid JSON ({shorten(str(error))})") from error


def _ends_early(error: Exception) -> bool:
    """Whether parsing failed because the text ends, within a string or between two values."""
    if not isinstance(error, json.JSONDecodeError) or not error.doc.strip():
        return False
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")


def _scan(data: mmap.mmap | bytes, path: Path, streamed: str) -> tuple[dict[str, Any], int]:
    """Parse every entry but `streamed`, of which the position after its opening bracket is returned."""
    name = printable(path)
    position = 0
    while position < len(data) and data[position] in b" \t\r\n\xef\xbb\xbf":
        position += 1
    if position == len(data) or data[position] != ord("{"):
        kind = next((kind for start, kind in _OTHER_FILES.items() if data[: len(start)] == start), None)
        found = f", found {kind}" if kind else ""
        raise UserError(f"{name}: expected a JSON object (UTF-8) with images and annotations{found}")
    entries: dict[str, Any] = {}
    first = None
    position += 1
    while match := _KEY.match(data, position):
        key = _loads(match.group(1), path, "a key")
        if key in entries or (key == streamed and first is not None):
            raise UserError(f"{name}: the file: {shorten(key)}: occurs twice")
        start = match.end()
        if start == len(data):
            raise _broken(data, name, start)
        if data[start] in b"{[":
            end = _end_of(data, start)
            if end < 0:
                raise UserError(f"{name}: {shorten(key)} is not closed (the file is cut off at byte {len(data)})")
        else:
            value = _SCALAR.match(data, start)
            end = value.end() if value else start
        if key != streamed:
            entries[key] = _loads(data[start:end], path, key)
        elif data[start : start + 1] == b"[":
            first = start + 1
        else:
            raise UserError(f"{name}: the file: {streamed}: expected a list")
        position = end
    closing = _CLOSING.match(data, position)
    if not closing:
        raise _broken(data, name, position)
    if data[closing.end() :].strip():
        raise UserError(f"{name}: the file goes on after its end at byte {closing.end()}: expected one object")
    if first is None:
        raise UserError(f"{name}: the file: {streamed}: found nothing, expected a list")
    return entries, first


def _broken(data: mmap.mmap | bytes, name: str, position: int) -> UserError:
    """The error for an object that does not go on at `position` as it should."""
    if data[-1:] != b"}":
        return UserError(f"{name}: the file is not valid JSON: cut off at byte {len(data)}")
    return UserError(f"{name}: the file is not valid JSON near byte {position}")


def _end_of(data: mmap.mmap | bytes, start: int) -> int:
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


def _records(data: mmap.mmap | bytes, path: Path, name: str, position: int) -> Iterator[Any]:
    index = 0
    while True:
        match = _NEXT.match(data, position)
        if match and match.group(1) == b",":
            position = match.end()
            continue
        if match and match.group(1) == b"]":
            return
        if not match:
            raise UserError(f"{printable(path)}: {name}[{index}]: expected an object")
        record, position = _record(data, match.start(1), path, f"{name}[{index}]")
        yield record
        index += 1


def _record(data: mmap.mmap | bytes, start: int, path: Path, where: str) -> tuple[Any, int]:
    """The object at `start`, and the position after it."""
    end = data.find(b"}", start) + 1
    try:
        return loads_json(data[start:end]), end  # nearly always the first brace closes it, ten times as fast to find
    except ValueError:
        end = _end_of(data, start)
        return _loads(data[start:end], path, where), end
