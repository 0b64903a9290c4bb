"""Figures and the summary of one training, from the curves that it wrote."""

import math

import pandas as pd
from matplotlib.figure import Figure

from posedistill.reporting.curves import (
    TERM_COLORS,
    TERM_NAMES,
    TERM_STYLES,
    epoch_ticks,
    log_ticks,
    nothing_figure,
    panels,
)
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
    for column, name in (("val_oks", "mean OKS"), ("val_ap", "AP")):
        if column in history and pd.notna(last[column]):
            values[f"validation, whole-body {name} (without flip test)"] = f"{number(100 * float(last[column]))} %"
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
    log_ticks(loss)
    loss.set(title="Weighted loss terms" if len(terms_of(history)) > 1 else "Loss", ylabel="loss, log scale")
    if len(terms_of(history)) > 1:
        loss.legend()
    power = math.floor(math.log10(max(float(history["lr"].max()), 1e-12)))
    rate.plot(history["epoch"], history["lr"] / 10.0**power, color=GREY)
    rate.set(title="Learning rate", ylabel=f"learning rate, $10^{{{power}}}$")
    rate.set_ylim(bottom=0)
    for axes in (loss, rate):
        epoch_ticks(axes, epochs)
    return figure


def progress_figure(history: pd.DataFrame) -> Figure:
    """Accuracy on the augmented training crops, and mean OKS and AP of the validation, over the epochs."""
    if history.empty:
        return nothing_figure("No training here: the model was taken ready-made.")
    figure, (left, right) = panels(2)
    epochs = round(float(history["epoch"].max()))
    if "accuracy" in history:
        seen = history[["epoch", "accuracy"]].dropna()
        left.plot(seen["epoch"], 100 * seen["accuracy"], color=BLUE)
    left.set(title="Training: labelled keypoints found", ylabel="within 5 % of the input, %")
    for column, name, color, marker in (("val_oks", "mean OKS", BLUE, "s"), ("val_ap", "AP", ORANGE, "o")):
        if column in history:
            seen = history[["epoch", column]].dropna()
            right.plot(seen["epoch"], 100 * seen[column], "-", marker=marker, color=color, ms=5, label=name)
    right.set(title="Validation, whole body", ylabel="%")
    if right.lines:
        right.legend()
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        epoch_ticks(axes, epochs)
    return figure
