"""Write a corrected copy of an annotation file: only what was accepted in audit.json changes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posedistill.errors import UserError, shorten
from posedistill.files import atomic_path, printable
from posedistill.progress import progress
from posedistill.sources.fields import KEYPOINT_FIELDS, keypoint_numbers, numbers, whole, wrong
from posedistill.sources.json_stream import load_whole, top_level

FIELDS = ("bbox", "num_keypoints", *KEYPOINT_FIELDS.values(), *(f"{part}_valid" for part in KEYPOINT_FIELDS))
Changes = dict[int, dict[str, Any]]  # annotation id → field → new value


def apply_audit(audit: Path, annotations: Path, output: Path) -> tuple[int, int]:
    """Write `annotations` with the accepted findings of `audit` applied; → (changed, removed) annotations.

    UserError, and nothing is written, if an accepted finding is of an annotation that is not in the file or has changed
    since, or if two of them change the same field.
    """
    changes, removals, known = accepted(audit)
    entries, records = top_level(annotations, streamed="annotations")
    found: set[int] = set()
    name = printable(annotations)
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        file.write(b"{")
        for key, value in entries.items():
            file.write(_compact(key) + b": " + _compact(value) + b",\n")
        file.write(b'"annotations": [')
        first = True
        for index, record in enumerate(progress(records, desc="correct", unit="annotations")):
            identity = whole(name, f"annotations[{index}]", record, "id")
            if identity in known:
                if identity in found:
                    raise UserError(f"{name}: annotation {identity}: duplicate id")
                found.add(identity)
                _check(audit, name, record, known[identity])
                if identity in removals:
                    continue
                record = {**record, **changes.get(identity, {})}
            file.write((b"\n" if first else b",\n") + _compact(record))
            first = False
        file.write(b"\n]}\n")
        missing = sorted(known.keys() - found)
        if missing:
            raise UserError(f"{name}: there is no annotation {missing[0]}, which {printable(audit)} would change")
    return len(known) - len(removals), len(removals)


def _compact(value: Any) -> bytes:
    """Not orjson: it would write null for NaN, and refuse names that are not UTF-8."""
    return json.dumps(value, separators=(",", ":")).encode()


def _finite(values: Any) -> Any:
    """As the audit has it: JSON knows neither NaN nor infinity, orjson writes null."""
    if not isinstance(values, list):
        return values
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def decided(audit: Path) -> int:
    """In how many findings of an audit.json `accepted` is set; 0 if there is no such file."""
    return sum(row.get("accepted") is not None for row in _findings(audit)) if audit.is_file() else 0


def _findings(audit: Path) -> list[Mapping[str, Any]]:
    name, content = printable(audit), load_whole(audit, "audit")
    rows = content.get("findings") if isinstance(content, Mapping) else None
    if not isinstance(rows, list):
        raise UserError(f"{name}: expected an object with findings, as `posedistill audit` writes it")
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UserError(f"{name}: findings[{index}]: found {shorten(row)}, expected an object")
    return rows


def accepted(audit: Path) -> tuple[Changes, set[int], Changes]:
    """Of the accepted findings: new values, annotations to remove, and the values that they had in the audit."""
    name = printable(audit)
    changes: Changes = {}
    removals: set[int] = set()
    known: Changes = {}
    by_field: dict[tuple[int, str], int] = {}
    for index, row in enumerate(_findings(audit)):
        where = f"findings[{index}]"
        if row.get("accepted") not in (None, True, False):
            raise wrong(name, where, "accepted", row["accepted"], "true, false or null")
        if not row.get("accepted"):
            continue
        identity, proposed = whole(name, where, row, "annotation_id"), row.get("proposed")
        if not isinstance(row.get("points"), Mapping) or not (proposed is None or isinstance(proposed, Mapping)):
            raise UserError(f"{name}: {where}: expected objects as points and proposed")
        known.setdefault(identity, {}).update(row["points"])
        if proposed is None:
            removals.add(identity)
            continue
        _check_proposed(name, where, proposed, row["points"])
        for field, value in proposed.items():
            if (identity, field) in by_field and changes[identity][field] != value:
                raise UserError(
                    f"{name}: findings[{by_field[identity, field]}] and {where} both change {shorten(field)} of "
                    f"annotation {identity}: accept one of them, and audit the result again"
                )
            by_field[identity, field] = index
            changes.setdefault(identity, {})[field] = value
    return changes, removals, known


def _check_proposed(name: str, where: str, proposed: Mapping[str, Any], points: Mapping[str, Any]) -> None:
    """A reader may have edited the proposal; the copy must remain a file that can be read."""
    for field in proposed:
        if field not in FIELDS or field not in points:
            raise UserError(f"{name}: {where}: proposed: found {shorten(field)}, expected the fields of its points")
    keypoint_numbers(name, where, proposed)
    if "bbox" in proposed:
        numbers(name, where, "bbox", proposed["bbox"], 4)


def _check(audit: Path, name: str, record: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for field, value in known.items():
        if record.get(field) != value and _finite(record.get(field)) != value:  # the audit has null for NaN
            raise UserError(
                f"{name}: annotation {record['id']}: {field} is not as {printable(audit)} has it: "
                "the annotations have changed since the audit"
            )
