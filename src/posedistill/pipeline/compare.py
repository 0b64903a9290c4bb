"""The pipeline's `compare` stage: compare models by the files that the stage `evaluate` wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from posedistill.analysis.models import MODELS, PAIRS, Comparison
from posedistill.analysis.persons import shared
from posedistill.analysis.weaknesses import pair_persons
from posedistill.evaluation.bootstrap import paired_intervals, resampled_metrics
from posedistill.evaluation.mean_oks import paired_mean_oks_difference
from posedistill.evaluation.records import load_json, read_ground_truth
from posedistill.evaluation.wholebody import REPORTED, match_wholebody
from posedistill.keypoints import MAIN_PARTS
from posedistill.pipeline.evaluation_files import METRICS, person_oks_file, predictions_file, read_person_oks
from posedistill.reporting.comparison import Difference


def compare_models(
    samples: int,
    seed: int,
    models: Sequence[str] = MODELS,
    pairs: Mapping[str, tuple[str, str]] = PAIRS,
) -> Comparison:
    """Compare evaluated models by their files in reports/metrics and predictions.

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
    truth = read_ground_truth(Path("prepared") / f"val-{val_set}" / "gt.json")
    matched = {model: match_wholebody(truth, predictions_file(model, other_set)) for model in metrics}
    drawn = {model: resampled_metrics(found, max(samples, 1), seed) for model, found in matched.items()}
    persons = {model: read_person_oks(person_oks_file(model, val_set)) for model in metrics}
    ap: dict[str, Mapping[str, Difference]] = {}
    oks: dict[str, Mapping[str, Difference]] = {}
    for title, (a, b) in pairs.items():
        ends = paired_intervals(drawn[a], drawn[b])
        means = {part: metrics[a][part]["AP"] - metrics[b][part]["AP"] for part in REPORTED}
        ap[title] = {part: Difference.of((means[part], *ends[part]["AP"])) for part in MAIN_PARTS}
        found = paired_mean_oks_difference([persons[a]], [persons[b]], max(samples, 1), seed)
        oks[title] = {part: Difference.of(found[part]) for part in MAIN_PARTS}
    paired = shared({model: pair_persons(found) for model, found in matched.items()})
    return Comparison(metrics, ap, oks, matched=matched, paired=paired)
