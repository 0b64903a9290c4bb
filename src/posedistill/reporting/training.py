"""Figures and the summary of one training, from the curves that it wrote."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from posedistill.reporting.curves import TERM_COLORS, TERM_NAMES, TERM_STYLES, epoch_ticks, nothing_figure, panels
from posedistill.reporting.style import BLUE, GREY, ORANGE
from posedistill.reporting.tables import Table, key_values, number

TERMS = ("label", "feature", "logit", "total")


def terms_of(history: pd.DataFrame) -> list[str]:
    """The loss terms that this training has; `total` only where there are several."""
    found = [name for name in TERMS[:-1] if name in history and bool((history[name].dropna() != 0).any())]
    return [*found, "total"] if len(found) != 1 else found


def summary(history: pd.DataFrame) -> Table:
    """Epochs, steps, and the last value of everything that was measured."""
    if history.empty:
        return key_values({"training": "none here: the model was taken ready-made"}, ("", ""))
    last = history.ffill().iloc[-1]
    values: dict[str, object] = {"epochs": round(float(last["epoch"])), "steps": int(last["step"])}
    values |= {f"loss, {TERM_NAMES[name]}": number(float(last[name]), ".4f") for name in terms_of(history)}
    for column, name in (("accuracy", "training accuracy"), ("agreement", "agreement with the teacher")):
        if column in history and pd.notna(last[column]):
            values[name] = f"{number(100 * float(last[column]))} %"
    if "val_ap" in history and pd.notna(last["val_ap"]):
        values["validation, whole-body AP (without flip test)"] = number(100 * float(last["val_ap"]))
    return key_values(values, ("at the end", ""))


def loss_figure(history: pd.DataFrame) -> Figure:
    """Loss terms (with their weights) and the learning rate over the epochs."""
    if history.empty:
        return nothing_figure("No training here: the model was taken ready-made.")
    figure, (loss, rate) = panels(2)
    epochs = round(float(history["epoch"].max()))
    for name in terms_of(history):
        seen = history[["epoch", name]].dropna()
        loss.plot(seen["epoch"], seen[name], TERM_STYLES[name], color=TERM_COLORS[name], label=TERM_NAMES[name])
    loss.set_yscale("log")
    _log_ticks(loss)
    loss.set_title("Weighted loss terms" if len(terms_of(history)) > 1 else "Loss")
    if len(terms_of(history)) > 1:
        loss.legend()
    power = math.floor(math.log10(max(float(history["lr"].max()), 1e-12)))
    rate.plot(history["epoch"], history["lr"] / 10.0**power, color=GREY)
    rate.set_title(f"Learning rate, $10^{{{power}}}$")
    rate.set_ylim(bottom=0)
    for axes in (loss, rate):
        epoch_ticks(axes, epochs)
    return figure


def _log_ticks(axes: Axes) -> None:
    """A logarithmic axis with plain numbers; a short one has more of them in each decade."""
    low, high = axes.get_ylim()
    subs = (1, 1.2, 1.5, 2, 3, 4, 6, 8) if high < 8 * low else (1, 2, 5)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def progress_figure(history: pd.DataFrame) -> Figure:
    """Accuracy on the augmented training crops, and the validation over the epochs."""
    if history.empty:
        return nothing_figure("No training here: the model was taken ready-made.")
    figure, (left, right) = panels(2)
    epochs = round(float(history["epoch"].max()))
    if "accuracy" in history:
        seen = history[["epoch", "accuracy"]].dropna()
        left.plot(seen["epoch"], 100 * seen["accuracy"], color=BLUE)
    left.set_title("Training: keypoints within 5 % of the input, %")
    if "val_ap" in history:
        seen = history[["epoch", "val_ap"]].dropna()
        right.plot(seen["epoch"], 100 * seen["val_ap"], "o-", color=ORANGE, ms=5, clip_on=False)
    right.set_title("Validation: whole-body AP, %")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        epoch_ticks(axes, epochs)
    return figure
