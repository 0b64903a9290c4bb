"""All models side by side: their metrics, and paired differences with intervals over images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from posedistill.analysis.weaknesses import Paired
from posedistill.evaluation.wholebody import Matched
from posedistill.keypoints import MAIN_PARTS, PART_NAMES
from posedistill.reporting import published
from posedistill.reporting.comparison import Difference
from posedistill.reporting.style import MODEL_NAMES
from posedistill.reporting.tables import Plain, Table, row_table
from posedistill.reporting.verdict import Compared, verdict, verdicts

MODELS = ("teacher", "baseline", "stage1", "stage2")
# What is compared: title → (model, minus model).
PAIRS = {
    "teacher − baseline": ("teacher", "baseline"),
    "stage 1 − baseline": ("stage1", "baseline"),
    "stage 1 + 2 − baseline": ("stage2", "baseline"),
    "stage 2 − stage 1": ("stage2", "stage1"),
}


@dataclass(frozen=True)
class Comparison:
    """One validation set: metrics of each model, and title → part → difference, for AP and for mean OKS from own boxes.
    `others` are the further sets, by name; `matched` and `paired` hold the persons that all models predicted, for
    pictures and figures of single points."""

    metrics: Mapping[str, Mapping[str, Any]]
    ap: Mapping[str, Mapping[str, Difference]]
    oks: Mapping[str, Mapping[str, Difference]]
    others: Mapping[str, "Comparison"] = field(default_factory=dict)
    matched: Mapping[str, Matched] = field(default_factory=dict, repr=False)
    paired: Mapping[str, Paired] = field(default_factory=dict, repr=False)

    @property
    def persons(self) -> int | None:
        """How many labelled persons the models were compared on."""
        return next(iter(self.metrics.values())).get("persons")


def models_table(comparison: Comparison) -> Table:
    """The whole body: mean OKS and AP of each model with the gain over the baseline, and the model's size."""
    rows = {}
    for model, found in comparison.metrics.items():
        rows[MODEL_NAMES[model]] = {
            "mean OKS, %": 100 * found["mean_oks"]["wholebody"],
            "gain [95 %]": _over_baseline(comparison.oks, model),
            "AP, %": 100 * found["wholebody"]["AP"],
            "AP gain [95 %]": _over_baseline(comparison.ap, model),
            "parameters, M": found["parameters"] / 1e6,
            "GMACs": found["macs"] / 1e9,
        }
    formats = {"mean OKS, %": "{:.1f}", "AP, %": "{:.1f}", "parameters, M": "{:.2f}", "GMACs": "{:.3g}"}
    note = f"{_where(comparison)}; one training seed. Gains: points over the baseline."
    return row_table(rows, "whole body", formats, note)


def parts_table(comparison: Comparison, metric: str = "mean_oks") -> Table:
    """Mean OKS or AP of each part and model in %; below AP the published rows, in grey."""
    rows: dict[str, dict[str, Any]] = {
        MODEL_NAMES[model]: {PART_NAMES[part]: value for part, value in values.items()}
        for model, values in part_values(comparison, metric).items()
    }
    if metric == "mean_oks":
        return row_table(rows, "mean OKS, %", "{:.1f}")
    theirs = published.frame()
    rows |= {str(name): {PART_NAMES[part]: row[part] for part in MAIN_PARTS} for name, row in theirs.iterrows()}
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"{metric}, %")
    return Table(frame, "{:.1f}", published.NOTE, marked=list(theirs.index))


def _over_baseline(differences: Mapping[str, Mapping[str, Difference]], model: str) -> str | None:
    found = (str(parts["wholebody"]) for title, parts in differences.items() if PAIRS.get(title) == (model, "baseline"))
    return next(found, None)


def other_sets_tables(comparison: Comparison) -> list[Table | Plain]:
    """The table of all models on each further validation set, under its name."""
    return [item for name, other in comparison.others.items() for item in (Plain(f"On {name}:"), models_table(other))]


def _where(comparison: Comparison) -> str:
    """The validation set with its n: "525 persons in 400 images of the validation set rendered"."""
    found = next(iter(comparison.metrics.values()))
    counts = [f"{found[what]:,} {what}" for what in ("persons", "images") if what in found]
    return f"{' in '.join(counts)} of the validation set “{found['val_set']}”"


def answer(comparison: Comparison, train_persons: int | None = None) -> str:
    """What was compared, on which data, what won, by how much and how sure that is, as a Markdown list."""
    metrics = comparison.metrics
    oks = {model: 100 * found["mean_oks"]["wholebody"] for model, found in metrics.items()}
    ranked = sorted((model for model in metrics if model != "teacher"), key=lambda model: -oks[model])
    size = metrics[ranked[0]]["parameters"]
    order = ", ".join(f"{MODEL_NAMES[model]} {oks[model]:.1f} %" for model in ranked)
    trained = f", each trained on the same {train_persons:,} persons" if train_persons else ""
    teacher = ""
    if "teacher" in metrics:
        times = metrics["teacher"]["parameters"] / size
        teacher = f"; the teacher, {times:.1f} times as large, {oks['teacher']:.1f} %"
    lines = [
        f"- **Compared**: one network of {size / 1e6:.2f} M parameters, trained alone (baseline), under a teacher "
        f"(stage 1), and with a new head after that (stage 1 + 2){trained}.",
        f"- **On**: {_where(comparison)}.",
        f"- **Who is ahead** in this run, by whole-body mean OKS: {order}{teacher}.",
        "- **By how much, and how sure**:",
    ]
    lines += [f"    - {verdict(one)}" for one in compared(comparison) if not one.title.startswith("teacher")]
    lines.append("- **Will it happen again?** `11_seeds` trains all models from three seeds.")
    return "\n".join(lines)


WHY_NUMBERS_DIFFER = (
    "This page shows one training of each model, with seed 0 in the default. Its intervals cover the choice of "
    "images, not the spread between runs of the same training. `11_seeds` shows three training seeds: there "
    "every seed trains its own teacher, starts from other weights and sees the persons in another order, so the "
    "means differ. The ablations, the sweep and the verdict on losses share one teacher over all seeds, so their "
    "means differ again."
)


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
            part: 100 * (found["mean_oks"][part] if metric == "mean_oks" else found[part][metric])
            for part in MAIN_PARTS
        }
        for model, found in comparison.metrics.items()
    }
