"""The default models with several training seeds: does the gain of distillation exceed the spread over seeds?

For each seed: teacher, baseline, stage 1, stage 2, and a second baseline with the wall-clock time of stage 1: with
equal epochs, the baseline saves the teacher's forward passes.
"""

from collections.abc import Mapping
from typing import Any

from posedistill.experiments.plan import SEEDS, Plan, Run, evaluations

# Time of a stage-1 step over that of a baseline step: 0.302 s over 0.175 s of CPU time for a batch of 16 at 128×96,
# nw to n, one thread; rounded up, in favour of the baseline.
STAGE1_COST = 1.75

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
    longer = {"epochs": round(epochs * STAGE1_COST), "of": epochs, "cost": STAGE1_COST}
    changes = {seed: {"teacher.seed": seed, "student.seed": seed, "stage2.seed": seed} for seed in seeds}
    runs = [
        Run(f"seeds-all-seed{seed}", changes[seed], evaluations("teacher", "baseline", "stage1", "stage2"))
        for seed in seeds
    ]
    runs += [
        Run(f"seeds-long-seed{seed}", {**changes[seed], "student.epochs": longer["epochs"]}, evaluations("baseline"))
        for seed in seeds
    ]
    return Plan("seeds", runs, MODELS, PAIRS, _place, seeds, {"long": longer})


def _place(model: str, seed: int) -> tuple[str, str]:
    return (f"seeds-long-seed{seed}", "baseline") if model == "baseline_long" else (f"seeds-all-seed{seed}", model)
