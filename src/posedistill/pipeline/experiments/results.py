"""Results of experiments gathered into one file: numbers of each model and seed, and differences over seeds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.evaluation.mean_oks import PersonOks, paired_mean_oks_difference
from posedistill.files import write_atomic
from posedistill.pipeline.evaluation_files import PREDICTIONS, person_oks_file, read_person_oks, rounded
from posedistill.pipeline.experiments.workspaces import Experiment

PARTS = ("wholebody", "body", "foot", "face", "lefthand", "righthand", "hand")


def read_metrics(folder: Path, model: str) -> dict[str, Any]:
    """reports/metrics/<model>.json of a workspace (or of the project)."""
    path = folder / "reports" / "metrics" / f"{model}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no metrics that can be read ({error.__class__.__name__})") from error


def shortened(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Of a model's metrics what a table over seeds needs."""
    return {
        "AP": {part: metrics[part]["AP"] for part in PARTS},
        "AR": {part: metrics[part]["AR"] for part in PARTS},
        "mean_oks": {part: metrics["mean_oks"][part] for part in PARTS},
    }


def gather(experiment: Experiment, base: Path, samples: int, bootstrap_seed: int) -> dict[str, Any]:
    """Numbers of all models and seeds of an experiment below `base`, and the difference in mean OKS of each pair.

    Differences carry the 95 % interval of a paired bootstrap over images: of each seed by itself, and pooled, where
    each person's OKS is averaged over the seeds.
    """
    seeds = experiment.seeds
    persons: dict[tuple[str, int], PersonOks] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for model in experiment.models:
        numbers[model] = {}
        for seed in seeds:
            workspace, name = experiment.place(model, seed)
            metrics = read_metrics(base / workspace, name)
            numbers[model][str(seed)] = shortened(metrics)
            oks = person_oks_file(name, metrics["val_set"], base / workspace / PREDICTIONS)
            persons[model, seed] = read_person_oks(oks)
    differences = {}
    for title, (a, b) in experiment.pairs.items():
        runs_a, runs_b = ([persons[model, seed] for seed in seeds] for model in (a, b))
        differences[title] = {
            "pooled": paired_mean_oks_difference(runs_a, runs_b, samples, bootstrap_seed),
            "seeds": {
                str(seed): paired_mean_oks_difference([one], [other], samples, bootstrap_seed)["wholebody"]
                for seed, one, other in zip(seeds, runs_a, runs_b)
            },
        }
    return {"seeds": list(seeds), **experiment.notes, "models": numbers, "differences": differences}


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write as JSON with six digits: enough for tables, and few enough to be the same on like machines."""
    write_atomic(path, json.dumps(rounded(results), indent=1) + "\n")
