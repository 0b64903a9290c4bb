"""Figures of the card: mean OKS, differences, jitter, and a contact sheet of the steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MultipleLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont

from posedistill.keypoints import MAIN_PARTS, PART_NAMES
from posedistill.reporting.pictures import contact_sheet
from posedistill.reporting.style import (
    BLUE,
    GREEN,
    GREY,
    MODEL_COLORS,
    MODEL_MARKERS,
    ORANGE,
    PINK,
    RED,
    SKY,
)
from posedistill.stress.card import places
from posedistill.stress.shots import AXES, Shot, shots
from posedistill.stress.sitters import PICTURE, Sitter
from posedistill.stress.tables import model_name

OTHERS = ((BLUE, "o"), (ORANGE, "s"), (RED, "^"), (GREEN, "D"), (PINK, "v"), (SKY, "P"), (GREY, "X"))
TILE = 76  # pixels of a picture on the contact sheet


def card_figure(card: Mapping[str, Any]) -> Figure:
    """Mean OKS in %: one row per axis, one column per part, one line per model with its 95 % interval.

    Dotted curve: share of the part's points that are visible. Vertical line: the reference picture, common to all axes.
    """
    figure, grid = _grid(card)
    for (name, axis), row in zip(card["axes"].items(), grid):
        where = _places(name, axis)
        for part, axes in zip(MAIN_PARTS, row):
            seen = _percent(axis["seen"][part])
            axes.plot(*_closed(name, where, seen), color="black", linestyle=(0, (1, 2)), linewidth=1)
            for model, rows in axis["models"].items():
                _line(axes, name, where, rows[part], *_look(card, model))
            axes.set_ylim(0, 101)
            axes.yaxis.set_major_locator(MultipleLocator(25))
    dotted = Line2D([], [], color="black", linestyle=(0, (1, 2)), linewidth=1, label="share that is seen")
    _titles(figure, grid, card, "Mean OKS, %", [*_handles(card, card["models"]), dotted])
    return figure


def differences_figure(card: Mapping[str, Any]) -> Figure:
    """Mean OKS minus that of the first model, in points, with paired 95 % intervals; laid out as `card_figure`."""
    figure, grid = _grid(card)
    for (name, axis), row in zip(card["axes"].items(), grid):
        where = _places(name, axis)
        for part, axes in zip(MAIN_PARTS, row):
            axes.axhline(0, color="black", linewidth=0.8)
            for model, rows in axis["differences"].items():
                _line(axes, name, where, rows[part], *_look(card, model))
        low, high = (end(axes.get_ylim()[i] for axes in row) for i, end in enumerate((min, max)))
        for axes in row:  # one scale a row: parts can be compared
            axes.set_ylim(low, high)
    others = [model for model in card["models"] if model != card["first"]]
    title = f"Mean OKS minus that of the {model_name(card['first'])}, points"
    _titles(figure, grid, card, title, _handles(card, others))
    return figure


def jitter_figure(card: Mapping[str, Any]) -> Figure:
    """Jitter of a motionless person in % of its size, against the noise of the pictures."""
    jitter = card["jitter"]
    figure, grid = plt.subplots(1, len(MAIN_PARTS), figsize=(10, 2.6), sharey=True)
    for part, axes in zip(MAIN_PARTS, grid):
        for model, rows in jitter["models"].items():
            colour, marker = _look(card, model)
            axes.plot(jitter["strength"], _percent(rows[part]["mean"]), color=colour, marker=marker, markersize=4)
            axes.fill_between(
                jitter["strength"], *(_percent(rows[part][end]) for end in ("low", "high")), color=colour, alpha=0.15
            )
        axes.set(title=PART_NAMES[part], xscale="log", yscale="log", xlabel="noise, share of white")
        _log_ticks(axes, jitter["strength"])
    grid[0].set_ylabel("jitter, % of the person's size")
    figure.legend(handles=_handles(card, card["models"]), loc="outside upper center", ncols=len(card["models"]))
    return figure


def steps_sheet(sitter: Sitter, names: Sequence[str]) -> Image.Image:
    """One person at all steps: one row per axis; above each picture the measured value, in it the given box."""
    longest = max(len(AXES[name].steps) for name in names)
    tiles, titles = [], []
    for name in names:
        row = shots(sitter, AXES[name])
        blank = longest - len(row)
        tiles += [_words(AXES[name].title), *(_tile(shot) for shot in row), *[_words("")] * blank]
        values = ["nobody" if np.isinf(shot.value) else _plain(shot.value) for shot in row]
        titles += ["", *values, *[""] * blank]
    return contact_sheet(tiles, longest + 1, titles)


def _tile(shot: Shot) -> Image.Image:
    tile = Image.new("RGB", (PICTURE, PICTURE), "white")
    tile.paste(Image.fromarray(shot.picture()), (0, 0))
    x, y, w, h = shot.box
    ImageDraw.Draw(tile).rectangle([x, y, x + w, y + h], outline=(255, 230, 0), width=3)
    return tile.resize((TILE, TILE), Image.Resampling.LANCZOS)


def _words(text: str) -> Image.Image:
    """A tile with one word per line."""
    tile = Image.new("RGB", (TILE, TILE), "white")
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 11)
    ImageDraw.Draw(tile).multiline_text((0, TILE // 4), text.replace(" ", "\n"), fill="black", font=font)
    return tile


def _grid(card: Mapping[str, Any]) -> tuple[Figure, np.ndarray]:
    rows = len(card["axes"])
    figure, grid = plt.subplots(
        rows, len(MAIN_PARTS), figsize=(10, 1.55 * rows + 0.9), squeeze=False, layout="none", sharey="row"
    )
    inches = figure.get_figheight()
    figure.subplots_adjust(left=0.065, right=0.99, top=1 - 0.9 / inches, bottom=0.5 / inches, hspace=0.62, wspace=0.12)
    return figure, grid


def _titles(figure: Figure, grid: np.ndarray, card: Mapping[str, Any], title: str, handles: list[Line2D]) -> None:
    for part, axes in zip(MAIN_PARTS, grid[0]):
        axes.set_title(PART_NAMES[part])
    for (name, axis), row in zip(card["axes"].items(), grid):
        where = _places(name, axis)
        for axes in row:
            _ticks(axes, name, axis, where)
            axes.axvline(where[axis["neutral"]], color=GREY, linestyle=":", linewidth=1)
            axes.tick_params(labelsize=8, pad=1)
        row[0].set_xlabel(f"{axis['title']}, {axis['unit']}", fontsize=9, loc="left", labelpad=1)
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), title=f"{title}; rendered people")


def _ticks(axes: Axes, name: str, axis: Mapping[str, Any], where: np.ndarray) -> None:
    if AXES[name].cyclic:
        axes.xaxis.set_major_locator(MultipleLocator(90))
        axes.set_xlim(-8, 368)
    elif AXES[name].log:
        shown = range(len(where) - 1, -1, -2)
        texts = ["none" if axis["values"][i] is None else _plain(axis["values"][i]) for i in shown]
        axes.xaxis.set_major_locator(FixedLocator([where[i] for i in shown]))
        axes.xaxis.set_major_formatter(FixedFormatter(texts))


def _plain(value: float) -> str:
    """Two digits, never 2.4e+02."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _log_ticks(axes: Axes, values: Sequence[float]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(values)[::2]))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in list(values)[::2]]))
    axes.xaxis.set_minor_locator(NullLocator())


def _line(
    axes: Axes, name: str, where: np.ndarray, rows: Mapping[str, Sequence[float | None]], colour: str, marker: str
) -> None:
    mean, low, high = (_percent(rows[key]) for key in ("mean", "low", "high"))
    axes.plot(*_closed(name, where, mean), color=colour, marker=marker, markersize=3, linewidth=1.3)
    x, lower = _closed(name, where, low)
    axes.fill_between(x, lower, _closed(name, where, high)[1], color=colour, alpha=0.15, linewidth=0)


def _closed(name: str, where: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve (x, y); on a cyclic axis it returns to its first point."""
    if not AXES[name].cyclic:
        return where, values
    return np.append(where, where[0] + 360), np.append(values, values[0])


def _places(name: str, axis: Mapping[str, Any]) -> np.ndarray:
    return places(AXES[name].log, np.array([np.inf if value is None else value for value in axis["values"]]))


def _percent(values: Sequence[float | None]) -> np.ndarray:
    return 100 * np.array([np.nan if value is None else value for value in values])


def _look(card: Mapping[str, Any], model: str) -> tuple[str, str]:
    """Colour and marker of a model: fixed for the pipeline's models, otherwise assigned in order."""
    if set(card["models"]) <= set(MODEL_COLORS):
        return MODEL_COLORS[model], MODEL_MARKERS[model]
    return dict(zip(card["models"], islice(cycle(OTHERS), len(card["models"]))))[model]


def _handles(card: Mapping[str, Any], models: Iterable[str]) -> list[Line2D]:
    looks = {model: _look(card, model) for model in models}
    return [Line2D([], [], color=colour, marker=mark, label=model_name(one)) for one, (colour, mark) in looks.items()]
