"""Results of an experiment, read through DVC: metrics of each model and seed, and differences over the seeds."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posedistill.errors import UserError
from posedistill.evaluation.evaluate import rounded
from posedistill.evaluation.mean_oks import PersonOks, paired_mean_oks_difference
from posedistill.experiments import PLANS, engine, unlabelled
from posedistill.experiments.plan import Plan
from posedistill.files import write_atomic
from posedistill.params import read_settings
from posedistill.pipeline.evaluation_files import METRICS, person_oks_file, read_person_oks

PARTS = ("wholebody", "body", "foot", "face", "lefthand", "righthand", "hand")
NOTHING: dict[str, Any] = {"seeds": [], "models": {}, "differences": {}}


def read_results(name: str) -> tuple[dict[str, Any], str]:
    """(results of experiment `name` over all finished training seeds, ""); also writes reports/metrics/<name>.json.

    If DVC has no experiments with the present settings, code and data (as in a fresh clone): the content of that file,
    and a note that says so.
    """
    path = METRICS / f"{name}.json"
    try:
        found = _from_dvc(name)
    except UserError as error:
        found, reason = None, f": {error}"
    else:
        reason = ""
    if found is not None:
        write_atomic(path, json.dumps(rounded(found), indent=1) + "\n")  # rounded to be reproducible
        return found, ""
    if not path.is_file():
        return NOTHING, f"There are no results yet: `make {name}` makes them."
    note = f"These are the committed results ({path}); `make {name}` makes those of this machine and these settings"
    return json.loads(path.read_text(encoding="utf-8")), f"{note}{reason}."


def _from_dvc(name: str) -> dict[str, Any] | None:
    """Results over the seeds whose runs have all finished; None without any."""
    settings = read_settings("params.yaml")
    with engine.opened() as repo:
        pattern = re.compile(rf"{name}-.*-seed(\d+)")
        matches = [pattern.fullmatch(experiment) for experiment, *_ in engine.experiments(repo)]
        seeds = tuple(sorted({int(match[1]) for match in matches if match}))
        if not seeds:
            return None
        plan = PLANS[name](settings, seeds)
        revisions = engine.finished(repo, plan)
        whole = tuple(seed for seed in seeds if all(run in revisions for run in _runs(plan, seed)))
    if not whole:
        return None
    plan = PLANS[name](settings, whole)
    found = gather(plan, revisions, settings["evaluate"]["bootstrap"], settings["evaluate"]["seed"])
    return found | (what_was_seen(plan, revisions) if name == "unlabelled" else {})


def gather(plan: Plan, revisions: Mapping[str, str], samples: int, bootstrap_seed: int) -> dict[str, Any]:
    """Metrics of all models and seeds of a plan, and the difference in mean OKS of each pair.

    Differences carry the 95 % interval of a paired bootstrap over images: of each seed by itself, and pooled, where
    each person's OKS is averaged over the seeds.
    """
    numbers: dict[str, dict[str, Any]] = {model: {} for model in plan.models}
    persons: dict[tuple[str, int], PersonOks] = {}
    for model in plan.models:
        for seed in plan.seeds:
            parts = [(*_of_run(run, revisions[run], name), share) for run, name, share in plan.places(model, seed)]
            numbers[model][str(seed)] = weighted([(metrics, share) for metrics, _, share in parts])
            if plan.pairs:
                oks = np.sum([share * one.oks for _, one, share in parts], axis=0)
                persons[model, seed] = replace(parts[0][1], oks=oks)
    differences = {}
    for title, (a, b) in plan.pairs.items():
        runs_a, runs_b = ([persons[model, seed] for seed in plan.seeds] for model in (a, b))
        differences[title] = {
            "pooled": paired_mean_oks_difference(runs_a, runs_b, samples, bootstrap_seed),
            "seeds": {
                str(seed): paired_mean_oks_difference([one], [other], samples, bootstrap_seed)["wholebody"]
                for seed, one, other in zip(plan.seeds, runs_a, runs_b)
            },
        }
    counts = {len(one.annotation_id) for one in persons.values()}
    found = {"seeds": list(plan.seeds), **plan.notes, "models": numbers, "differences": differences}
    return found | ({"persons": counts.pop()} if len(counts) == 1 else {})


def _runs(plan: Plan, seed: int) -> set[str]:
    return {run for model in plan.models for run, *_ in plan.places(model, seed)}


def _of_run(run: str, revision: str, name: str) -> tuple[dict[str, Any], PersonOks]:
    """Metrics and OKS of each person of a run's model `name`."""
    metrics = _json(run, revision, METRICS / f"{name}.json")
    return shortened(metrics), read_person_oks(_json(run, revision, person_oks_file(name, metrics["val_set"])))


def weighted(parts: Sequence[tuple[Any, float]]) -> Any:
    """The weighted sum of equal structures of numbers."""
    if isinstance(parts[0][0], Mapping):
        return {key: weighted([(one[key], share) for one, share in parts]) for key in parts[0][0]}
    return sum(share * value for value, share in parts)


def shortened(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a model's metrics that tables over seeds show."""
    return {
        **{figure: {part: metrics[part][figure] for part in PARTS} for figure in ("AP", "AR")},
        "mean_oks": {part: metrics["mean_oks"][part] for part in PARTS},
    }


def what_was_seen(plan: Plan, revisions: Mapping[str, str]) -> dict[str, Any]:
    """Persons and labelled keypoints of the training sets with labels and without, and the largest label loss in a
    training without labels."""
    import io

    import pandas as pd

    data, losses = {}, [0.0]
    for title, run in (
        ("with labels", plan.place("all", plan.seeds[0])[0]),
        ("without labels", unlabelled.PICTURES),
    ):
        train = _json(run, revisions[run], Path("prepared/report.json"))["sets"]["train"]
        data[title] = [train["persons"], sum(part["keypoints"] for part in train["parts"].values())]
    for name, (*_, labelled) in unlabelled.VARIANTS.items():
        for seed in () if labelled else plan.seeds:
            run, model = plan.place(name, seed)
            curves = pd.read_csv(io.StringIO(_read(run, revisions[run], Path(f"reports/curves/{model}.tsv"))), sep="\t")
            losses.append(float(curves["label"].abs().max()))
    return {"data": data, "label_loss": max(losses)}


def _json(run: str, revision: str, path: Path) -> Any:
    return json.loads(_read(run, revision, path))


def _read(run: str, revision: str, path: Path) -> str:
    """A file of an experiment, from git or from DVC's cache."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        return dvc.api.read(str(path), rev=revision)
    except (OSError, DvcException) as error:
        raise UserError(f"{run}: DVC has no {path} of it any more; remove it with  dvc exp remove {run}") from error
