"""The findings as one self-contained HTML page: label beside proposal, the surest first."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from posedistill.audit.candidates import KINDS
from posedistill.audit.findings import SURE
from posedistill.audit.labels import Labelled, extent
from posedistill.audit.measure import KEYS, SIDES
from posedistill.audit.survey import Survey, counts
from posedistill.keypoints import NUM_KEYPOINTS, PART_NAMES
from posedistill.reporting.pictures import beside, crop_person, draw_skeleton
from posedistill.sources.fields import keypoints_of
from posedistill.sources.frames import load_all
from posedistill.sources.pixels import BrokenImage

FIRST = 100  # findings with a picture
TILE = (190, 250)  # width, height
AROUND = 1.25  # more is shown on all sides

_HEAD = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Label audit</title>
<style>
body { font: 15px/1.45 sans-serif; max-width: 1240px; margin: 1.5em auto; color: #222; }
figure { display: inline-block; margin: 0 14px 18px 0; vertical-align: top; width: 390px; }
figcaption { font-size: 13px; } td, th { padding: 2px 12px 2px 0; text-align: left; }
</style>
"""


def caption(row: Mapping[str, Any]) -> str:
    """One finding in words."""
    part = PART_NAMES.get(row["part"], row["part"])
    twin = f", the same as {row['same_as']}" if row["same_as"] is not None else ""
    what = KINDS[row["kind"]] + (f": {part}" if part else "")
    return f"{row['rank']}. {what}{twin}, {100 * row['sure']:.0f} % sure; annotation {row['annotation_id']}"


def audit_page(result: Survey, rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """The page: counts per kind, and the first hundred findings."""
    sure, all_ = counts(rows, list(KINDS), SURE), counts(rows, list(KINDS), 0.0)
    table = "".join(
        f"<tr><td>{html.escape(text)}</td><td>{sure[kind]}</td><td>{all_[kind]}</td></tr>\n"
        for kind, text in KINDS.items()
    )
    figures = "".join(_figure(row, tile) for row, tile in zip(rows, tiles(result, rows[:FIRST])))
    return (
        f"{_HEAD}<h1>Label audit</h1>\n<p>{html.escape(title)}</p>\n"
        f"<table><tr><th>kind</th><th>at least {100 * SURE:.0f} % sure</th><th>listed</th></tr>\n{table}</table>\n"
        "<p>Left: the label. Right: the proposed correction. To correct, set "
        "<code>accepted</code> of a finding in audit.json to true.</p>\n"
        f"{figures}</html>\n"
    )


def _figure(row: Mapping[str, Any], tile: Image.Image) -> str:
    buffer = io.BytesIO()
    tile.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption(row))
    return (
        f'<figure><img alt="{text}" width="{tile.width}" src="data:image/jpeg;base64,{data}"/>\n'
        f"<figcaption>{text}<br>{html.escape(row['file_name'])}</figcaption></figure>\n"
    )


def tiles(result: Survey, rows: Sequence[Mapping[str, Any]]) -> list[Image.Image]:
    """Label beside proposal of each finding; only the points in question are drawn."""
    refs = [result.pictures[row["image_id"]].ref for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (refs[i].path, refs[i].frame or 0))
    found: dict[int, Image.Image] = {}
    for i, content in zip(order, load_all([refs[i] for i in order], keep_bytes=False)):
        pixels = np.full((40, 40, 3), 128, np.uint8) if isinstance(content, BrokenImage) else content[1]
        found[i] = _tile(result, rows[i], Image.fromarray(pixels))
    return [found[i] for i in range(len(rows))]


def _tile(result: Survey, row: Mapping[str, Any], image: Image.Image) -> Image.Image:
    person = result.people[row["annotation_id"]]
    keys = _keys(row)
    label, right = person.keypoints.copy(), _right(result, row)
    for points in (label, right):
        points[~np.isin(np.arange(NUM_KEYPOINTS), keys), 2] = 0
    area = _area(person, np.concatenate((label, right)), whole=len(keys) == NUM_KEYPOINTS)
    halves = []
    for points, box in ((label, person.box), (right, (row["proposed"] or {}).get("bbox", person.box))):
        cut, moved = crop_person(image, area.tolist(), points, TILE, AROUND)
        drawn = draw_skeleton(cut, moved)
        if row["kind"] in ("box", "double"):
            _frame(drawn, area, np.asarray(box, float))
        halves.append(drawn)
    return beside(*halves)


def _area(person: Labelled, points: np.ndarray, *, whole: bool) -> np.ndarray:
    """The area shown, (x, y, width, height): the points in question with a margin, at least a third of the person; the
    whole person if `whole`."""
    points = points[points[:, 2] > 0, :2]
    if whole or not len(points):
        points = np.vstack((points, person.box[:2], person.box[:2] + person.box[2:]))
    x, y, w, h = extent(points)
    side = 0.0 if whole else max(1.6 * max(w, h), 0.35 * max(person.box[2:]))
    grown = np.maximum((w, h), side)
    return np.concatenate(((x, y) + (np.array((w, h)) - grown) / 2, grown))


def _keys(row: Mapping[str, Any]) -> np.ndarray:
    """The keypoints that a finding is about."""
    if row["kind"] == "swapped":
        return np.concatenate(SIDES[row["part"]])
    return KEYS.get(row["part"], np.arange(NUM_KEYPOINTS))


def _right(result: Survey, row: Mapping[str, Any]) -> np.ndarray:
    """The points drawn on the right [133, 3]: the proposal; for a double the other annotation; for a box the labels."""
    if row["same_as"] is not None:
        return result.people[row["same_as"]].keypoints.copy()
    person = result.people[row["annotation_id"]]
    return keypoints_of({**person.annotation, **row["proposed"]}, np.float64)


def _frame(tile: Image.Image, area: np.ndarray, box: np.ndarray) -> None:
    corners = np.zeros((NUM_KEYPOINTS, 3))
    corners[:2, :2] = box[:2], box[:2] + box[2:]
    _, moved = crop_person(Image.new("RGB", (1, 1)), area.tolist(), corners, TILE, AROUND)
    (x0, y0), (x1, y1) = np.clip(moved[:2, :2], 0, np.array(TILE) - 1).tolist()
    ImageDraw.Draw(tile).rectangle([x0, y0, max(x0, x1), max(y0, y1)], outline="#D55E00", width=2)
