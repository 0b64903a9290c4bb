"""Figures of a training: loss terms, learning rate, accuracy and validation AP over the epochs."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from posedistill.errors import UserError
from posedistill.reporting.style import BLUE, GREEN, MODEL_COLORS, MODEL_MARKERS, MODEL_NAMES, ORANGE, RED

CURVES = Path("reports/curves")
TERM_NAMES = {"label": "labels", "feature": "features", "logit": "logits", "total": "total"}
TERM_COLORS = {"label": BLUE, "feature": GREEN, "logit": ORANGE, "total": "#000000"}
TERM_STYLES = {"label": "-", "feature": "--", "logit": "-.", "total": ":"}


def read_curves(name: str, folder: Path = CURVES) -> pd.DataFrame:
    """The curves that the training of model `name` wrote."""
    path = Path(folder) / f"{name}.tsv"
    if not path.is_file():
        raise UserError(f"{path}: no such curves; run the stage that trains {name} first")
    return pd.read_csv(path, sep="\t")


def epoch_ticks(axes: Axes, epochs: int) -> None:
    """Whole epochs as ticks, about ten of them."""
    step = max(1, -(-epochs // 10))
    axes.set_xticks(range(0, epochs + 1, step))
    axes.set_xlim(0, epochs)
    axes.set_xlabel("epoch")


def panels(count: int, height: float = 3.2, width: float = 9.0) -> tuple[Figure, list[Axes]]:
    """Panels beside one another, 9 inches wide together."""
    figure, grid = plt.subplots(1, count, figsize=(width, height), squeeze=False)
    return figure, list(grid[0])


def nothing_figure(text: str) -> Figure:
    """A placeholder with the reason why there is no figure."""
    figure, (axes,) = panels(1, 0.8)
    axes.set_axis_off()
    axes.text(0, 0.5, text, va="center")
    return figure


def compare_runs(runs: Mapping[str, pd.DataFrame], column: str, title: str, scale: float = 1.0) -> Figure:
    """One column of several models' curves in one figure (validation AP of all, for example)."""
    figure, (axes,) = panels(1, 3.4)
    for name, frame in runs.items():
        if column not in frame or frame[column].isna().all():
            continue
        seen = frame[["epoch", column]].dropna()
        color, label = MODEL_COLORS.get(name, RED), MODEL_NAMES.get(name, name)
        marker = MODEL_MARKERS.get(name, "o")
        axes.plot(seen["epoch"], scale * seen[column], "-", marker=marker, ms=6, color=color, label=label)
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend()
    return figure
