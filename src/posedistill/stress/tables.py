"""The card in words and tables: where curves fall to half, and at which steps a model differs from the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from posedistill.keypoints import PART_NAMES
from posedistill.reporting.style import MODEL_NAMES
from posedistill.reporting.tables import Table, aligned, number, row_table
from posedistill.stress.shots import AXES


def half_lines(card: Mapping[str, Any]) -> str:
    """For a terminal: the whole body's best mean OKS for each axis and model, and where it falls to half."""
    models = list(card["models"])
    head = ("whole body: best mean OKS, %, and where it falls to half", *models)
    rows = [
        (f"{axis['title']}, {axis['unit']}", *(_half_cell(axis, name, model, "wholebody") for model in models))
        for name, axis in card["axes"].items()
    ]
    return aligned([head, *rows])


def half_table(card: Mapping[str, Any], part: str = "wholebody") -> Table:
    """For each axis and model the best mean OKS of a part in %, and the values at which the curve falls to half."""
    rows = {
        f"{axis['title']}, {axis['unit']}": {
            model_name(model): _half_cell(axis, name, model, part) for model in card["models"]
        }
        for name, axis in card["axes"].items()
    }
    notes = "Best mean OKS in %; in brackets, where the curve falls to half of it (interpolated); –: it never does."
    return row_table(rows, PART_NAMES[part], notes=notes)


def _half_cell(axis: Mapping[str, Any], name: str, model: str, part: str) -> str:
    best = max((mean for mean in axis["models"][model][part]["mean"] if mean is not None), default=None)
    ends = [f"{end:.3g}" for end in axis["half"][model][part] if end is not None]
    if AXES[name].cyclic:
        ends = [f"{end}°" for end in ends]
    return f"{number(None if best is None else 100 * best)} ({' and '.join(ends) or '–'})"


def gains_table(card: Mapping[str, Any], model: str, part: str = "wholebody") -> Table:
    """`model` against the first one: smallest and largest gain of each axis, and at how many steps it is better, worse,
    or gains more or less than in the reference picture."""
    rows = {}
    for axis in card["axes"].values():
        gain, change = axis["differences"][model][part], axis["changes"][model][part]
        known = [i for i, mean in enumerate(gain["mean"]) if mean is not None]
        low, high = min(known, key=lambda i: gain["mean"][i]), max(known, key=lambda i: gain["mean"][i])
        others = [i for i in known if i != axis["neutral"]]
        rows[axis["title"]] = {
            "smallest gain": f"{_points(gain, low)} at {_value(axis, low)}",
            "largest gain": f"{_points(gain, high)} at {_value(axis, high)}",
            "better": f"{len(_above(gain, known))} of {len(known)}",
            "worse": f"{len(_below(gain, known))} of {len(known)}",
            "gain larger than in the reference": f"{len(_above(change, others))} of {len(others)}",
            "smaller": f"{len(_below(change, others))} of {len(others)}",
        }
    notes = (
        "Points of mean OKS with the paired 95 % interval over persons. Better, worse, larger, smaller: steps at which "
        "the interval excludes zero. With this many steps, some do by chance: one in forty on each side."
    )
    return row_table(rows, f"{PART_NAMES[part]}: {model_name(model)} − {model_name(card['first'])}", notes=notes)


def gain_words(card: Mapping[str, Any], model: str, part: str = "wholebody") -> str:
    """One paragraph: whether `model` is better than the first one in the reference picture and at the other steps, and
    whether the gain depends on the view."""
    name, first = model_name(model), model_name(card["first"])
    some = next(iter(card["axes"].values()))
    at_reference = _points(some["differences"][model][part], some["neutral"])
    better = worse = total = 0
    for axis in card["axes"].values():
        gain = axis["differences"][model][part]
        known = [i for i, mean in enumerate(gain["mean"]) if mean is not None and i != axis["neutral"]]
        better, worse, total = better + len(_above(gain, known)), worse + len(_below(gain, known)), total + len(known)
    words = [
        f"**{name} − {first}**, {PART_NAMES[part]}: {at_reference} points in the reference picture. Of the {total} "
        f"other steps {better} are better and {worse} worse; at the others the interval includes zero."
    ]
    if "view" in card["axes"]:
        words.append(_view_words(card["axes"]["view"], model, part))
    return " ".join(words)


def _view_words(axis: Mapping[str, Any], model: str, part: str) -> str:
    gain, change = axis["differences"][model][part], axis["changes"][model][part]
    steps = [i for i in range(len(axis["values"])) if i != axis["neutral"]]
    larger, smaller = (", ".join(_value(axis, i) for i in side(change, steps)) for side in (_above, _below))
    means = [100 * mean for mean in gain["mean"]]
    text = f"Around the body the gain goes from {number(min(means), '+.1f')} to {number(max(means), '+.1f')} points"
    if not larger and not smaller:
        return f"{text}; no view differs measurably from the front."
    found = [f"{word} at {values}" for word, values in (("larger", larger), ("smaller", smaller)) if values]
    return f"{text}: {', '.join(found)} degrees than from the front."


def _above(rows: Mapping[str, Sequence[float]], steps: Sequence[int]) -> list[int]:
    return [i for i in steps if rows["low"][i] > 0]


def _below(rows: Mapping[str, Sequence[float]], steps: Sequence[int]) -> list[int]:
    return [i for i in steps if rows["high"][i] < 0]


def _points(rows: Mapping[str, Sequence[float]], step: int) -> str:
    mean, low, high = (number(100 * rows[key][step], "+.1f") for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _value(axis: Mapping[str, Any], step: int) -> str:
    value = axis["values"][step]
    return "nobody" if value is None else f"{value + 0.0:.3g}"


def model_name(model: str) -> str:
    """As tables and figures name it: a model of the pipeline by its usual name."""
    return MODEL_NAMES.get(model, model)
