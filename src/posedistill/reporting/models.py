"""All models side by side: their metrics, and paired differences with intervals over images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from posedistill.evaluation.bootstrap import paired_intervals, resampled_metrics
from posedistill.evaluation.mean_oks import paired_mean_oks_difference
from posedistill.evaluation.records import load_json
from posedistill.evaluation.wholebody import REPORTED, match_wholebody
from posedistill.pipeline.evaluation_files import METRICS, person_oks_file, predictions_file, read_person_oks
from posedistill.reporting import published
from posedistill.reporting.comparison import Difference, in_words
from posedistill.reporting.style import MODEL_NAMES, PART_NAMES
from posedistill.reporting.tables import Table

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


def compare_models(
    samples: int,
    seed: int,
    models: Sequence[str] = MODELS,
    pairs: Mapping[str, tuple[str, str]] = PAIRS,
) -> Comparison:
    """Compare evaluated models, whose files the evaluation left in reports/metrics and predictions.

    `samples` bootstrap samples over the images of a validation set, the same ones for all models. Sets are never
    pooled: each further one has a comparison of its own.
    """
    metrics = {model: load_json(METRICS / f"{model}.json", "metrics")[0] for model in models}
    first = _compare(metrics, pairs, samples, seed, None)
    further = metrics[models[0]].get("other_sets", {})
    others = {
        name: _compare(
            {model: found["other_sets"][name] for model, found in metrics.items()}, pairs, samples, seed, name
        )
        for name in further
    }
    return replace(first, others=others)


def _compare(
    metrics: Mapping[str, Mapping[str, Any]],
    pairs: Mapping[str, tuple[str, str]],
    samples: int,
    seed: int,
    other_set: str | None,
) -> Comparison:
    """Models on one validation set: the first, or `other_set`."""
    val_set = next(iter(metrics.values()))["val_set"]
    truth = load_json(Path("prepared") / f"val-{val_set}" / "gt.json", "ground truth")[0]
    matched = {model: match_wholebody(truth, predictions_file(model, other_set)) for model in metrics}
    drawn = {model: resampled_metrics(found, max(samples, 1), seed) for model, found in matched.items()}
    persons = {model: read_person_oks(person_oks_file(model, val_set)) for model in metrics}
    ap: dict[str, Mapping[str, Difference]] = {}
    oks: dict[str, Mapping[str, Difference]] = {}
    for title, (a, b) in pairs.items():
        ends = paired_intervals(drawn[a], drawn[b])
        means = {part: metrics[a][part]["AP"] - metrics[b][part]["AP"] for part in REPORTED}
        ap[title] = {part: Difference.of((means[part], *ends[part]["AP"])) for part in PARTS}
        found = paired_mean_oks_difference([persons[a]], [persons[b]], max(samples, 1), seed)
        oks[title] = {part: Difference.of(found[part]) for part in PARTS}
    return Comparison(metrics, ap, oks)


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
        gain = _over_baseline(comparison.ap, model)
        row["AP gain [95 %]"] = str(gain) if gain else None
        row["mean OKS"] = 100 * found["mean_oks"]["wholebody"]
        gain = _over_baseline(comparison.oks, model)
        row["OKS gain [95 %]"] = str(gain) if gain else None
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


def _over_baseline(differences: Mapping[str, Mapping[str, Difference]], model: str) -> Difference | None:
    found = [parts["wholebody"] for title, parts in differences.items() if PAIRS.get(title) == (model, "baseline")]
    return found[0] if found else None


def other_sets_tables(comparison: Comparison) -> list[Table]:
    """AP and mean OKS of all models on each further validation set, with the gains over the baseline there."""
    return [_models_table(_model_rows(other), f"{name}, %") for name, other in comparison.others.items()]


def verdicts(comparison: Comparison) -> str:
    """What the intervals say of mean OKS, one line a pair, as Markdown; each further validation set under its name."""
    lines = [f"- {in_words(title, parts['wholebody'], 'mean OKS')}" for title, parts in comparison.oks.items()]
    for name, other in comparison.others.items():
        lines += ["", f"On {name}:", "", verdicts(other)]
    return "\n".join(lines)


def differences_table(differences: Mapping[str, Mapping[str, Difference]], metric: str) -> Table:
    """Differences as text: rows are comparisons, columns parts."""
    rows = {
        title: {PART_NAMES[part]: str(item) for part, item in parts.items()} for title, parts in differences.items()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = f"{metric}, points [95 %]"
    return Table(frame)


def part_values(comparison: Comparison, metric: str = "mean_oks") -> dict[str, dict[str, float]]:
    """Model → part → mean OKS (or AP) in %."""
    values: dict[str, dict[str, float]] = {}
    for model, found in comparison.metrics.items():
        of_part = found["mean_oks"] if metric == "mean_oks" else {part: found[part][metric] for part in PARTS}
        values[model] = {part: 100 * of_part[part] for part in PARTS}
    return values
