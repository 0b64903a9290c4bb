"""Figures and sentences that compare models: differences with intervals and their significance."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from posedistill.keypoints import PART_NAMES
from posedistill.reporting.curves import panels
from posedistill.reporting.style import BLUE, GREY, MODEL_COLORS, MODEL_NAMES, RED
from posedistill.reporting.tables import interval, number


@dataclass(frozen=True)
class Difference:
    """A difference in points (100 × the metric) with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{number(self.mean, '+.1f')} {interval(self.low, self.high, '+.1f')}"

    @classmethod
    def of(cls, values: tuple[float, float, float] | list[float]) -> "Difference":
        """From (mean, low, high) as fractions."""
        mean, low, high = (100 * value for value in values)
        return cls(mean, low, high)


def draw_difference(axes: Axes, place: int, item: Difference) -> None:
    """A point with its interval on row `place`, filled if the interval excludes 0."""
    color = GREY if not item.significant else (BLUE if item.mean > 0 else RED)
    axes.plot([item.low, item.high], [place, place], color=color, lw=2.2, solid_capstyle="butt")
    axes.plot(item.mean, place, "o", ms=7, mfc=color if item.significant else "white", mec=color, mew=1.8)


def forest_figure(rows: Mapping[str, Mapping[str, Difference]], title: str) -> Figure:
    """Differences (comparison → part → difference) as points with intervals; those that exclude 0 are filled.

    Comparisons of a teacher with a student have a separate scale: next to such gaps, all effects of distillation
    would look like zero.
    """
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    figure, axes = panels(len(rows), max(2.4, 1.0 + 0.34 * len(parts)))
    small = 10 if len(rows) > 3 else 12
    for axis, (name, row) in zip(axes, rows.items()):
        for place, part in enumerate(parts):
            if part in row:
                draw_difference(axis, place, row[part])
        axis.axvline(0, color="#000000", lw=1)
        axis.set(ylim=(len(parts) - 0.5, -0.5))
        axis.set_title(name, fontsize=small)
        axis.set_xlabel(title + ("\n(own scale)" if _of_teacher(name) else ""), fontsize=min(small, 11))
        axis.set_yticks(range(len(parts)), [PART_NAMES.get(part, part) for part in parts] if axis is axes[0] else [])
        axis.grid(axis="y", visible=False)
        axis.set_xlim(*_range(one for other, one in rows.items() if _of_teacher(other) == _of_teacher(name)))
        axis.xaxis.set_major_locator(MaxNLocator(5))
        if _of_teacher(name):
            axis.set_facecolor("#F5F5F5")
    return figure


def _of_teacher(title: str) -> bool:
    """Whether "a − b" has a teacher on its left."""
    return "teacher" in title.partition("−")[0]


def _range(rows: Iterable[Mapping[str, Difference]]) -> tuple[float, float]:
    """The ends of an axis that holds 0 and all intervals."""
    items = [item for row in rows for item in row.values()]
    low, high = min([0.0, *(item.low for item in items)]), max([0.0, *(item.high for item in items)])
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def seeds_figure(values: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """One value for each model and seed (model → seed → value): points, with the mean as a line."""
    figure, (axes,) = panels(1, 3.2)
    for place, (model, row) in enumerate(values.items()):
        numbers = list(row.values())
        color = MODEL_COLORS.get(model, GREY)
        axes.plot(np.linspace(-0.12, 0.12, len(numbers)) + place, numbers, "o", ms=8, color=color)
        axes.plot([place - 0.28, place + 0.28], [np.mean(numbers)] * 2, color=color, lw=2.5)
    axes.set_xticks(range(len(values)), [MODEL_NAMES.get(model, model) for model in values])
    axes.set(title=title, ylabel="%", xlim=(-0.6, len(values) - 0.4))
    axes.grid(axis="x", visible=False)
    return figure
