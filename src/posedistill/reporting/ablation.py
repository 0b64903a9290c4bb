"""Tables and figures of the ablation: variants of the distillation, with seeds, beside the published single figures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from posedistill.reporting import published, seeds
from posedistill.reporting.comparison import draw_difference
from posedistill.reporting.curves import panels
from posedistill.reporting.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, YELLOW
from posedistill.reporting.tables import Table
from posedistill.reporting.verdict import sorted_verdicts

NAMES = {
    "baseline": "labels only",
    "feature": "+ features",
    "logit": "+ logits",
    "both": "+ both (stage 1)",
    "no-decay": "stage 1, without decay",
    "labelled": "stage 1, logits on labelled only",
    "larger-teacher": "stage 1, larger teacher input",
    "baseline-stage2": "labels only, then stage 2",
    "stage2": "stage 1, then stage 2",
}
COLORS = dict(zip(NAMES, (BLUE, GREEN, SKY, ORANGE, PINK, GREY, YELLOW, "#8C564B", RED)))


def variants_figure(
    values: Mapping[str, Mapping[str, float]],
    title: str,
    names: Mapping[str, str] = NAMES,
    colors: Mapping[str, str] = COLORS,
    baseline: str = "baseline",
) -> Figure:
    """One row for each variant: its seeds as points, their mean as a bar; the baseline's mean as a line throughout."""
    figure, (axes,) = panels(1, 0.9 + 0.36 * len(values))
    for place, (variant, row) in enumerate(values.items()):
        numbers, color = list(row.values()), colors.get(variant, GREY)
        axes.plot(numbers, np.full(len(numbers), place), "o", ms=7, color=color)
        axes.plot([np.mean(numbers)] * 2, [place - 0.3, place + 0.3], color=color, lw=3)
    if baseline in values:
        axes.axvline(float(np.mean(list(values[baseline].values()))), color=colors[baseline], lw=1, ls="--")
    axes.set_yticks(range(len(values)), [names.get(variant, variant) for variant in values])
    axes.set(title=title, ylim=(len(values) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    return figure


def differences_figure(results: Mapping[str, Any], xlabel: str) -> Figure:
    """Whole-body differences, a row each, with their intervals; filled if the interval excludes 0. Small strokes: the
    difference of each seed alone."""
    rows = seeds.differences(results)
    figure, (axes,) = panels(1, 0.9 + 0.36 * len(rows))
    for place, (title, parts) in enumerate(rows.items()):
        single = [100 * values[0] for values in results["differences"][title]["seeds"].values()]
        axes.plot(single, np.full(len(single), place - 0.28), "|", ms=8, mew=1.8, color="#000000")
        draw_difference(axes, place, parts["wholebody"])
    axes.axvline(0, color="#000000", lw=1)
    axes.set_yticks(range(len(rows)), list(rows))
    title = "Pooled over the seeds, 95 % intervals; strokes: each seed"
    axes.set(xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5), title=title)
    axes.grid(axis="y", visible=False)
    return figure


def published_table(results: Mapping[str, Any], unlabelled: Mapping[str, Any] | None = None) -> Table:
    """Our AP of the variants that the literature reports too, beside the published single figures.

    `unlabelled`: results of `make unlabelled`, the student that never sees a label. They are used only if they belong
    to the same run, that is, if the students trained on labels alone are the same.
    """
    if unlabelled and not _same(results["models"].get("baseline"), unlabelled["models"].get("labels")):
        unlabelled = None

    labels, logits = published.ABLATION["labels only"], published.ABLATION["teacher's logits only, no label"]
    rows = {
        "labels only": (seeds.mean_ap(results, "baseline"), labels),
        "teacher's logits, no label": (seeds.mean_ap(unlabelled, "logits") if unlabelled else None, logits),
        "labels + logits": (seeds.mean_ap(results, "logit"), None),
        "labels + features + logits (stage 1)": (seeds.mean_ap(results, "both"), None),
        "both stages": (seeds.mean_ap(results, "stage2"), None),
    }
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["here", "published"]).astype(object)
    frame = frame.where(frame.notna(), None)
    frame.index.name = "whole-body AP, %"
    notes = [
        f"Published: RTMPose-l, stage 1, COCO-WholeBody val, 256×192, one run each: {logits - labels:+.1f} for the "
        "teacher's logits without labels. Here: rendered people, mean over the seeds."
    ]
    if frame.loc["teacher's logits, no label", "here"] is None:
        notes.append("A student that never sees a label, with these settings, is trained by `make unlabelled`.")
    return Table(frame, "{:.1f}", notes)


def _same(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two results of one model, seed → metrics, agree in all seeds that both have."""
    shared = (one or {}).keys() & (other or {}).keys()
    return bool(shared) and all(one[seed] == other[seed] for seed in shared)  # type: ignore[index]


def conclusion(results: Mapping[str, Any]) -> str:
    """The comparisons sorted by outcome, as Markdown."""
    return sorted_verdicts(seeds.compared(results))


def sweep_table(results: Mapping[str, Any], metric: str = "mean_oks") -> Table:
    """Whole-body metric of stage 1 for each pair of alpha (rows) and beta (columns), in %."""
    cells: dict[float, dict[str, float]] = {}
    for name, (alpha, beta) in results["grid"].items():
        values = [100 * seed[metric]["wholebody"] for seed in results["models"][name].values()]
        cells.setdefault(beta, {})[f"α = {alpha:g}"] = float(np.mean(values))
    frame = pd.DataFrame({f"β = {beta:g}": column for beta, column in cells.items()})
    frame.index.name = f"whole-body {seeds.metric_name(metric)}, %"
    return Table(frame, "{:.1f}")


def sweep_figure(results: Mapping[str, Any]) -> Figure:
    """The grid of sweep_table as a heat map with numbers."""
    frame = sweep_table(results).frame
    figure, (axes,) = panels(1, 1.2 + 0.5 * len(frame), width=6.0)
    sns.heatmap(frame, annot=True, fmt=".1f", cmap="cividis", cbar=False, ax=axes, linewidths=1)
    axes.set(title="Whole-body mean OKS, %", ylabel="")
    axes.tick_params(axis="y", rotation=0)
    return figure
