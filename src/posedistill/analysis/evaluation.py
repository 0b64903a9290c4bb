"""Figures of one model's evaluation: precision and recall, error of each keypoint, best and worst persons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from posedistill.analysis.sides import Sides, swapped_names
from posedistill.analysis.weaknesses import Paired, worst_persons
from posedistill.data.store.arrow import ValStore
from posedistill.evaluation.accumulate import RECALLS, curves
from posedistill.evaluation.evaluate import Evaluation
from posedistill.evaluation.matching import THRESHOLDS, PartMatches
from posedistill.evaluation.records import ALL_PARTS
from posedistill.evaluation.wholebody import REPORTED, Matched
from posedistill.keypoints import PART_NAMES
from posedistill.reporting.curves import panels
from posedistill.reporting.pictures import contact_sheet, prediction_beside_truth
from posedistill.reporting.style import BLUE, GREY, MODEL_NAMES, ORANGE, PART_COLORS, SKY
from posedistill.reporting.tables import Plain, Table, interval, row_table

PART_STYLES = {
    "body": "-",
    "foot": "--",
    "face": "-.",
    "lefthand": ":",
    "righthand": (0, (5, 1, 1, 1)),
    "wholebody": "-",
}

COLUMNS = ("AP50", "AP75", "APM", "APL")


def metrics_table(
    metrics: Mapping[str, Any], intervals: Mapping[str, Mapping[str, Sequence[float]]], name: str = "%"
) -> Table:
    """AP and AR of each part in %, with 95 % intervals over images, and the mean OKS from own boxes."""
    rows = {}
    for part in REPORTED:
        found, ends = metrics[part], intervals.get(part, {})
        row: dict[str, Any] = {"AP": found["AP"], "AP 95 %": _ends(ends.get("AP"))}
        row |= {name: found[name] for name in COLUMNS}
        row |= {"AR": found["AR"], "AR 95 %": _ends(ends.get("AR")), "mean OKS": metrics["mean_oks"][part]}
        rows[PART_NAMES[part]] = row
    formats = dict.fromkeys(("AP", *COLUMNS, "AR", "mean OKS"), _percent)
    note = "Intervals: bootstrap over images. M and L: persons of 32² to 96² and over 96² pixels."
    return row_table(rows, name, formats, note)


def _percent(value: float) -> str:
    return "–" if value < 0 else f"{100 * value:.1f}"


def _ends(ends: Sequence[float] | None) -> str | None:
    return None if ends is None or ends[0] < 0 else interval(100 * ends[0], 100 * ends[1])


def share_table(frame: pd.DataFrame, index: str, counts: Sequence[str] = (), notes: str = "") -> Table:
    """A table of fractions in [0, 1] shown in %, with `counts` as whole numbers and column `index` first."""
    shown = frame.replace({index: PART_NAMES}).set_index(index).rename(columns=PART_NAMES)
    numbers: dict[Any, str] = {name: "{:,}" if name in counts else "{:.1f}" for name in shown.select_dtypes("number")}
    scaled = shown.copy()
    for name in numbers:
        if name not in counts:
            scaled[name] = 100 * shown[name]
    scaled.index.name = f"{index}, %"
    return Table(scaled, numbers, notes)


def facts(evaluation: Evaluation) -> dict[str, Any]:
    """What was evaluated: the model, its size and the validation set."""
    return {
        "model": MODEL_NAMES.get(evaluation.model, evaluation.model),
        "parameters": evaluation.parameters,
        "multiply-adds of one person": evaluation.macs,
        "validation set": evaluation.val_set,
        "images": evaluation.images,
        "labelled persons": evaluation.persons,
    }


def oks_by_part(evaluation: Evaluation) -> dict[str, NDArray]:
    """OKS of the single persons, part → values in [0, 1], NaN where a person has nothing labelled in the part."""
    return {part: evaluation.person_oks.oks[:, i] for i, part in enumerate(ALL_PARTS)}


def best_persons(matched: Matched, paired: Paired, count: int) -> pd.DataFrame:
    """The persons with the highest whole-body OKS, of those with at least half of their keypoints labelled."""
    found = worst_persons(matched, paired, len(paired.oks))
    labelled = (matched.truth.keypoints[found["person"].to_numpy(), :, 2] > 0).sum(1)
    return found[labelled >= 67].iloc[::-1].head(count)


def with_sides(persons: pd.DataFrame, paired: Paired, found: Sides) -> pd.DataFrame:
    """`persons` with a column `swapped`: "wrists, hands", or "" where left and right are where they belong."""
    row_of = {person: row for row, person in enumerate(paired.person.tolist())}
    swapped = [", ".join(swapped_names(found, row_of[person])) for person in persons["person"].tolist()]
    return persons.assign(swapped=swapped)


def persons_table(persons: pd.DataFrame) -> Table:
    """The persons of a sheet: image, OKS, the part that loses most, and which sides are swapped."""
    rows = {
        str(i + 1): {
            "image": str(row["image_id"]),
            "OKS, %": f"{100 * row['oks']:.0f}",
            "loses most in": PART_NAMES[row["lost_most"]],
            "sides swapped": row["swapped"] or None,
        }
        for i, row in enumerate(persons.to_dict("records"))
    }
    return row_table(rows, "")


def image_reader(val_set: str) -> Callable[[int], Image.Image]:
    """image_id → the picture, from a prepared validation store."""
    store = ValStore(Path("prepared") / f"val-{val_set}")
    place = {image_id: i for i, image_id in enumerate(store.image_ids.tolist())}
    return lambda image_id: Image.fromarray(store.picture(place[image_id]))


def other_sets(evaluation: Evaluation) -> list[Any]:
    """Tables of the further validation sets, or a sentence in their place."""
    if not evaluation.others:
        return [Plain("There is one validation set.")]
    return [metrics_table(other.content(), other.intervals, other.val_set) for other in evaluation.others]


def person_sheet(
    matched: Matched, persons: pd.DataFrame, image_of: Callable[[int], Image.Image], columns: int = 4
) -> Image.Image:
    """Truth (left) and prediction (right) of persons, a row each in `persons` (person, predicted, image_id, oks, and
    optionally swapped: which left and right groups are exchanged)."""
    tiles, titles = [], []
    for row in persons.to_dict("records"):
        truth = matched.truth.keypoints[row["person"]]
        prediction = matched.predictions.keypoints[row["predicted"]]
        box = matched.truth.box[row["person"]]
        tiles.append(prediction_beside_truth(image_of(int(row["image_id"])), box, truth, prediction, (108, 144)))
        swapped = row.get("swapped") or ""
        note = f", {'sides' if ',' in swapped else swapped} swapped" if swapped else ""
        titles.append(f"{row['image_id']}: OKS {100 * row['oks']:.0f} %{note}")
    return contact_sheet(tiles, columns, titles)


def precision_recall_figure(parts: Mapping[str, PartMatches]) -> Figure:
    """Precision over recall: the whole body at several OKS thresholds, and each part averaged over all of them."""
    figure, (left, right) = panels(2, 3.8)
    precision = curves(parts["wholebody"]).precision[0]  # [T, R] of persons of all sizes
    for t, color in zip((0, 3, 5, 7), (SKY, BLUE, ORANGE, GREY)):
        left.plot(
            100 * RECALLS, 100 * np.clip(precision[t], 0, None), color=color, label=f"OKS ≥ {100 * THRESHOLDS[t]:.0f} %"
        )
    for part, matches in parts.items():
        mean = 100 * np.clip(curves(matches).precision[0], 0, None).mean(0)
        width = 2.6 if part == "wholebody" else 1.6
        right.plot(
            100 * RECALLS, mean, linestyle=PART_STYLES[part], color=PART_COLORS[part], label=PART_NAMES[part], lw=width
        )
    left.set_title("Whole body, by OKS threshold")
    right.set_title("Each part, mean over the thresholds")
    for axes in (left, right):
        axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="recall, %", ylabel="precision, %")
        axes.legend()
    return figure


def oks_figure(oks: Mapping[str, NDArray]) -> Figure:
    """Share of the persons whose OKS is at least x, one line per part, in % (given in [0, 1], NaN where unlabelled)."""
    figure, (axes,) = panels(1, 3.6)
    for part, values in oks.items():
        present = np.sort(100 * values[np.isfinite(values)])
        if not len(present):
            continue
        share = 100 * (1 - np.arange(len(present)) / len(present))
        style: dict[str, Any] = {
            "color": PART_COLORS[part],
            "lw": 2.6 if part == "wholebody" else 1.6,
            "linestyle": PART_STYLES[part],
        }
        axes.plot([0, *present, 100], [100, *share, 0], drawstyle="steps-pre", label=PART_NAMES[part], **style)
    axes.set(xlim=(0, 100), ylim=(0, 100), title="Persons whose OKS is at least x, each from its own box")
    axes.set(xlabel="OKS, %", ylabel="persons, %")
    axes.legend()
    return figure
