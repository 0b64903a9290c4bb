"""Figures and tables of the prepared data: counts, sizes, visibility of each part, overlap of boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from posedistill.data.store.arrow import TrainStore
from posedistill.evaluation.records import read_ground_truth
from posedistill.keypoints import PART_NAMES, PARTS
from posedistill.reporting.curves import panels
from posedistill.reporting.preparation import box_iou
from posedistill.reporting.style import BLUE, GREEN, GREY, ORANGE, PART_COLORS, PINK, RED
from posedistill.reporting.tables import Plain, Table, row_table

SET_COLORS = (BLUE, ORANGE, GREY, GREEN, RED, PINK)
SET_LINES = ("-", "--", ":", "-.")
CASES = 3  # named beside each reason
BROKEN = 30  # pictures listed


@dataclass(frozen=True)
class PersonTable:
    """Persons of one set: keypoints [N, 133, 3] (x, y in pixels of the image, visibility), boxes [N, 4] (x, y, width,
    height) and the image of each."""

    keypoints: NDArray
    boxes: NDArray
    image_ids: NDArray

    @classmethod
    def from_coco(cls, annotations: Any) -> "PersonTable":
        """From a COCO-WholeBody file (path or its content), without crowds."""
        truth = read_ground_truth(annotations)
        rows = np.flatnonzero(~truth.crowd)
        return cls(truth.keypoints[rows], truth.box[rows], truth.image[rows])

    @classmethod
    def from_store(cls, store: TrainStore) -> "PersonTable":
        """From a training store, brought back from the pixels of its crops to those of the images."""
        factor, origin = store.column("factor")[:, None], store.column("origin")[:, None]  # [N, 1, 2]
        keypoints, boxes = store.column("keypoints").astype(np.float64), store.column("box").astype(np.float64)
        keypoints[..., :2] = (keypoints[..., :2] + 0.5) / factor - 0.5 + origin
        boxes[:, :2] = (boxes[:, :2] + 0.5) / factor[:, 0] - 0.5 + origin[:, 0]
        boxes[:, 2:] /= factor[:, 0]
        return cls(keypoints, boxes, store.column("image_id"))

    @classmethod
    def from_prepared(cls, prepared: Path = Path("prepared")) -> dict[str, "PersonTable"]:
        """The training set and every validation set of a prepared folder, by name."""
        sets = {"train": cls.from_store(TrainStore(prepared / "train"))}
        for folder in sorted(prepared.glob("val-*")):
            sets[folder.name] = cls.from_coco(folder / "gt.json")
        return sets

    def extent(self, part: str) -> NDArray:
        """Longer side of the labelled points of a part in pixels; NaN where fewer than 3 are labelled. float64 [N]"""
        points = self.keypoints[:, PARTS[part]]
        labelled = points[..., 2:] > 0
        xy = np.where(labelled, points[..., :2], np.nan)
        enough = labelled[..., 0].sum(1) >= 3
        extent = np.full(len(points), np.nan)
        extent[enough] = (np.nanmax(xy[enough], 1) - np.nanmin(xy[enough], 1)).max(1)
        return extent

    def hands(self) -> NDArray:
        """Extents of all left, then all right hands: float64 [2N]."""
        return np.concatenate([self.extent("lefthand"), self.extent("righthand")])

    def overlap(self) -> NDArray:
        """Largest IoU of each box with another box of its image: float64 [N], 0 if alone or apart."""
        best = np.zeros(len(self.boxes))
        for image in np.unique(self.image_ids):
            rows = np.flatnonzero(self.image_ids == image)
            if len(rows) > 1:
                iou = box_iou(self.boxes[rows], self.boxes[rows])
                np.fill_diagonal(iou, 0)
                best[rows] = iou.max(1)
        return best


def funnel_table(funnels: Sequence[Mapping[str, Any]]) -> Table:
    """Records read and kept, and the reasons for dropping the others; `funnels` as in prepared/report.json."""
    rows = []
    for funnel in funnels:
        counts = [("read", funnel["read"], "")]
        counts += [(name, count, "dropped: ") for name, count in funnel["dropped"].items()]
        counts.append(("kept", funnel["kept"], ""))
        counts += [(name, count, "kept, but: ") for name, count in funnel["notes"].items()]
        source = f"{funnel['set']}: {funnel['source']}, {funnel['what']}"
        for name, count, sign in counts:
            cases = funnel["examples"].get(name, [])
            shown = ", ".join(cases[:CASES]) + (", …" if len(cases) > CASES else "")
            rows.append({"source": source, "step": sign + name, "count": count, "cases": shown})
    frame = pd.DataFrame(rows, columns=["source", "step", "count", "cases"]).set_index("source")
    return Table(frame, {"count": "{:,}"}, "cases: the first few; prepared/report.json lists up to 20 of each kind.")


def broken_table(broken: Sequence[Mapping[str, Any]]) -> Table | Plain:
    """The pictures that could not be used; `broken` as in prepared/report.json."""
    if not broken:
        return Plain("Every picture could be read.")
    columns = ["set", "source", "picture", "reason", "persons"]
    frame = pd.DataFrame(broken[:BROKEN], columns=columns).set_index("set")
    left = len(broken) - len(frame)
    return Table(frame, notes=f"{left:,} more in prepared/report.json." if left else ())


def stores_table(sets: Mapping[str, Mapping[str, Any]]) -> Table:
    """Files read, and contents and size of each store; `sets` as in prepared/report.json."""
    rows = {}
    for name, entry in sets.items():
        raw = entry["sources"]
        rows[name] = {
            "files read": sum(source["files"] for source in raw),
            "MB read": sum(source["bytes"] for source in raw) / 1e6,
            "pictures left out": entry["broken pictures"],
            "images": entry["images"],
            "persons or boxes": entry["persons"],
            "MB": entry["bytes"] / 1e6,
            "bytes per person": entry["bytes"] / entry["persons"] if entry["persons"] else None,
            "stored smaller, %": 100 * entry["reduced share"] if "reduced share" in entry else None,
        }
    formats = dict.fromkeys(("files read", "pictures left out", "images", "persons or boxes"), "{:,}")
    formats |= {"MB read": "{:,.1f}", "MB": "{:,.1f}", "bytes per person": "{:,.0f}", "stored smaller, %": "{:.1f}"}
    return row_table(rows, "store", formats)


def boxes_table(sets: Mapping[str, Mapping[str, Any]]) -> Table | Plain:
    """How well detector boxes cover the annotated persons; `sets` as in prepared/report.json."""
    found = {name: entry["overlap"] for name, entry in sets.items() if "overlap" in entry}
    if not found:
        return Plain("Validation boxes are the annotated ones.")
    rows = {}
    for name, overlap in found.items():
        recall = {f"found at IoU {step}, %": f"{100 * (share or 0):.1f}" for step, share in overlap["recall"].items()}
        counts = {"boxes": overlap["detections"], "annotated persons": overlap["annotated persons"]}
        rows[name] = {**counts, "mean best IoU": overlap["mean best IoU"], **recall}
    formats = {"boxes": "{:,}", "annotated persons": "{:,}", "mean best IoU": "{:.3f}"}
    return row_table(rows, "set", formats)


def detector_figures(sets: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """`boxes_figure` if detector boxes are used, otherwise an empty list."""
    return [boxes_figure(sets)] if any("overlap" in entry for entry in sets.values()) else []


def boxes_figure(sets: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Best IoU of a detector box with each annotated person, one panel per set that has detector boxes."""
    found = {name: entry["overlap"] for name, entry in sets.items() if "overlap" in entry}
    figure, axes = panels(len(found), 2.9)
    for axis, (name, overlap) in zip(axes, found.items()):
        steps = np.linspace(0, 1, len(overlap["histogram"]) + 1)
        axis.bar(steps[:-1], overlap["histogram"], width=steps[1], align="edge", color=ORANGE, lw=0.3)
        axis.set(title=f"{name}: best detector box", xlabel="IoU with the annotated box", ylabel="persons", xlim=(0, 1))
    return figure


def counts_table(sets: Mapping[str, PersonTable]) -> Table:
    """Images, persons, labelled keypoints and median sizes of each set."""
    rows = {}
    for name, persons in sets.items():
        rows[name] = {
            "images": len(np.unique(persons.image_ids)),
            "persons": len(persons.boxes),
            "labelled keypoints": int((persons.keypoints[..., 2] > 0).sum()),
            "median box height, px": _median(persons.boxes[:, 3]),
            "median face, px": _median(persons.extent("face")),
            "median hand, px": _median(persons.hands()),
        }
    counts = dict.fromkeys(("images", "persons", "labelled keypoints"), "{:,}")
    sizes = dict.fromkeys(("median box height, px", "median face, px", "median hand, px"), "{:.0f}")
    return row_table(rows, "set", counts | sizes)


def visibility_table(sets: Mapping[str, PersonTable]) -> Table:
    """Per part: persons with a labelled point of it, their share, and the share of its points that are labelled."""
    columns: dict[str, list[float]] = {}
    for name, persons in sets.items():
        seen = [persons.keypoints[:, part, 2] > 0 for part in PARTS.values()]
        columns[f"{name}: persons"] = [int(part.any(1).sum()) for part in seen]
        columns[f"{name}: persons, %"] = [100 * float(part.any(1).mean()) if len(part) else np.nan for part in seen]
        columns[f"{name}: points, %"] = [100 * float(part.mean()) if len(part) else np.nan for part in seen]
    frame = pd.DataFrame(columns, index=[PART_NAMES[part] for part in PARTS])
    frame.index.name = "labelled"
    return Table(frame, {name: "{:.0f}" if name.endswith("%") else "{:,}" for name in frame.columns})


def visibility_figure(sets: Mapping[str, PersonTable]) -> Figure:
    """Share of persons in whom each keypoint is labelled, one line per set, parts as bands."""
    figure, (axes,) = panels(1, 3.2)
    for (name, persons), color, line in zip(sets.items(), cycle(SET_COLORS), cycle(SET_LINES)):
        share = 100 * (persons.keypoints[..., 2] > 0).mean(0)
        axes.plot(np.arange(133), share, line, color=color, label=name, lw=1.4)
    for part, where in PARTS.items():
        axes.axvspan(where.start - 0.5, where.stop - 0.5, color=PART_COLORS[part], alpha=0.10, lw=0)
        angle = 90 if part == "foot" else 0
        axes.text((where.start + where.stop - 1) / 2, 3, PART_NAMES[part], ha="center", rotation=angle, fontsize=10)
    axes.set(xlim=(-0.5, 132.5), ylim=(0, 104), xlabel="keypoint", ylabel="persons, %")
    axes.set_title("Persons with the keypoint labelled")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    return figure


def size_figure(persons: PersonTable) -> Figure:
    """Sizes of persons, faces and hands in the image, in pixels."""
    figure, axes = panels(3, 2.9)
    shown = (
        ("person (box height)", persons.boxes[:, 3], "body"),
        ("face", persons.extent("face"), "face"),
        ("hand", persons.hands(), "hand"),
    )
    for axis, (title, values, part) in zip(axes, shown):
        sns.histplot(values[np.isfinite(values)], bins=30, color=PART_COLORS[part], ax=axis, lw=0.3)
        axis.set(title=title, xlabel="pixels", ylabel="count" if axis is axes[0] else "")
    return figure


def overlap_figure(persons: PersonTable) -> Figure:
    """Persons per image, and overlap of boxes."""
    figure, axes = panels(2, 2.9)
    _, count = np.unique(persons.image_ids, return_counts=True)
    numbers, images = np.unique(count, return_counts=True)
    axes[0].bar([str(number) for number in numbers], images, color=BLUE)
    axes[0].set(title="Persons per image", xlabel="persons", ylabel="images")
    axes[0].grid(axis="x", visible=False)
    overlap = persons.overlap()
    sns.histplot(overlap[overlap > 0], bins=np.linspace(0, 1, 21), color=ORANGE, ax=axes[1], lw=0.3)
    alone = 100 * float((overlap == 0).mean()) if len(overlap) else 0.0
    axes[1].set(title=f"Overlap with another box ({alone:.0f} %: none)", xlabel="IoU", ylabel="persons")
    return figure


def _median(values: NDArray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")
