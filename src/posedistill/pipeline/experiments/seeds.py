"""The default models under several training seeds: does distillation gain more than the seed makes vary?

teacher, baseline, stage 1, stage 2 with seeds k = 0, 1, 2 (seed 0 is the pipeline's own), and a second baseline
that trains as long as stage 1 takes on the clock: the equal-epoch baseline saves the teacher's forward passes.
"""

from collections.abc import Mapping
from typing import Any

from posedistill.pipeline.experiments.workspaces import Experiment, Workspace

SEEDS = (0, 1, 2)

# Time of a stage-1 step over that of a baseline step: 0.302 s over 0.175 s of CPU time for a batch of 16 at 128×96,
# nw to n, one thread; rounded up, in favour of the baseline.
STAGE1_COST = 1.75

MODELS = ("teacher", "baseline", "baseline_long", "stage1", "stage2")
# What is compared: title → (model, minus model).
PAIRS = {
    "teacher − baseline": ("teacher", "baseline"),
    "stage 1 − baseline": ("stage1", "baseline"),
    "stage 1 − longer baseline": ("stage1", "baseline_long"),
    "stage 2 − stage 1": ("stage2", "stage1"),
}


def long_epochs(settings: Mapping[str, Any], cost: float = STAGE1_COST) -> int:
    """Epochs of a baseline in the time of stage 1."""
    return round(settings["student"]["epochs"] * cost)


def seed_changes(seed: int) -> dict[str, Any]:
    """Settings that make a training another one and nothing else."""
    return {"teacher.seed": seed, "student.seed": seed, "stage2.seed": seed}


def workspaces(
    settings: Mapping[str, Any], seeds: tuple[int, ...] = SEEDS, cost: float = STAGE1_COST
) -> list[Workspace]:
    """All trainings, those that others wait for first."""
    longer = {"student.epochs": long_epochs(settings, cost)}
    found = [
        Workspace(f"seed{seed}", seed_changes(seed), ("teacher", "baseline", "stage1", "stage2")) for seed in seeds
    ]
    return found + [Workspace(f"seed{seed}-long", {**seed_changes(seed), **longer}, ("baseline",)) for seed in seeds]


def place(model: str, seed: int) -> tuple[str, str]:
    """(workspace, name there) of a model: baseline_long is the baseline of its own workspace."""
    return (f"seed{seed}-long", "baseline") if model == "baseline_long" else (f"seed{seed}", model)


def experiment(settings: Mapping[str, Any], seeds: tuple[int, ...] = SEEDS) -> Experiment:
    """What `make seeds` runs."""
    longer = {"epochs": long_epochs(settings), "of": settings["student"]["epochs"], "cost": STAGE1_COST}
    return Experiment("seeds", workspaces(settings, seeds), MODELS, PAIRS, place, seeds, {"long": longer})
