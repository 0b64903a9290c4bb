"""Tables and words over several training seeds, from the results of an experiment (experiments.results)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from posedistill.keypoints import PART_NAMES
from posedistill.reporting.comparison import Difference, in_words
from posedistill.reporting.style import MODEL_NAMES
from posedistill.reporting.tables import Plain, Table

PARTS = ("wholebody", "body", "foot", "face", "hand")


def spread_table(results: Mapping[str, Any], metric: str, names: Mapping[str, str] = MODEL_NAMES) -> Table:
    """Mean ± standard deviation over the seeds of AP, AR or mean_oks in %: rows are models, columns parts."""
    rows = {}
    for model, seeds in results["models"].items():
        row = {}
        for part in PARTS:
            values = [100 * seed[metric][part] for seed in seeds.values()]
            row[PART_NAMES[part]] = _mean_and_spread(values)
        row["each seed, whole body"] = ", ".join(f"{100 * seed[metric]['wholebody']:.1f}" for seed in seeds.values())
        rows[names.get(model, model)] = row
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = {"mean_oks": "mean OKS"}.get(metric, metric) + ", %"
    count, seeds_listed = len(results["seeds"]), _list(results["seeds"])
    notes = f"Mean ± standard deviation over {count} training seeds ({seeds_listed})."
    return Table(frame, notes=notes if count > 1 else f"One training seed ({seeds_listed}): its spread is not known.")


def differences(results: Mapping[str, Any]) -> dict[str, dict[str, Difference]]:
    """Pooled differences in mean OKS: title → part → difference."""
    return {
        title: {part: Difference.of(found["pooled"][part]) for part in PARTS}
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
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = "mean OKS, points [95 %]"
    return Table(
        frame,
        notes="Pooled: each person's OKS averaged over the seeds, then a paired bootstrap over images. The interval "
        "says how sure the difference is on other images; how much it varies with the seed is in the last column.",
    )


def words(results: Mapping[str, Any]) -> str:
    """What is significant, one line a comparison, as Markdown."""
    lines = []
    for title, parts in differences(results).items():
        single = [values[0] for values in results["differences"][title]["seeds"].values()]
        positive = sum(value > 0 for value in single), len(single)
        lines.append(f"- {in_words(title, parts['wholebody'], 'mean OKS', positive)}")
    return "\n".join(lines)


def by_seed(
    results: Mapping[str, Any], metric: str = "mean_oks", part: str = "wholebody"
) -> dict[str, dict[str, float]]:
    """One metric in %: model → seed → value."""
    return {
        model: {seed: 100 * found[metric][part] for seed, found in seeds.items()}
        for model, seeds in results["models"].items()
    }


def longer_note(results: Mapping[str, Any]) -> str:
    """How the longer baseline was made, as a sentence; nothing without results."""
    if "long" not in results:
        return ""
    long = results["long"]
    return (
        f"The longer baseline trains {long['epochs']} epochs instead of {long['of']}: as long as stage 1 takes on the "
        f"clock, whose step costs {long['cost']:g} of a baseline step (measured, one thread, default sizes)."
    )


def remark(note: str) -> list[Plain]:
    """A note on where the results come from, to be displayed; nothing where there is none."""
    return [Plain(note)] if note else []


def _spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _mean_and_spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f}" + (f" ± {_spread(values):.1f}" if len(values) > 1 else "")


def _list(values: list[int]) -> str:
    return ", ".join(map(str, values))
