"""The recipe gpu-short as parts of `benchmark gpu`: every training in the time that is left, then their judgement.

Trainings are cut to epochs that fit, baseline and stage 1 to the same number. What is finished is kept: run again with
the same --work, the parts continue.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posedistill.benchmark.gpu_report import CURVES, DIFFERENCES, MODELS, write_report
from posedistill.benchmark.gpu_run import workshop
from posedistill.benchmark.machine import Row, write_rows
from posedistill.data.store.arrow import TrainStore
from posedistill.errors import UserError
from posedistill.files import sha256_file
from posedistill.params import ROLES, Params, from_settings
from posedistill.pipeline.prepare import prepare
from posedistill.pipeline.pretrain import pretrain

if TYPE_CHECKING:
    from posedistill.benchmark.gpu_run import Run

# In the order of the run: share of the time, and persons/s in the eager loop on an H100. The share of the two students
# is given to both together, so that they have the same epochs.
PRETRAINED = ("student", "teacher")
PHASES = {
    "pretrain-student": (0.08, 6200.0),
    "pretrain-teacher": (0.16, 3900.0),
    "teacher": (0.28, 3900.0),
    "baseline": (0.16, 6200.0),
    "stage1": (0.24, 4600.0),
    "stage2": (0.08, 7000.0),
}
OTHERS = {"seed": 5000}  # people of the pretraining: none of the training or the validation
PRETRAINING = 0.8  # of the recipe's epochs, at most
JUDGING = 4.0  # seconds left for the end of this process


class Clock:
    """Epochs for the time that is left. The speeds of PHASES are corrected by those of the phases done so far."""

    def __init__(self, run: Run) -> None:
        self.end, self.factor, self.left = run.end - JUDGING, 1.0, dict(PHASES)

    def epochs(self, names: tuple[str, ...], persons: int, most: int) -> int:
        """The same number of epochs for all of `names`, at least one and at most `most`."""
        share = sum(self.left[name][0] for name in names) / sum(share for share, _ in self.left.values())
        seconds = max(0.0, self.end - time.monotonic()) * share
        per_epoch = sum(persons / (self.left[name][1] * self.factor) for name in names)
        return max(1, min(most, int(seconds / per_epoch)))

    def done(self, name: str, persons: int, seconds: float) -> None:
        """Note that phase `name` trained on `persons` (of all epochs together) in `seconds`, its start included."""
        _, speed = self.left.pop(name)
        if seconds > 5:  # shorter ones are too noisy
            self.factor = min(1.5, persons / seconds / speed)


def train_all(run: Run) -> None:
    """Backbones on other people, teacher, baseline, stage 1, stage 2; a row of the figures for each."""
    clock, settings = Clock(run), run.settings
    for section in PRETRAINED:
        settings[section] = settings[section] | {"backbone": _backbone(run, clock, section)}
    params = from_settings(settings)
    persons = len(TrainStore("prepared/train"))
    settings["teacher"] |= {"epochs": _epochs(run, clock, ("teacher",), persons, params.teacher.epochs)}
    _train(run, clock, "teacher", settings, persons)
    students = _epochs(run, clock, ("baseline", "stage1"), persons, params.student.epochs)
    settings["student"] |= {"epochs": students}
    _train(run, clock, "baseline", settings, persons)
    _train(run, clock, "stage1", settings, persons)
    settings["stage2"] |= {"epochs": _epochs(run, clock, ("stage2",), persons, params.stage2.epochs)}
    _train(run, clock, "stage2", settings, persons)


def _epochs(run: Run, clock: Clock, names: tuple[str, ...], persons: int, most: int) -> int:
    """As `Clock.epochs`; an earlier run in the same folder has decided already."""
    path = run.work / "epochs.json"
    decided = json.loads(path.read_text()) if path.is_file() else {}
    if names[0] not in decided:
        decided[names[0]] = clock.epochs(names, persons, most)
        path.write_text(json.dumps(decided))
    return decided[names[0]]


def _train(run: Run, clock: Clock, role: str, settings: dict[str, Any], persons: int) -> None:
    from posedistill.training import train_stage

    section = {"teacher": "teacher", "stage2": "stage2"}.get(role, "student")
    epochs = settings[section]["epochs"]
    settings["augment"] |= {"weak_epochs": min(settings["augment"]["weak_epochs"], epochs // 4)}
    start = time.monotonic()
    trained = train_stage(role, from_settings(settings))
    seconds = time.monotonic() - start
    clock.done(role, epochs * persons, seconds)
    steps = int(trained.history["step"].iloc[-1])
    (run.work / f"{role}.json").write_text(json.dumps({"epochs": epochs, "steps": steps}))
    (run.work / "settings.json").write_text(json.dumps(settings))
    run.add(f"{role}: training", seconds, "s", note=f"{epochs} epochs, {steps} steps, start and validation included")


def _backbone(run: Run, clock: Clock, section: str) -> dict[str, str]:
    """Path and checksum of a backbone pretrained on body keypoints of other rendered people."""
    name, target = f"pretrain-{section}", run.work / f"backbone-{section}.safetensors"
    start = time.monotonic()
    with workshop(run.work / "pretraining"):
        if not Path("prepared/report.json").is_file():
            prepare(_pretraining(run, 1))
        persons = len(TrainStore("prepared/train"))
        most = max(1, round(PRETRAINING * run.settings[section]["epochs"]))
        epochs = _epochs(run, clock, (name,), persons, most)
        params = _pretraining(run, epochs)
        began = time.monotonic()
        pretrain(params, section, target)  # type: ignore[arg-type]
        clock.done(name, epochs * persons, time.monotonic() - began)
    run.add(
        f"{name}: training", time.monotonic() - start, "s", note=f"{epochs} epochs of {persons} persons, body alone"
    )
    return {"path": str(target), "sha256": sha256_file(target)}


def _pretraining(run: Run, epochs: int) -> Params:
    """The recipe for the body keypoints of half as many other people."""
    settings = {name: dict(values) for name, values in run.settings.items()}
    (train,), (val,) = settings["data"]["train"], settings["data"]["val"]
    settings["data"] |= {
        "parts": "body",
        "train": [train | OTHERS | {"images": max(8, train["images"] // 2)}],
        "val": [val | {"images": 8, "seed": 6000}],
    }
    settings["augment"] |= {"half_body": 0.0, "weak_epochs": 0}
    for section in PRETRAINED:
        settings[section] |= {"epochs": epochs, "backbone": None}
    return from_settings(settings)


def judge(run: Run) -> None:
    """Evaluate what was trained, compare it pair by pair, and write the report."""
    from posedistill.analysis.models import PAIRS
    from posedistill.keypoints import MAIN_PARTS
    from posedistill.pipeline.compare import compare_models
    from posedistill.pipeline.evaluate import evaluate_model
    from posedistill.training.runs import Paths

    roles = [role for role in ROLES if (run.work / f"{role}.json").is_file()]
    if not roles:
        raise UserError("no model was trained")
    params = from_settings(json.loads((run.work / "settings.json").read_text()))
    rows, curves = [], []
    for role in roles:
        found = evaluate_model(params, role)
        trained = json.loads((run.work / f"{role}.json").read_text())
        size = params.teacher.size if role == "teacher" else params.student.size
        low, high = found.intervals["wholebody"]["AP"]
        row = {"model": role, "size": size, **trained, "validation persons": found.persons}
        row |= {f"AP {part}": 100 * found.metrics[part]["AP"] for part in MAIN_PARTS}
        rows.append(row | {"low": 100 * low, "high": 100 * high, "mean OKS": 100 * found.mean_oks["wholebody"]})
        history = Paths().curves_path(role).read_text().splitlines()
        columns = history[0].split("\t")
        curves += [{"model": role, **dict(zip(columns, line.split("\t")))} for line in history[1:]]
        run.add(
            f"{role}: whole-body AP", rows[-1]["AP wholebody"], "", note=f"95 % {100 * low:.1f} to {100 * high:.1f}"
        )
    write_rows(run.report / MODELS, rows)
    write_rows(run.report / CURVES, curves)
    pairs = {title: pair for title, pair in PAIRS.items() if set(pair) <= set(roles)}
    if pairs:
        compared = compare_models(params.evaluate.bootstrap, params.evaluate.seed, roles, pairs)
        kinds = (("AP", compared.ap), ("mean OKS", compared.oks))
        differences: list[Row] = [
            {"pair": title, "metric": kind, "part": part, "mean": one.mean, "low": one.low, "high": one.high}
            for kind, found in kinds
            for title, parts in found.items()
            for part, one in parts.items()
        ]
        write_rows(run.report / DIFFERENCES, differences)
        for title, (role, against) in pairs.items():
            if against == "baseline" and role != "teacher":
                gain = compared.ap[title]["wholebody"]
                note = f"whole-body AP, 95 % {gain.low:+.1f} to {gain.high:+.1f}"
                name = "stage 1" if role == "stage1" else "stage 1 + 2"
                run.add(f"gain of {name} over the baseline", gain.mean, "points", "≥ 0", note)
    write_report(run.report, run.figures)
