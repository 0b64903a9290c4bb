"""Tables and figures of the audit's trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from posedistill.audit.candidates import KINDS
from posedistill.audit.findings import SURE, judged, ranked
from posedistill.audit.page import caption, tiles
from posedistill.audit.trial import PRECISION, RECALL, Curve, Trial, accused, curves
from posedistill.reporting.pictures import contact_sheet
from posedistill.reporting.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY
from posedistill.reporting.tables import Table, row_table

COLORS = dict(zip(KINDS, (PINK, RED, BLUE, ORANGE, GREEN, GREY, SKY)))
STYLES = dict(zip(KINDS, ("-", "-", "--", "-", ":", "-", "--")))
BINS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)  # of how sure the findings are
SHARES = (0.1, 0.15, 0.2, 0.3, 0.5, 1.0)  # of the part's size by which it was shifted


def kinds_table(trials: Mapping[str, Trial]) -> Table:
    """Precision and recall of each kind and seed."""
    rows: dict[str, dict[str, float]] = {text: {} for text in KINDS.values()}
    for name, trial in trials.items():
        for kind, curve in curves(trial).items():
            rows[KINDS[kind]] |= {
                f"{name}: faults": curve.injected,
                f"{name}: precision at {100 * RECALL:.0f} % recall": 100 * curve.precision_at(),
                f"{name}: recall at {100 * PRECISION:.0f} % precision": 100 * curve.recall_at(),
            }
    return row_table(rows, "fault", "{:.0f}", "Precision and recall in %.")


def accused_table(trial: Trial) -> Table:
    """Persons with correct labels for whom something is reported."""
    rows = {
        f"at least {100 * least:.0f} % sure": {"persons, %": 100 * accused(trial, least)} for least in (0.5, 0.8, SURE)
    }
    return row_table(rows, "reported although right", "{:.1f}", f"Of {len(trial.clean.people):,} persons.")


def curves_figure(found: Mapping[str, Curve]) -> Figure:
    """Precision over recall, one line per kind."""
    figure, axes = plt.subplots(figsize=(8, 4.6))
    for kind, curve in found.items():
        if not len(curve.right):
            continue
        recall, precision = np.append(0.0, curve.recall), np.append(curve.precision[:1], curve.precision)
        last = int(np.argmax(recall >= recall.max())) + 1
        axes.plot(
            100 * recall[:last], 100 * precision[:last], color=COLORS[kind], linestyle=STYLES[kind], label=KINDS[kind]
        )
    axes.plot([100 * RECALL], [90], marker="+", color="black", markersize=12, linestyle="none", label="aim")
    axes.set(xlabel="recall: share of the faults found, %", ylabel="precision: share that is right, %", ylim=(0, 104))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def sureness(trial: Trial) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Findings in BINS of how sure they are: how many, how sure on average, share that is right; [bins] each."""
    sure, truth = judged(trial.faulty.candidates, trial.faulty.people), trial.truth()
    kinds = np.array([one.kind for one in trial.faulty.candidates])
    sure, truth = sure[kinds != "outside"], truth[kinds != "outside"]
    place = np.digitize(sure, BINS[1:-1])
    listed = sure >= BINS[0]
    members = [listed & (place == i) for i in range(len(BINS) - 1)]
    count = np.array([one.sum() for one in members])
    with np.errstate(invalid="ignore"):
        mean, right = (
            np.array([values[one].sum() for one in members]) / np.where(count, count, np.nan)
            for values in (sure, truth.astype(float))
        )
    return count, mean, right


def sureness_figure(trials: Mapping[str, Trial]) -> Figure:
    """Share of the findings that are right over how sure they are."""
    figure, axes = plt.subplots(figsize=(5.6, 4.4))
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, label="calibrated")
    for (name, trial), color, marker in zip(trials.items(), (SKY, RED), ("o", "s")):
        count, mean, right = sureness(trial)
        axes.plot(100 * mean, 100 * right, color=color, marker=marker, label=f"{name} ({count.sum()} findings)")
    axes.set(xlabel="how sure, %", ylabel="share that is right, %", xlim=(0, 102), ylim=(0, 102))
    axes.legend()
    return figure


def shifts_table(trial: Trial, least: float = 0.5) -> Table:
    """Shifted parts by how far they were moved: how many are found."""
    sure, truth = judged(trial.faulty.candidates, trial.faulty.people), trial.truth()
    found = {one.identity for one, p, right in zip(trial.faulty.candidates, sure, truth) if right and p >= least}
    rows = {}
    for low, high in pairwise(SHARES):
        mine = [f for f in trial.faults if f["kind"] == "shifted" and low <= f["size"] < high]
        hits = sum(fault["annotation_id"] in found for fault in mine)
        rows[f"{low:g} to {high:g}"] = {"faults": len(mine), f"found, at least {100 * least:.0f} % sure": hits}
    return row_table(rows, "moved by (sizes of the part)", "{:.0f}")


def examples(trial: Trial, each: int = 2) -> Image.Image:
    """Label beside proposal: the surest findings of each kind."""
    rows = ranked(trial.faulty)
    return _sheet(trial, [row for kind in KINDS for row in [row for row in rows if row["kind"] == kind][:each]])


def wrong_examples(trial: Trial, kind: str, count: int = 6) -> Image.Image:
    """The surest findings of a kind that count as wrong, because no such fault was injected."""
    injected = {(fault["annotation_id"], fault["kind"], fault["part"]) for fault in trial.faults}
    mine = [row for row in ranked(trial.faulty) if row["kind"] == kind]
    return _sheet(trial, [row for row in mine if (row["annotation_id"], kind, row["part"]) not in injected][:count])


def _sheet(trial: Trial, rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    titles = [caption(row).split("; ")[0].partition(". ")[2].partition(", the same")[0] for row in rows]
    drawn = tiles(trial.faulty, rows)
    small = [tile.resize((tile.width * 5 // 6, tile.height * 5 // 6), Image.Resampling.LANCZOS) for tile in drawn]
    return contact_sheet(small, 3, titles)
