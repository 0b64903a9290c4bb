"""Figures of a distillation: decay, shares of the terms, agreement of teacher and student."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posedistill.losses import decay
from posedistill.params import Loss
from posedistill.reporting.curves import TERM_COLORS, TERM_NAMES, TERM_STYLES, epoch_ticks, panels
from posedistill.reporting.style import BLUE, GREEN, ORANGE
from posedistill.reporting.tables import Table, row_table

TERMS = ("label", "feature", "logit")
TERM_MARKERS = {"label": "o", "feature": "s", "logit": "D"}


def decay_figure(epochs: int, loss: Loss) -> Figure:
    """The weights of both distillation terms over the epochs, as configured, as shares of α and β."""
    figure, (axes,) = panels(1, 2.6)
    values = [decay(epoch, epochs) if loss.decay else 1.0 for epoch in range(epochs)]
    axes.step([*range(epochs), epochs], [*values, values[-1]], where="post", color=ORANGE, label="r(t): both terms")
    axes.axhline(1, color=BLUE, ls="--", lw=1.4, label="1: the labels")
    axes.set(title="How much each side counts", ylabel="weight", ylim=(0, 1.1))
    epoch_ticks(axes, epochs)
    axes.legend(loc="lower left")
    return figure


def decay_table(epochs: int, loss: Loss) -> Table:
    """t, r(t) and the weights of both terms in each epoch; of many epochs the first, some between, and the last."""
    shown = sorted({round(share * (epochs - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})
    rows = {}
    for epoch in shown:
        r = decay(epoch, epochs) if loss.decay else 1.0
        rows[f"{epoch + 1} of {epochs}"] = {
            "t": str(epoch),
            "r(t)": f"{r:.3g}",
            "r(t)·α": f"{r * loss.alpha:.3g}",
            "r(t)·β": f"{r * loss.beta:.3g}",
        }
    return row_table(rows, "epoch")


def _stack(axes: Axes, history: pd.DataFrame, columns: dict[str, str], title: str) -> None:
    """Shares as stacked areas, up to the last measurement."""
    seen = history[["epoch", *columns.values()]].dropna()
    values = seen[list(columns.values())].to_numpy(float).T
    total = np.maximum(values.sum(0), 1e-12)
    colors = [TERM_COLORS[name] for name in columns]
    labels = [TERM_NAMES[name] for name in columns]
    areas = axes.stackplot(seen["epoch"], 100 * values / total, colors=colors, labels=labels, alpha=0.85, lw=0)
    for area, hatch in zip(areas, ("", "//", "..")):
        area.set(hatch=hatch, edgecolor="white")
    axes.set(title=title, ylim=(0, 100))
    epoch_ticks(axes, round(float(history["epoch"].max())))


def shares_figure(history: pd.DataFrame) -> Figure:
    """Share of each weighted term in the loss (as areas), and in the sum of the terms' gradient norms (a point for each
    time it was measured), in %."""
    figure, (left, right) = panels(2)
    _stack(left, history, {name: name for name in TERMS}, "Share of the loss, %")
    gradients = {name: f"grad_{name}" for name in TERMS if f"grad_{name}" in history}
    seen = history[["epoch", *gradients.values()]].dropna()
    total = seen[list(gradients.values())].sum(axis=1).clip(lower=1e-12)
    for name, column in gradients.items():
        style: dict[str, Any] = {"color": TERM_COLORS[name], "marker": TERM_MARKERS[name], "label": TERM_NAMES[name]}
        right.plot(seen["epoch"], 100 * seen[column] / total, TERM_STYLES[name], **style)
    right.set(title="Share of the gradient norm, %", ylim=(0, 100))
    epoch_ticks(right, round(float(history["epoch"].max())))
    left.legend(loc="lower left", facecolor="white", framealpha=0.9, frameon=True)
    if right.lines:
        right.legend()
    return figure


def agreement_figure(history: pd.DataFrame) -> Figure:
    """Agreement of student and teacher, and accuracy of the student, in %."""
    figure, (axes,) = panels(1, 2.8)
    lines = (("agreement", "agrees with the teacher", ORANGE, "-"), ("accuracy", "right by the labels", GREEN, "--"))
    for column, name, color, style in lines:
        if column in history:
            seen = history[["epoch", column]].dropna()
            axes.plot(seen["epoch"], 100 * seen[column], style, color=color, label=name)
    axes.set(title="Keypoints of the augmented training crops", ylabel="%", ylim=(0, 100))
    epoch_ticks(axes, round(float(history["epoch"].max())))
    axes.legend(loc="lower right")
    return figure
