"""From measures to the probability that a candidate is a fault.

Each measure that has a natural scatter is compared with the scatter in this very data set (median and median absolute
deviation of its logarithm, a part at a time): what is usual for this model and these annotators is no fault. Most
labels are right, so a few per cent of faults do not move the medians. One logistic regression per kind then weighs the
measures; its weights were fitted on rendered people with injected faults (`trial`) and are the same for all data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from posedistill.audit.candidates import Candidate
from posedistill.audit.measure import BOX_SIDES

WEIGHTS = Path(__file__).with_name("weights.json")
TRUST = 5  # candidates of a part with which the data's own scatter counts as much as that of rendered people
RIDGE = 2e-2  # of the logistic regressions, for standardised features
FLOOR = {"away": 0.02, "gap": 0.02, "differ": 0.02, "spread": 0.01}  # of measures whose logarithm is taken

# The measures whose usual scatter is taken from the data. Missing parts are compared with labelled ones, where the
# question is whether the model sees them as well.
SCATTERED = {
    "shifted": ("away", "gap", "differ", "spread", "sure", "low"),
    "other_person": ("gap", "away"),
    "box": tuple(f"{name}_{side}" for name in ("wide", "narrow") for side in BOX_SIDES),
}
SCALE_OF = {"unlabelled": "shifted"}

Scatter = dict[str, tuple[float, float, int]]  # "kind/part/measure" → median, deviation, count
Features = dict[str, float]


def scatter_of(found: Sequence[Candidate]) -> Scatter:
    """The usual values of a data set."""
    values: dict[str, list[float]] = {}
    for one in found:
        for name in SCATTERED.get(one.kind, ()):
            value = _level(name, one.measures[name])
            if np.isfinite(value):
                values.setdefault(f"{one.kind}/{one.part}/{name}", []).append(value)
    scatter = {}
    for key, row in sorted(values.items()):
        middle = float(np.median(row))
        scatter[key] = (middle, float(1.4826 * np.median(np.abs(np.array(row) - middle))), len(row))
    return scatter


def _level(name: str, value: float) -> float:
    return float(np.log(value + FLOOR[name])) if name in FLOOR else float(value)


def _joined(own: Scatter, usual: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """The data's scatter, drawn towards that of rendered people where it rests on few persons."""
    joined = {}
    for key in {*own, *usual}:
        middle, deviation, count = own.get(key, (0.0, 0.0, 0))
        other = usual.get(key, (middle, deviation, 0))
        share = count / (count + TRUST) if key in usual else 1.0
        joined[key] = (share * middle + (1 - share) * other[0], max(0.1, share * deviation + (1 - share) * other[1]))
    return joined


class Scale:
    """How unusual a measure is, in deviations from the median of its part."""

    def __init__(self, own: Scatter, usual: Mapping[str, Sequence[float]] | None = None) -> None:
        self.scatter = _joined(own, weights()["scatter"] if usual is None else usual)

    def __call__(self, candidate: Candidate, name: str) -> float:
        value, middle, deviation = self._of(candidate, name)
        return float(np.clip((value - middle) / deviation, -4, 8))

    def times(self, candidate: Candidate, name: str) -> float:
        """Logarithm of the ratio to the usual value; for measures in FLOOR."""
        value, middle, _ = self._of(candidate, name)
        return value - middle

    def _of(self, candidate: Candidate, name: str) -> tuple[float, float, float]:
        """Level, median and deviation; an unknown measure counts as usual."""
        value = _level(name, candidate.measures[name])
        key = f"{SCALE_OF.get(candidate.kind, candidate.kind)}/{candidate.part}/{name}"
        if not np.isfinite(value) or key not in self.scatter:
            return 0.0, 0.0, 1.0
        return value, *self.scatter[key]


def _shifted(one: Candidate, z: Scale) -> Features:
    m = one.measures
    known = np.isfinite(m["gap"])
    return {
        "gap": z(one, "gap"),
        "gap_times": z.times(one, "gap"),
        "away": z(one, "away"),
        "away_without_gap": 0.0 if known else z(one, "away"),
        "agree": -z(one, "differ"),
        "closed": _gain(m["closed"]),
        "moved": _gain(m["moved"]),
        "unlikely": -m["here"] / 4,
    }


def _gain(nats: float) -> float:
    return float(np.clip(nats, -3, 8)) / 4


def _other_person(one: Candidate, z: Scale) -> Features:
    m = one.measures
    return {
        "gap": z(one, "gap"),
        "fits_other": -np.log(min(m["other_gap"], 10.0) + 0.05),
        "on_other": -np.log(min(m["other"], 10.0) + 0.05),
        "away": z(one, "away"),
        "unlikely": -m["here"] / 4,
    }


def _unlabelled(one: Candidate, z: Scale) -> Features:
    m = one.measures
    known = np.isfinite(m["gap"])
    return {
        "sure": z(one, "sure"),
        "low": z(one, "low"),
        "steady": -z(one, "spread"),
        "body_labelled": float(known),
        "at_body": -z(one, "gap") if known else 0.0,
        "inside": m["inside"],
        "pixels": np.log(m["pixels"]),
        "small": -np.log(m["size"]),
    }


def _swapped(one: Candidate, z: Scale) -> Features:
    m = one.measures
    return {
        "body_gain": m["body_gain"] / 4,
        "hand_gain": m["hand_gain"] / 4,
        "total": float(np.clip(m["total"] / 20, -3, 3)),
        "gap": float(np.clip(m["gap"], -1, 1)),
        "agree": m["agree"],
        "sure": m["sure"] / 4,
    }


def _double(one: Candidate, z: Scale) -> Features:
    return dict(one.measures)


def _box(one: Candidate, z: Scale) -> Features:
    m = one.measures
    inner = [side for side in BOX_SIDES if not m[f"edge_{side}"]]
    edges = [side for side in BOX_SIDES if m[f"edge_{side}"]]
    wide, narrow = max(m[f"wide_{side}"] for side in BOX_SIDES), -min(m[f"narrow_{side}"] for side in BOX_SIDES)
    return {
        "wide": max((z(one, f"wide_{side}") for side in inner), default=0.0),
        "wide_at_edge": max((z(one, f"wide_{side}") for side in edges), default=0.0),
        "narrow": max(-z(one, f"narrow_{side}") for side in BOX_SIDES),
        "wide_size": max(0.0, wide),
        "narrow_size": max(0.0, narrow),
        "beyond": m["beyond"],
    }


FEATURES: dict[str, Callable[[Candidate, Scale], Features]] = {
    "shifted": _shifted,
    "other_person": _other_person,
    "unlabelled": _unlabelled,
    "swapped": _swapped,
    "double": _double,
    "box": _box,
}


@cache
def weights() -> dict[str, Any]:
    """The fitted weights and the scatter of rendered people."""
    return json.loads(WEIGHTS.read_text(encoding="utf-8"))


def probabilities(found: Sequence[Candidate], fitted: Mapping[str, Any] | None = None) -> np.ndarray:
    """How sure it is that each candidate is a fault, [N] in [0, 1]. A point outside its picture is a fact: 1 from a
    pixel on."""
    fitted = weights() if fitted is None else fitted
    z = Scale(scatter_of(found), fitted["scatter"])
    sure = np.zeros(len(found))
    for i, one in enumerate(found):
        if one.kind == "outside":
            sure[i] = float(min(1.0, one.measures["beyond"]))
            continue
        kind = fitted["kinds"][one.kind]
        score = kind["bias"] + _weighed(kind["weights"], FEATURES[one.kind](one, z))
        sure[i] = 1 / (1 + np.exp(-np.clip(score, -30, 30)))
    return sure


def _weighed(slopes: Mapping[str, float], features: Features) -> float:
    return sum(slope * features[name] for name, slope in slopes.items())


Known = tuple[Sequence[Candidate], np.ndarray, Collection[int]]  # candidates, which are faults, annotations with any


def fit(sets: Sequence[Known]) -> dict[str, Any]:
    """Weights from data sets with known faults, as `weights()` returns them.

    Every feature is larger, the more the label looks like the fault; those that would get a negative weight beside the
    others are dropped, since that would be a quirk of the data. Boxes and parts of persons with other faults are left
    out: what makes them look wrong is sorted out by `findings.explained`.
    """
    usual = scatter_of([one for found, _, _ in sets for one in found])
    scales = [Scale(scatter_of(found), usual) for found, _, _ in sets]
    kinds = {}
    for kind, features in FEATURES.items():
        rows, truth = [], []
        for (found, is_fault, faulty), z in zip(sets, scales):
            for one, wrong in zip(found, is_fault):
                alone = kind not in ("box", "shifted") or one.identity not in faulty
                if one.kind == kind and (wrong or alone):
                    rows.append(features(one, z))
                    truth.append(float(wrong))
        names = list(rows[0])
        while True:
            bias, slopes = _logistic(np.array([[row[name] for name in names] for row in rows]), np.array(truth))
            kept = [name for name, slope in zip(names, slopes) if slope > 0]
            if len(kept) == len(names):
                break
            names = kept
        kinds[kind] = {"bias": bias, "weights": dict(zip(names, slopes))}
    return {"kinds": kinds, "scatter": {key: [round(v, 4) for v in row] for key, row in usual.items()}}


def _logistic(x: np.ndarray, truth: np.ndarray) -> tuple[float, list[float]]:
    """Bias and slopes of a ridge logistic regression by Newton's method: x [N, F], truth [N] in {0, 1}."""
    middle, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    design = np.column_stack(((x - middle) / deviation, np.ones(len(x))))
    penalty = np.diag([RIDGE * len(x) * truth.mean()] * x.shape[1] + [1e-9])
    w = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ w, -30, 30)))
        gradient = design.T @ (truth - p) - penalty @ w
        step = np.linalg.solve((design.T * (p * (1 - p) + 1e-9)) @ design + penalty, gradient)
        w += step * min(1.0, 5 / max(1e-9, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-8:
            break
    slopes = w[:-1] / deviation
    return round(float(w[-1] - slopes @ middle), 4), [round(float(s), 4) for s in slopes]
