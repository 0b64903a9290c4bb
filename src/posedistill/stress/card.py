"""The card's numbers: mean OKS along each axis with intervals, paired differences, and where a curve falls to half."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posedistill.errors import UserError, shorten
from posedistill.evaluation.bootstrap import draws
from posedistill.evaluation.evaluate import rounded
from posedistill.evaluation.wholebody import REPORTED, add_hand
from posedistill.files import printable, sha256_file
from posedistill.inference.pose import load
from posedistill.parallel import in_parts
from posedistill.progress import progress
from posedistill.stress.judge import Setting, Task, judge
from posedistill.stress.shots import AXES, FRAMES
from posedistill.synthetic.body import ASSET

NOTE = "These are rendered people, not photographs: the card shows how results change, not how good they are elsewhere."
SAMPLES = 1000  # of the bootstrap over persons
DIGITS = 5


@dataclass(frozen=True)
class Results:
    """A model and its results: the arrays of `judge`'s files, stacked over the persons."""

    name: str
    file: Path
    sha256: str
    results: Mapping[str, np.ndarray]


def judge_persons(setting: Setting, models: Sequence[Path], persons: int, folder: Path, jobs: int = 1) -> list[Results]:
    """Judge `persons` persons by all models; results are kept in `folder`, and those already there are reused.

    Each result is a file of a few kilobytes: an interruption loses only the persons in progress. UserError if a model
    cannot be loaded or the body's data are missing.
    """
    if not (Path(setting.body) / ASSET).is_file():
        raise UserError(f"{printable(Path(setting.body) / ASSET)}: there is no such file; it is part of assets/body")
    names = model_names(models)
    for path in models:
        load(path, setting.device)  # what cannot be used ends the command before the work begins
    sums = [sha256_file(path) for path in models]
    parts = folder / setting.key()
    files = [[parts / f"{index:05d}-{sha[:16]}.npz" for sha in sums] for index in range(persons)]

    def tasks() -> Iterator[Task]:
        for index, row in enumerate(files):
            missing = {str(file): str(model) for model, file in zip(models, row) if not file.is_file()}
            if missing:
                yield Task(setting, index, tuple((model, file) for file, model in missing.items()))

    todo = sum(not all(file.is_file() for file in row) for row in files)
    with progress(desc="stress", unit="persons", total=persons, initial=persons - todo) as bar:
        for _ in in_parts(judge, tasks(), min(jobs, todo)):
            bar.update(1)
    columns = [[row[m] for row in files] for m in range(len(models))]
    return [Results(name, path, sha, _stacked(column)) for name, path, sha, column in zip(names, models, sums, columns)]


def _stacked(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """The arrays of several files, stacked. UserError if one is damaged."""
    rows = []
    for file in files:
        try:
            with np.load(file) as content:
                rows.append({name: content[name] for name in content.files})
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{printable(file)}: damaged; delete it and run the command again") from error
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def model_names(models: Sequence[Path]) -> list[str]:
    """File names without suffix, preceded by the folder where two are equal."""
    stems = [path.stem for path in models]
    names = [
        path.stem if stems.count(path.stem) == 1 else f"{path.resolve().parent.name}/{path.name}" for path in models
    ]
    if len(set(names)) < len(names):
        twice = next(path for path, name in zip(models, names) if names.count(name) > 1)
        raise UserError(f"{shorten(printable(twice))}: two models have this name; rename one, or give each model once")
    return [printable(name) for name in names]


def make_card(setting: Setting, judged: Sequence[Results]) -> dict[str, Any]:
    """All numbers of the card as plain values; differences are relative to the first model."""
    first = judged[0].results
    persons = len(first[f"{setting.axes[0]}.value"])
    weights = draws(persons, SAMPLES, setting.seed).astype(np.float64)
    card: dict[str, Any] = {
        "note": NOTE,
        "persons": persons,
        "seed": setting.seed,
        "flip_test": setting.flip_test,
        "models": {one.name: {"file": printable(one.file.name), "sha256": one.sha256} for one in judged},
        "first": judged[0].name,
        "axes": {name: _axis(name, judged, weights) for name in setting.axes},
    }
    if "jitter" in first:
        values = {one.name: summary(one.results["jitter"], weights) for one in judged}
        card["jitter"] = {"frames": FRAMES, "strength": list(AXES["noise"].steps), "models": values}
    return rounded(card, DIGITS)


def _axis(name: str, judged: Sequence[Results], weights: np.ndarray) -> dict[str, Any]:
    axis, first = AXES[name], judged[0].results
    oks = {one.name: one.results[f"{name}.oks"] for one in judged}
    base = oks[judged[0].name]
    values = first[f"{name}.value"].mean(axis=0)
    if axis.cyclic:  # measured in [0, 360): the neutral step may be 359.999…
        values = np.array(axis.steps) + ((first[f"{name}.value"] - axis.steps + 180) % 360 - 180).mean(axis=0)
    means = {model: summary(values_, weights) for model, values_ in oks.items()}
    ahead = {model: values_ - base for model, values_ in oks.items() if model != judged[0].name}
    return {
        "title": axis.title,
        "unit": axis.unit,
        "steps": [None if np.isinf(step) else step for step in axis.steps],
        "values": [None if np.isinf(value) else float(value) for value in values],
        "neutral": axis.middle,
        "seen": {part: row["mean"] for part, row in summary(first[f"{name}.seen"], weights).items()},
        "persons": _counts(base),
        "models": means,
        "half": {
            model: {
                part: half(places(axis.log, values), row["mean"], axis.cyclic, axis.log) for part, row in rows.items()
            }
            for model, rows in means.items()
        },
        "differences": {model: summary(gain, weights) for model, gain in ahead.items()},
        "changes": {model: summary(gain - gain[:, [axis.middle]], weights) for model, gain in ahead.items()},
    }


def summary(values: np.ndarray, weights: np.ndarray) -> dict[str, dict[str, list[float | None]]]:
    """Part → mean, low, high of each step, of values [P, S, 6] (NaN: does not count): 95 % intervals over the persons.

    weights [samples, P]: how often each person is drawn. `hand` is the mean of both; None where nobody counts.
    """
    present = ~np.isnan(values)
    flat, counted = np.nan_to_num(values).reshape(len(values), -1), present.reshape(len(values), -1).astype(np.float64)

    def means(rows: np.ndarray) -> np.ndarray:  # [R, P] → [R, S, 7]
        counts = (rows @ counted).reshape(len(rows), *values.shape[1:])
        sums = (rows @ flat).reshape(counts.shape)
        joined = add_hand(sums / np.maximum(counts, 1), counts > 0)
        there = np.concatenate(
            (counts[..., :5], counts[..., 3:5].sum(axis=-1, keepdims=True), counts[..., 5:]), axis=-1
        )
        return np.where(there > 0, joined, np.nan)

    mean, drawn = means(np.ones((1, len(values))))[0], means(weights)
    nobody = np.isnan(mean)
    low, high = np.nanpercentile(np.where(nobody, 0.0, drawn), (2.5, 97.5), axis=0)
    rows = {"mean": mean, "low": low, "high": high}
    return {
        part: {
            key: [None if nobody[s, p] else float(row[s, p]) + 0.0 for s in range(len(mean))]
            for key, row in rows.items()
        }
        for p, part in enumerate(REPORTED)
    }


def _counts(oks: np.ndarray) -> dict[str, list[int]]:
    """Part → number of persons that count at each step."""
    there = ~np.isnan(oks)
    columns = [*(there[..., i] for i in range(5)), there[..., 3] | there[..., 4], there[..., 5]]
    return {part: column.sum(axis=0).tolist() for part, column in zip(REPORTED, columns)}


def places(log: bool, values: np.ndarray) -> np.ndarray:
    """Where steps lie on an axis: values, or their logarithms; "nobody" is a little beyond the last distance."""
    finite = values[np.isfinite(values)]
    values = np.where(np.isfinite(values), values, finite.max(initial=1) * 1.4)
    return np.log(values) if log else values


def half(where: np.ndarray, means: Sequence[float | None], cyclic: bool, log: bool) -> list[float | None]:
    """The values below and above its best at which a curve first falls to half of the best; None: it never does.

    Linear between steps (over the logarithm where the axis has one). A cyclic axis is followed for half a turn.
    """
    curve = np.array([np.nan if mean is None else mean for mean in means])
    if np.isnan(curve).all():
        return [None, None]
    best = int(np.nanargmax(curve))
    found: list[float | None] = []
    for direction in (-1, 1):
        reach = len(curve) // 2 if cyclic else (best if direction < 0 else len(curve) - 1 - best)
        path = [best + direction * k for k in range(reach + 1)]
        x = [where[i % len(curve)] + 360.0 * (i // len(curve)) if cyclic else where[i] for i in path]
        found.append(_falls(np.array(x), curve[[i % len(curve) for i in path]], curve[best] / 2))
    return [None if x is None else float(np.exp(x)) if log else x % 360 if cyclic else x for x in found]


def _falls(x: np.ndarray, y: np.ndarray, level: float) -> float | None:
    """The first x at which the line through the points reaches `level` from above; missing points are left out."""
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    for k in range(1, len(y)):
        if y[k] <= level:
            return float(x[k - 1] + (x[k] - x[k - 1]) * (y[k - 1] - level) / (y[k - 1] - y[k]))
    return None
