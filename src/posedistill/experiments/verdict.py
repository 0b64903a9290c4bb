"""Which distillation losses are worth their time? Each against the baseline, at equal epochs and at equal time.

All variants share data, schedule and one teacher; only the student's seed varies. A baseline of equal time trains for
as many epochs as the variant's steps cost on this machine (`costs`); between two whole numbers, both are trained and
interpolated.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError
from posedistill.experiments import costs, engine
from posedistill.experiments.plan import SEEDS, Plan, Run, evaluations, larger_input
from posedistill.files import write_atomic
from posedistill.losses import EXTRA_TERMS
from posedistill.pipeline.provenance import locked_settings, locked_stages

SECOND_SEED = 100  # of the second teacher
SECOND = "verdict-second-teacher"
LARGER = "verdict-larger-teacher"


@dataclass(frozen=True)
class Variant:
    """A way to distil: its name in tables, the changed settings, the pipeline's model, and the runs it needs."""

    text: str
    changes: Mapping[str, Any]
    model: str = "stage1"
    after: tuple[str, ...] = ()


def variants(settings: Mapping[str, Any]) -> dict[str, Variant]:
    """The published losses, each term of `losses.EXTRA_TERMS`, and other teachers, on the weights of `settings`."""
    beta = settings["loss"]["beta"]
    if settings["loss"]["extra"] is not None:  # DVC merges mappings instead of replacing them
        raise UserError("loss.extra: the verdict tries its own terms; allowed: null")
    logits = {"loss.alpha": 0.0}
    found = {
        "features": Variant("features", {"loss.beta": 0.0}),
        "logits": Variant("logits", logits),
        "both": Variant("features and logits (stage 1)", {}),
        "stages": Variant("stage 1, then stage 2", {}, "stage2"),
    }
    for name, term in EXTRA_TERMS.items():
        changes = {**logits, "loss.extra": {name: round(term.weight * beta, 6)}}
        if term.replaces_logits:
            found[name] = Variant(name, {**changes, "loss.beta": 0.0})
        else:
            found[name] = Variant(f"logits and {name}", changes)
    if settings["teacher"]["checkpoint"] is None:
        more = [{"path": str(second_teacher(settings)), "sha256": None}]
        found["teachers"] = Variant("logits, mean of two teachers", {**logits, "teacher.more": more}, after=(SECOND,))
        own = larger_input(settings)
        text = f"logits, teacher at {own['height']}×{own['width']}"
        found["larger"] = Variant(text, {**logits, "teacher.input": own}, after=(LARGER,))
    return found


def plan(settings: Mapping[str, Any], seeds: tuple[int, ...] = SEEDS) -> Plan:
    """What `make verdict` runs."""
    ways = variants(settings)
    epochs = settings["student"]["epochs"]
    cost = costs.relative_costs(settings, {name: (way.changes, way.model) for name, way in ways.items()})
    times = {name: epochs * cost[name] for name in ways}
    # Stage 2 comes after stage 1: their times add up.
    times["stages"] = times["both"] + settings["stage2"]["epochs"] * cost["stages"]
    runs = [Run(LARGER, {"teacher.input": larger_input(settings)}, ("teacher",))] if "larger" in ways else []
    runs += [
        Run(_run(f"baseline{whole}", seed), {"student.epochs": whole, "student.seed": seed}, evaluations("baseline"))
        for whole in sorted({epochs, *costs.whole_epochs(times.values())})
        for seed in seeds
    ]
    runs += [
        Run(
            _run(name, seed),
            {**way.changes, "student.seed": seed, "stage2.seed": seed},
            evaluations(*(("stage1", "stage2") if name == "stages" else (way.model,))),
            tuple(run for run in way.after if run == LARGER),  # the second teacher is a file by then
        )
        for name, way in ways.items()
        if name != "both"  # on the way to "stages"
        for seed in seeds
    ]
    pairs, lies = {}, {}
    for name, way in ways.items():
        low, high, share = costs.between(times[name])
        lies[f"{name}-time"] = (f"baseline{low}", f"baseline{high}", share)
        pairs[f"{way.text} − baseline"] = (name, "baseline")
        pairs[f"{way.text} − baseline of equal time"] = (name, f"{name}-time")

    def place(model: str, seed: int) -> tuple[str, str]:
        if model in ways:
            return _run("stages" if model == "both" else model, seed), ways[model].model
        return _run(f"baseline{epochs}" if model == "baseline" else model, seed), "baseline"

    notes = {
        "texts": {name: way.text for name, way in ways.items()},
        "costs": {name: round(time / epochs, 2) for name, time in times.items()},  # of all its steps
        "epochs": {name: round(time, 2) for name, time in times.items()},
        "of": epochs,
    }
    return Plan("verdict", runs, ("baseline", *ways, *lies), pairs, place, seeds, notes, lies)


def _run(name: str, seed: int) -> str:
    return f"verdict-{name}-seed{seed}"


def second_teacher(settings: Mapping[str, Any]) -> Path:
    """Path of the second teacher, readable from DVC's temporary copies of the project.

    Its folder is named by a hash of everything that decides the training.
    """
    locked = locked_stages()
    deps = {dep["path"]: dep.get("md5") for dep in locked.get("teacher", {}).get("deps", [])}
    content = [SECOND_SEED, settings["teacher"], locked_settings(locked, "teacher"), deps]
    key = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return project.checkpoints() / f"verdict-{key}" / "teacher.safetensors"


def make_second_teacher(repo: Any, settings: Mapping[str, Any]) -> None:
    """Train the second teacher, unless its file is there: the pipeline's own with another seed."""
    import dvc.api

    target = second_teacher(settings)
    if target.is_file() or settings["teacher"]["checkpoint"] is not None:
        return
    first = Plan("verdict", [Run(SECOND, {"teacher.seed": SECOND_SEED}, ("teacher",))], (), {}, lambda *_: ("", ""), ())
    engine.run_all(repo, first, 1)
    write_atomic(target, dvc.api.read(str(costs.TEACHER), rev=engine.finished(repo, first)[SECOND], mode="rb"))
