"""Figures of a distillation: decay, shares of the terms, agreement of teacher and student."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posedistill.losses import decay
from posedistill.params import Loss
from posedistill.reporting.curves import TERM_COLORS, TERM_NAMES, epoch_ticks, panels
from posedistill.reporting.style import BLUE, GREEN, ORANGE

TERMS = ("label", "feature", "logit")


def decay_figure(epochs: int, loss: Loss) -> Figure:
    """r(t) over the epochs, as configured."""
    figure, (axes,) = panels(1, 2.4)
    values = [decay(epoch, epochs) if loss.decay else 1.0 for epoch in range(epochs)]
    axes.step([*range(epochs), epochs], [*values, values[-1]], where="post", color=BLUE)
    axes.set(title="r(t), the weight of both distillation terms", ylim=(0, 1.05))
    epoch_ticks(axes, epochs)
    return figure


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
    """Share of each weighted term in the loss, and in the sum of the terms' gradient norms, in %."""
    figure, (left, right) = panels(2)
    _stack(left, history, {name: name for name in TERMS}, "Share of the loss, %")
    gradients = {name: f"grad_{name}" for name in TERMS if f"grad_{name}" in history}
    _stack(right, history, gradients, "Share of the gradient norm, %")
    left.legend(loc="lower left", facecolor="white", framealpha=0.9, frameon=True)
    return figure


def agreement_figure(history: pd.DataFrame) -> Figure:
    """Agreement of student and teacher, and accuracy of the student, in %."""
    figure, (axes,) = panels(1, 2.8)
    lines = (("agreement", "agrees with the teacher", ORANGE, "-"), ("accuracy", "right by the labels", GREEN, "--"))
    for column, name, color, style in lines:
        if column in history:
            seen = history[["epoch", column]].dropna()
            axes.plot(seen["epoch"], 100 * seen[column], style, color=color, label=name)
    axes.set(title="Keypoints of the augmented training crops, %", ylim=(0, 100))
    epoch_ticks(axes, round(float(history["epoch"].max())))
    axes.legend(loc="lower right")
    return figure
