"""Figures and the summary of one training, from the curves that it wrote."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from posedistill.reporting.curves import TERM_COLORS, TERM_NAMES, TERM_STYLES, epoch_ticks, panels
from posedistill.reporting.style import BLUE, GREY, ORANGE
from posedistill.reporting.tables import Table, key_values

TERMS = ("label", "feature", "logit", "total")


def terms_of(history: pd.DataFrame) -> list[str]:
    """The loss terms that this training has; `total` only where there are several."""
    found = [name for name in TERMS[:-1] if name in history and bool((history[name].dropna() != 0).any())]
    return [*found, "total"] if len(found) != 1 else found


def summary(history: pd.DataFrame) -> Table:
    """Epochs, steps, and the last value of everything that was measured."""
    last = history.ffill().iloc[-1]
    values: dict[str, object] = {"epochs": round(float(last["epoch"])), "steps": int(last["step"])}
    values |= {f"loss, {TERM_NAMES[name]}": f"{last[name]:.4f}" for name in terms_of(history)}
    for column, name in (("accuracy", "training accuracy"), ("agreement", "agreement with the teacher")):
        if column in history and pd.notna(last[column]):
            values[name] = f"{100 * last[column]:.1f} %"
    for column, name in (("val_ap", "whole-body AP"), ("val_oks", "mean OKS")):
        if column in history and pd.notna(last[column]):
            values[f"validation, {name}"] = f"{100 * last[column]:.1f}"
    return key_values(values, ("at the end", ""))


def loss_figure(history: pd.DataFrame) -> Figure:
    """Loss terms (with their weights) and the learning rate over the epochs."""
    figure, (loss, rate) = panels(2)
    epochs = round(float(history["epoch"].max()))
    for name in terms_of(history):
        seen = history[["epoch", name]].dropna()
        loss.plot(seen["epoch"], seen[name], TERM_STYLES[name], color=TERM_COLORS[name], label=TERM_NAMES[name])
    loss.set_yscale("log")
    loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.tick_params(axis="y", which="minor", labelsize=8)
    loss.set_title("Weighted loss terms" if len(terms_of(history)) > 1 else "Loss")
    if len(terms_of(history)) > 1:
        loss.legend()
    rate.plot(history["epoch"], history["lr"], color=GREY)
    rate.set_title("Learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3), useMathText=True)
    rate.set_ylim(bottom=0)
    for axes in (loss, rate):
        epoch_ticks(axes, epochs)
    return figure


def progress_figure(history: pd.DataFrame) -> Figure:
    """Accuracy on the augmented training crops, and the validation over the epochs."""
    figure, (left, right) = panels(2)
    epochs = round(float(history["epoch"].max()))
    if "accuracy" in history:
        seen = history[["epoch", "accuracy"]].dropna()
        left.plot(seen["epoch"], 100 * seen["accuracy"], color=BLUE)
    left.set_title("Training: keypoints within 5 % of the input, %")
    lines = (("val_ap", "whole-body AP", BLUE, "o-"), ("val_oks", "mean OKS", ORANGE, "s--"))
    for column, name, color, mark in lines:
        if column in history and history[column].notna().any():
            seen = history[["epoch", column]].dropna()
            right.plot(seen["epoch"], 100 * seen[column], mark, color=color, ms=5, label=name)
    right.set_title("Validation (moving average of the weights)")
    if right.lines:
        right.legend()
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        epoch_ticks(axes, epochs)
    return figure
