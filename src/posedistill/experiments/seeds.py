"""The default models with several training seeds: does the gain of distillation exceed the spread over seeds?

For each seed: teacher, baseline, stage 1, stage 2, and a baseline with the training time of stage 1: with equal epochs,
the baseline saves the teacher's forward passes. How many epochs that are follows from the measured cost of a step;
between two whole numbers, both are trained and interpolated.
"""

from collections.abc import Mapping
from typing import Any

from posedistill.experiments import costs
from posedistill.experiments.plan import SEEDS, Plan, Run, evaluations

MODELS = ("teacher", "baseline", "baseline_long", "stage1", "stage2")
PAIRS = {
    "teacher − baseline": ("teacher", "baseline"),
    "stage 1 − baseline": ("stage1", "baseline"),
    "stage 1 − longer baseline": ("stage1", "baseline_long"),
    "stage 2 − stage 1": ("stage2", "stage1"),
}


def plan(settings: Mapping[str, Any], seeds: tuple[int, ...] = SEEDS) -> Plan:
    """What `make seeds` runs."""
    epochs = settings["student"]["epochs"]
    cost = costs.relative_costs(settings, {"stage1": ({}, "stage1")})["stage1"]
    low, high, share = costs.between(epochs * cost)
    longer = {"epochs": epochs * cost, "of": epochs, "cost": cost, "trained": [low, high]}
    changes = {seed: {"teacher.seed": seed, "student.seed": seed, "stage2.seed": seed} for seed in seeds}
    runs = [
        Run(f"seeds-all-seed{seed}", changes[seed], evaluations("teacher", "baseline", "stage1", "stage2"))
        for seed in seeds
    ]
    runs += [
        Run(f"seeds-long{whole}-seed{seed}", {**changes[seed], "student.epochs": whole}, evaluations("baseline"))
        for whole in costs.whole_epochs([epochs * cost])
        for seed in seeds
    ]
    lies = {"baseline_long": (f"long{low}", f"long{high}", share)}
    return Plan("seeds", runs, MODELS, PAIRS, _place, seeds, {"long": longer}, lies)


def _place(model: str, seed: int) -> tuple[str, str]:
    return (f"seeds-{model}-seed{seed}", "baseline") if model.startswith("long") else (f"seeds-all-seed{seed}", model)
