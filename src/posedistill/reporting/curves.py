"""Curves of several trainings: reading them, and loss, mean OKS and AP of all models in one figure."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from posedistill.errors import UserError
from posedistill.reporting.style import BLUE, GREEN, MODEL_COLORS, MODEL_MARKERS, MODEL_NAMES, ORANGE, RED

CURVES = Path("reports/curves")
TERM_NAMES = {"label": "labels", "feature": "features", "logit": "logits", "total": "total"}
TERM_COLORS = {"label": BLUE, "feature": GREEN, "logit": ORANGE, "total": "#000000"}
TERM_STYLES = {"label": "-", "feature": "--", "logit": "-.", "total": ":"}

# Processor time of a training step over that of a baseline step: batch 16 at 128×96, sizes nw and n, one thread.
COSTS = {"teacher": 2.2, "baseline": 1.0, "stage1": 1.75, "stage2": 0.6}
# What the figure of all trainings shows: column of the curves, title, factor.
SHOWN = {"loss": ("training loss", 1.0), "val_oks": ("mean OKS, %", 100.0), "val_ap": ("AP, %", 100.0)}


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


def log_ticks(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers; a short one has more of them in each decade."""
    low, high = axes.get_ylim()
    subs = (1, 1.2, 1.5, 2, 3, 4, 6, 8) if high < 8 * low else (1, 2, 5) if high < 200 * low else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


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


def all_curves(runs: Mapping[str, pd.DataFrame], costs: Mapping[str, float] = COSTS) -> Figure:
    """Loss, mean OKS and AP of all trainings: above over the epochs, below over what they cost, in baseline epochs.

    Stage 2 starts where stage 1 ends. The loss is that of the labels; stage 2, which has none, shows that of its
    logits. A model that was not trained here, or was not validated, has no line.
    """
    figure, grid = plt.subplots(2, len(SHOWN), figsize=(9, 5.6), sharey="col")
    for axes_row, weights, label in (
        (grid[0], dict.fromkeys(runs, 1.0), "epochs"),
        (grid[1], costs, "cost, in baseline epochs"),
    ):
        starts = {"stage2": _end(runs.get("stage1")) * weights.get("stage1", 1.0)}
        for name, frame in runs.items():
            if frame.empty:
                continue
            place = starts.get(name, 0.0) + frame["epoch"] * weights.get(name, 1.0)
            style = {"color": MODEL_COLORS.get(name, RED), "label": MODEL_NAMES.get(name, name)}
            for axes, (column, (_, scale)) in zip(axes_row, SHOWN.items()):
                values = _loss(frame) if column == "loss" else scale * frame.get(column, pd.Series(dtype=float))
                seen = values.dropna()
                if column == "loss":
                    axes.plot(place[seen.index], seen, "--" if _loss_is_of_logits(frame) else "-", lw=1.3, **style)
                else:
                    axes.plot(place[seen.index], seen, "-", marker=MODEL_MARKERS.get(name, "o"), ms=4, lw=1.5, **style)
        for axes in axes_row:
            axes.set_xlim(left=0)
            axes.set_xlabel(label)
    for axes, (column, (title, _)) in zip(grid[0], SHOWN.items()):
        axes.set_title(title)
        if column == "loss":
            axes.set_yscale("log")
            log_ticks(axes)
        else:
            axes.set_ylim(bottom=0)
    grid[0][0].set_ylabel("loss, log scale")
    grid[1][0].set_ylabel("loss, log scale")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=max(1, len(labels)))
    return figure


def _end(frame: pd.DataFrame | None) -> float:
    return 0.0 if frame is None or frame.empty else float(frame["epoch"].iloc[-1])


def _loss_is_of_logits(frame: pd.DataFrame) -> bool:
    return not (frame["label"].fillna(0) != 0).any()


def _loss(frame: pd.DataFrame) -> pd.Series:
    return frame["logit" if _loss_is_of_logits(frame) else "label"]


def costs_note(costs: Mapping[str, float] = COSTS) -> str:
    """What an epoch of each training costs, as a sentence."""
    others = ", ".join(f"{MODEL_NAMES[model]} {cost:g}" for model, cost in costs.items() if model != "baseline")
    return (
        f"An epoch of the baseline costs 1 (measured processor time for the default sizes, one thread); {others}. "
        "That of stage 1 holds the teacher's forward passes, that of stage 2 no backward pass through the backbone."
    ).replace("stage 1 + 2 ", "stage 2 ")
