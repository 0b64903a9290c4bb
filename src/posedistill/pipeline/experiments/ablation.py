"""The ablations of the paper on the embedded default: what does each part of the two-stage distillation do?

One teacher for all; the trainings differ in the student's seed. Also the grid over the weights of both terms.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from posedistill.pipeline.experiments.workspaces import Experiment, Workspace

SEEDS = (0, 1, 2)

# name → (text, changed settings, stage whose model it is)
VARIANTS: dict[str, tuple[str, Mapping[str, Any], str]] = {
    "baseline": ("labels only", {}, "baseline"),
    "feature": ("+ features", {"loss.beta": 0.0}, "stage1"),
    "logit": ("+ logits", {"loss.alpha": 0.0}, "stage1"),
    "both": ("+ features + logits (stage 1)", {}, "stage1"),
    "no-decay": ("stage 1 without decay", {"loss.decay": False}, "stage1"),
    "labelled": ("stage 1, logits on labelled keypoints", {"loss.logit_on": "labelled"}, "stage1"),
    "baseline-stage2": ("labels only, then stage 2", {"stage2.init": "baseline"}, "stage2"),
    "stage2": ("both stages", {}, "stage2"),
}

# What is compared: title → (variant, minus variant).
PAIRS = {
    "features − baseline": ("feature", "baseline"),
    "logits − baseline": ("logit", "baseline"),
    "both − baseline": ("both", "baseline"),
    "both − features": ("both", "feature"),
    "both − logits": ("both", "logit"),
    "without decay − with": ("no-decay", "both"),
    "labelled only − all logits": ("labelled", "both"),
    "stage 2 on the baseline − baseline": ("baseline-stage2", "baseline"),
    "both stages − stage 1": ("stage2", "both"),
}

ALPHAS = (2e-5, 7e-5, 2e-4)
BETAS = (0.1, 0.3, 1.0)  # from the published one to that of the embedded default


def seed_changes(seed: int) -> dict[str, Any]:
    """Settings of another student; the teacher stays."""
    return {"student.seed": seed, "stage2.seed": seed}


def workspaces(seeds: tuple[int, ...] = SEEDS) -> list[Workspace]:
    """All trainings of the ablation; stage 2 takes its start from the workspace that trained it."""
    teacher = {"teacher": ""}
    starts = {
        "baseline-stage2": ("baseline", "baseline"),
        "stage2": ("stage1", "both"),
    }
    found = []
    for seed, (name, (_, changes, stage)) in product(seeds, VARIANTS.items()):
        models: dict[str, str] = {} if stage == "baseline" else dict(teacher)
        if name in starts:
            model, source = starts[name]
            models = {model: f"{source}-seed{seed}"}
        found.append(Workspace(f"{name}-seed{seed}", {**changes, **seed_changes(seed)}, (stage,), models))
    return found


def place(variant: str, seed: int) -> tuple[str, str]:
    """(workspace, name of the model in it) of a variant."""
    return f"{variant}-seed{seed}", VARIANTS[variant][2]


def experiment(seeds: tuple[int, ...] = SEEDS) -> Experiment:
    """What `make ablation` runs."""
    return Experiment("ablation", workspaces(seeds), tuple(VARIANTS), PAIRS, place, seeds)


def sweep(
    seeds: tuple[int, ...] = (0,), alphas: tuple[float, ...] = ALPHAS, betas: tuple[float, ...] = BETAS
) -> Experiment:
    """What `make sweep` runs: stage 1 for each pair of alpha and beta."""
    grid = {f"alpha{alpha:g}-beta{beta:g}": (alpha, beta) for alpha, beta in product(alphas, betas)}
    trainings = [
        Workspace(
            f"{name}-seed{seed}",
            {"loss.alpha": alpha, "loss.beta": beta, **seed_changes(seed)},
            ("stage1",),
            {"teacher": ""},
        )
        for seed, (name, (alpha, beta)) in product(seeds, grid.items())
    ]
    return Experiment("sweep", trainings, tuple(grid), {}, _sweep_place, seeds, {"grid": grid})


def _sweep_place(name: str, seed: int) -> tuple[str, str]:
    return f"{name}-seed{seed}", "stage1"
