"""Figures of one model's evaluation: precision and recall, error of each keypoint, best and worst persons."""

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from posedistill.evaluation.accumulate import RECALLS, curves
from posedistill.evaluation.matching import THRESHOLDS, PartMatches
from posedistill.keypoints import PARTS
from posedistill.reporting.curves import panels
from posedistill.reporting.style import BLUE, GREY, ORANGE, PART_COLORS, PART_NAMES, SKY

PART_STYLES = {
    "body": "-",
    "foot": "--",
    "face": "-.",
    "lefthand": ":",
    "righthand": (0, (5, 1, 1, 1)),
    "wholebody": "-",
}


def precision_recall_figure(parts: Mapping[str, PartMatches]) -> Figure:
    """Precision over recall: the whole body at several OKS thresholds, and each part averaged over all of them."""
    figure, (left, right) = panels(2, 3.8)
    precision = curves(parts["wholebody"]).precision[0]  # [T, R] of persons of all sizes
    for t, color in zip((0, 3, 5, 7), (SKY, BLUE, ORANGE, GREY)):
        left.plot(RECALLS, np.clip(precision[t], 0, None), color=color, label=f"OKS ≥ {THRESHOLDS[t]:.2f}")
    for part, matches in parts.items():
        mean = np.clip(curves(matches).precision[0], 0, None).mean(0)
        width = 2.6 if part == "wholebody" else 1.6
        right.plot(RECALLS, mean, PART_STYLES[part], color=PART_COLORS[part], label=PART_NAMES[part], lw=width)
    left.set_title("Whole body, by OKS threshold")
    right.set_title("Each part, mean over the thresholds")
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall")
        axes.legend()
    left.set_ylabel("precision")
    return figure


def keypoint_error_figure(error: Sequence[float], title: str) -> Figure:
    """One value for each of the 133 keypoints as bars, coloured by part."""
    figure, (axes,) = panels(1, 3.2)
    values = np.asarray(error, np.float64)
    for part, where in PARTS.items():
        index = np.arange(where.start, where.stop)
        axes.bar(index, values[where], width=0.9, color=PART_COLORS[part], label=PART_NAMES[part], lw=0)
    axes.set(xlim=(-1, 133), xlabel="keypoint", title=title)
    axes.grid(axis="x", visible=False)
    axes.set_ylim(0, float(np.nanmax(values, initial=0.0)) * 1.25 or 1.0)
    axes.legend(ncols=5, loc="upper left", columnspacing=1.2, handlelength=1.2)
    return figure


def oks_figure(oks: Mapping[str, NDArray]) -> Figure:
    """How the OKS of single persons is distributed in each part (arrays of values in [0, 1], NaN where unlabelled)."""
    figure, (axes,) = panels(1, 3.0)
    values = [part[np.isfinite(part)] for part in oks.values()]
    sns.boxenplot(values, palette=[PART_COLORS[part] for part in oks], ax=axes, width=0.65, showfliers=False)
    axes.set_xticks(range(len(oks)), [PART_NAMES[part] for part in oks])
    axes.set(ylim=(0, 1), title="OKS of each labelled person, from its own box", ylabel="OKS")
    axes.grid(axis="x", visible=False)
    return figure
