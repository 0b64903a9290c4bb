"""All models side by side: their metrics, and paired differences with intervals over images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from posedistill.keypoints import PART_NAMES
from posedistill.reporting import published
from posedistill.reporting.comparison import Difference
from posedistill.reporting.style import MODEL_NAMES
from posedistill.reporting.tables import Table, row_table
from posedistill.reporting.verdict import Compared, verdicts

MODELS = ("teacher", "baseline", "stage1", "stage2")
# What is compared: title → (model, minus model).
PAIRS = {
    "teacher − baseline": ("teacher", "baseline"),
    "stage 1 − baseline": ("stage1", "baseline"),
    "stage 1 + 2 − baseline": ("stage2", "baseline"),
    "stage 2 − stage 1": ("stage2", "stage1"),
}
PARTS = ("wholebody", "body", "foot", "face", "hand")


@dataclass(frozen=True)
class Comparison:
    """One validation set: metrics of each model, and title → part → difference, for AP and for mean OKS from own boxes.
    `others` are the further sets, by name."""

    metrics: Mapping[str, Mapping[str, Any]]
    ap: Mapping[str, Mapping[str, Difference]]
    oks: Mapping[str, Mapping[str, Difference]]
    others: Mapping[str, "Comparison"] = field(default_factory=dict)

    @property
    def persons(self) -> int | None:
        """How many labelled persons the models were compared on."""
        return next(iter(self.metrics.values())).get("persons")


def models_table(comparison: Comparison) -> Table:
    """AP of each model with its gain over the baseline, mean OKS likewise, size and cost; published rows below."""
    rows = _model_rows(comparison)
    for model, found in comparison.metrics.items():
        rows[MODEL_NAMES[model]] |= {"parameters, M": found["parameters"] / 1e6, "GMACs": found["macs"] / 1e9}
    theirs = published.frame()
    for name, values in theirs.iterrows():
        rows[str(name)] = {f"AP {PART_NAMES[part]}": values[part] for part in PARTS} | {"GMACs": values["GMACs"]}
    return _models_table(rows, "%", published.NOTE, list(theirs.index))


def _model_rows(comparison: Comparison) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for model, found in comparison.metrics.items():
        row: dict[str, Any] = {f"AP {PART_NAMES[part]}": 100 * found[part]["AP"] for part in PARTS}
        row["AP gain [95 %]"] = _over_baseline(comparison.ap, model)
        row["mean OKS"] = 100 * found["mean_oks"]["wholebody"]
        row["OKS gain [95 %]"] = _over_baseline(comparison.oks, model)
        rows[MODEL_NAMES[model]] = row
    return rows


def _models_table(rows: dict[str, dict[str, Any]], corner: str, note: str = "", marked: Sequence[str] = ()) -> Table:
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = corner
    frame = frame.astype(object).where(frame.notna(), None)
    formats: dict[Any, str] = {
        name: "{:.1f}" for name in frame.columns if name.startswith("AP ") and "gain" not in name
    }
    formats |= {"mean OKS": "{:.1f}", "parameters, M": "{:.2f}", "GMACs": "{:.3g}"}
    return Table(frame, {name: formats[name] for name in frame.columns if name in formats}, note, marked=list(marked))


def _over_baseline(differences: Mapping[str, Mapping[str, Difference]], model: str) -> str | None:
    found = (str(parts["wholebody"]) for title, parts in differences.items() if PAIRS.get(title) == (model, "baseline"))
    return next(found, None)


def other_sets_tables(comparison: Comparison) -> list[Table]:
    """AP and mean OKS of all models on each further validation set, with the gains over the baseline there."""
    return [_models_table(_model_rows(other), f"{name}, %") for name, other in comparison.others.items()]


def compared(comparison: Comparison) -> list[Compared]:
    """Each comparison in whole-body mean OKS, of this one training, for `reporting.verdict`."""
    return [
        Compared(title, parts["wholebody"], [parts["wholebody"].mean], comparison.persons)
        for title, parts in comparison.oks.items()
    ]


def words(comparison: Comparison) -> str:
    """The verdict on each pair, as Markdown; further validation sets under their names."""
    further = [f"\n\nOn {name}:\n\n{words(other)}" for name, other in comparison.others.items()]
    return verdicts(compared(comparison)) + "".join(further)


def differences_table(differences: Mapping[str, Mapping[str, Difference]], metric: str) -> Table:
    """Differences as text: rows are comparisons, columns parts."""
    rows = {
        title: {PART_NAMES[part]: str(item) for part, item in parts.items()} for title, parts in differences.items()
    }
    return row_table(rows, f"{metric}, points [95 %]")


def part_values(comparison: Comparison, metric: str = "mean_oks") -> dict[str, dict[str, float]]:
    """Model → part → mean OKS (or AP) in %."""
    return {
        model: {
            part: 100 * (found["mean_oks"][part] if metric == "mean_oks" else found[part][metric]) for part in PARTS
        }
        for model, found in comparison.metrics.items()
    }
