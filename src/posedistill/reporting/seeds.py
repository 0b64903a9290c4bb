"""Tables and words over several training seeds, from the results of an experiment (experiments.results)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posedistill.keypoints import MAIN_PARTS, PART_NAMES
from posedistill.reporting.comparison import Difference
from posedistill.reporting.style import MODEL_NAMES
from posedistill.reporting.tables import Plain, Table, row_table
from posedistill.reporting.verdict import Compared, verdicts


def spread_table(results: Mapping[str, Any], metric: str, names: Mapping[str, str] = MODEL_NAMES) -> Table:
    """Mean ± standard deviation over the seeds of AP, AR or mean_oks in %: rows are models, columns parts."""
    rows = {}
    for model, seeds in results["models"].items():
        row = {}
        for part in MAIN_PARTS:
            values = [100 * seed[metric][part] for seed in seeds.values()]
            row[PART_NAMES[part]] = _mean_and_spread(values)
        row["each seed, whole body"] = ", ".join(f"{100 * seed[metric]['wholebody']:.1f}" for seed in seeds.values())
        rows[names.get(model, model)] = row
    count, listed = len(results["seeds"]), ", ".join(map(str, results["seeds"]))
    notes = f"Mean ± standard deviation over {count} training seeds ({listed})."
    if count == 1:
        notes = f"One training seed ({listed}): the spread is unknown."
    return row_table(rows, f"{metric_name(metric)}, %", notes=notes)


def metric_name(metric: str) -> str:
    """A metric as tables name it."""
    return "mean OKS" if metric == "mean_oks" else metric


def mean_ap(results: Mapping[str, Any], model: str) -> float | None:
    """Whole-body AP in %, mean over the seeds; None if the model was not trained."""
    found = results["models"].get(model)
    return 100 * float(np.mean([seed["AP"]["wholebody"] for seed in found.values()])) if found else None


def differences(results: Mapping[str, Any]) -> dict[str, dict[str, Difference]]:
    """Pooled differences in mean OKS: title → part → difference."""
    return {
        title: {part: Difference.of(found["pooled"][part]) for part in MAIN_PARTS}
        for title, found in results["differences"].items()
    }


def differences_table(results: Mapping[str, Any]) -> Table:
    """Pooled differences with their intervals, and the whole-body difference of each seed."""
    rows = {}
    for title, parts in differences(results).items():
        row = {PART_NAMES[part]: str(item) for part, item in parts.items()}
        single = results["differences"][title]["seeds"].values()
        row["each seed, whole body"] = ", ".join(f"{100 * values[0]:+.1f}" for values in single)
        rows[title] = row
    notes = (
        "Pooled: each person's OKS averaged over the seeds, then a paired bootstrap over images. The interval covers "
        "the choice of images alone; the last column shows the variation with the seed."
    )
    return row_table(rows, "mean OKS, points [95 %]", notes=notes)


def compared(results: Mapping[str, Any]) -> list[Compared]:
    """Each comparison in whole-body mean OKS with its seeds, for `reporting.verdict`.

    `results` may name the number of validation `persons`, and under `tuned` for which side of a comparison settings
    were tuned (title → both | neither | first | second).
    """
    return [
        Compared(
            title,
            parts["wholebody"],
            [100 * values[0] for values in results["differences"][title]["seeds"].values()],
            results.get("persons"),
            results.get("tuned", {}).get(title),
        )
        for title, parts in differences(results).items()
    ]


def words(results: Mapping[str, Any]) -> str:
    """The verdict on each comparison, as Markdown."""
    return verdicts(compared(results))


def by_seed(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Whole-body mean OKS in %: model → seed → value."""
    return {
        model: {seed: 100 * found["mean_oks"]["wholebody"] for seed, found in seeds.items()}
        for model, seeds in results["models"].items()
    }


def longer_note(results: Mapping[str, Any]) -> str:
    """How the longer baseline was trained, as a sentence; empty without results of it."""
    if "long" not in results:
        return ""
    long = results["long"]
    return (
        f"The longer baseline trains {long['epochs']:.3g} epochs instead of {long['of']}: as long as stage 1 takes on "
        f"the clock, whose step costs {long['cost']:g} of a baseline step (measured)."
        f"{_interpolated(long.get('trained', []))}"
    )


def _interpolated(trained: Sequence[int]) -> str:
    low, high = (trained[0], trained[-1]) if trained else (0, 0)
    return f" It lies between trainings of {low} and {high} epochs, person by person." if low < high else ""


def remark(note: str) -> list[Plain]:
    """The note on the origin of the results as something to display; empty without a note."""
    return [Plain(note)] if note else []


def _mean_and_spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")
