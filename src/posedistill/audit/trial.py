"""The audit on trial: rendered people, whose labels are exact, with known faults injected.

python -m posedistill.audit.trial models/teacher.safetensors     fit weights.json anew (seed TUNING)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posedistill import project
from posedistill.audit.candidates import KINDS, Candidate
from posedistill.audit.faults import inject
from posedistill.audit.findings import SURE, judged
from posedistill.audit.judge import FEATURES, WEIGHTS, fit
from posedistill.audit.labels import read_pictures
from posedistill.audit.survey import Memory, Survey, survey
from posedistill.errors import exits_with_line
from posedistill.files import write_atomic
from posedistill.inference.pose import Pose, load
from posedistill.synthetic import render_dataset

TUNING, UNSEEN = 7100, 7400  # seeds of pictures: the weights were fitted on the first alone
SETS = 4  # label sets with other faults, to fit on
PICTURES = 500
BODY = Path("data/body")
PRECISION, RECALL = 0.8, 0.7  # of the two figures that sum up a curve

Faults = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Trial:
    """One seed: the survey of the labels with faults, what was injected, and the survey of the clean labels."""

    faulty: Survey
    faults: Faults
    clean: Survey

    def truth(self) -> np.ndarray:
        """Whether each candidate of the faulty labels names a fault that was injected, its part included: bool [N]."""
        known: dict[int | None, Mapping[str, Any]] = {fault["annotation_id"]: fault for fault in self.faults}
        return np.array([_is_fault(one, known) for one in self.faulty.candidates])


def _is_fault(one: Candidate, known: Mapping[int | None, Mapping[str, Any]]) -> bool:
    if one.kind == "double":
        pair = {one.identity, one.other}
        return any(f["kind"] == "double" and {f["annotation_id"], f["of"]} == pair for f in map(known.get, pair) if f)
    fault = known.get(one.identity)
    return fault is not None and fault["kind"] == one.kind and fault["part"] == one.part


def run_trial(
    pose: Pose, seed: int, pictures: int = PICTURES, body: Path = BODY, *, faults: Sequence[int] = (0,)
) -> list[Trial]:
    """Render `pictures` pictures and survey their true labels and, for each seed of `faults`, those with faults.

    UserError if the body from which people are rendered is missing.
    """
    folder = project.checkpoints() / f"audit-{seed}-{pictures}"
    render_dataset(body, folder, pictures, seed)
    content = json.loads((folder / "annotations.json").read_text())
    memory: Memory = {}
    clean = survey(pose, read_pictures(folder / "annotations.json", folder / "images"), memory)
    trials = []
    for number in faults:
        changed, done = inject(content, number)
        write_atomic(folder / "faulty.json", json.dumps(changed))
        faulty = survey(pose, read_pictures(folder / "faulty.json", folder / "images"), memory)
        trials.append(Trial(faulty, done, clean))
    return trials


@dataclass(frozen=True)
class Curve:
    """The ranking of one kind: precision and recall of its first n findings.

    sure, right: [N], surest first. injected: faults of the kind.
    """

    sure: np.ndarray
    right: np.ndarray
    injected: int

    @property
    def precision(self) -> np.ndarray:
        return np.cumsum(self.right) / np.arange(1, len(self.right) + 1)

    @property
    def recall(self) -> np.ndarray:
        return np.cumsum(self.right) / max(1, self.injected)

    def precision_at(self, recall: float = RECALL) -> float:
        """Precision among the first findings, up to the one that reaches the recall; 0 if none does."""
        place = int(np.searchsorted(self.recall, recall - 1e-9))
        return float(self.precision[place]) if place < len(self.right) else 0.0

    def recall_at(self, precision: float = PRECISION) -> float:
        """The largest recall at which the precision still holds; 0 if it never does."""
        return float(self.recall[self.precision >= precision].max(initial=0.0))


def curves(trial: Trial) -> dict[str, Curve]:
    """Kind → curve of the findings as the command lists them."""
    sure, truth = judged(trial.faulty.candidates, trial.faulty.people), trial.truth()
    kinds = np.array([one.kind for one in trial.faulty.candidates])
    found = {}
    for kind in KINDS:
        rows = np.flatnonzero(kinds == kind)
        rows = rows[np.argsort(-sure[rows], kind="stable")]
        found[kind] = Curve(sure[rows], truth[rows], sum(fault["kind"] == kind for fault in trial.faults))
    return found


def accused(trial: Trial, least: float = SURE) -> float:
    """Share of the persons with correct labels for whom a finding at least this sure is reported."""
    sure = judged(trial.clean.candidates, trial.clean.people)
    named = {one.identity for one, p in zip(trial.clean.candidates, sure) if p >= least}
    return len(named) / max(1, len(trial.clean.people))


def summary(trials: Mapping[str, Trial]) -> dict[str, Any]:
    """The figures of each trial, as reports/metrics/audit.json holds them."""
    return {
        name: {
            "persons": len(trial.faulty.people),
            "clean_persons_accused": round(accused(trial), 4),
            "kinds": {
                kind: {
                    "injected": curve.injected,
                    "precision_at_recall_70": round(curve.precision_at(), 4),
                    "recall_at_precision_80": round(curve.recall_at(), 4),
                    "precision_of_the_sure": _mean(curve.right[curve.sure >= SURE]),  # None: none is
                }
                for kind, curve in curves(trial).items()
            },
        }
        for name, trial in trials.items()
    }


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


@exits_with_line
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m posedistill.audit.trial", description="Fit the audit's weights.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    options = parser.parse_args(argv)
    project.enter()
    trials = run_trial(load(options.model, flip_test=True), TUNING, options.pictures, faults=range(SETS))
    known = [(one.faulty.candidates, one.truth(), {f["annotation_id"] for f in one.faults}) for one in trials]
    fitted = fit(known)
    write_atomic(WEIGHTS, json.dumps(fitted, indent=1) + "\n")
    print(f"{WEIGHTS}: {', '.join(FEATURES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
