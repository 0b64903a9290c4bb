"""The paper's ablations on the embedded default: the effect of each part of the two-stage distillation.

All variants share one teacher, except the one whose teacher has a larger input; only the student's seed varies. Also
the grid over the weights of both terms.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from posedistill.experiments.plan import SEEDS, Plan, Run, evaluations, larger_input

# name → (changed settings, name of the model in the pipeline)
VARIANTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "baseline": ({}, "baseline"),
    "feature": ({"loss.beta": 0.0}, "stage1"),
    "logit": ({"loss.alpha": 0.0}, "stage1"),
    "both": ({}, "stage1"),
    "no-decay": ({"loss.decay": False}, "stage1"),
    "labelled": ({"loss.logit_on": "labelled"}, "stage1"),
    "larger-teacher": ({"teacher.input": None}, "stage1"),  # the size: larger_input
    "baseline-stage2": ({"stage2.init": "baseline"}, "stage2"),
    "stage2": ({}, "stage2"),
}

PAIRS = {
    "features − baseline": ("feature", "baseline"),
    "logits − baseline": ("logit", "baseline"),
    "both − baseline": ("both", "baseline"),
    "both − features": ("both", "feature"),
    "both − logits": ("both", "logit"),
    "without decay − with": ("no-decay", "both"),
    "labelled only − all logits": ("labelled", "both"),
    "larger teacher − teacher": ("larger-teacher", "both"),
    "stage 2 on the baseline − baseline": ("baseline-stage2", "baseline"),
    "both stages − stage 1": ("stage2", "both"),
}

LARGER = "ablation-teacher"  # the run that trains the larger teacher

ALPHAS = (2e-5, 7e-5, 2e-4)
BETAS = (0.1, 0.3, 1.0)  # from the published one to that of the embedded default


def plan(settings: Mapping[str, Any], seeds: tuple[int, ...] = SEEDS) -> Plan:
    """What `make ablation` runs: for each seed the pipeline as it is, then each variant.

    Stage 2 on the baseline comes last: by then DVC's run cache has the baselines.
    """
    changed = {name: variant for name, variant in VARIANTS.items() if variant[0]}
    larger = {"teacher.input": larger_input(settings)}
    changed["larger-teacher"] = (larger, "stage1")
    plain = evaluations(*(model for changes, model in VARIANTS.values() if not changes))
    runs = [Run(LARGER, larger, ("teacher",))]
    runs += [Run(f"ablation-plain-seed{seed}", _seed(seed), plain) for seed in seeds]
    for (name, (changes, model)), seed in product(changed.items(), seeds):
        after = (LARGER,) if changes == larger else ()  # else two runs side by side would train the same teacher
        runs.append(Run(f"ablation-{name}-seed{seed}", {**changes, **_seed(seed)}, _targets(changes, model), after))
    return Plan("ablation", runs, tuple(VARIANTS), PAIRS, _place, seeds)


def sweep(settings: Mapping[str, Any], seeds: tuple[int, ...] = (0,)) -> Plan:
    """What `make sweep` runs: stage 1 for each pair of alpha and beta."""
    grid = {f"alpha{alpha:g}-beta{beta:g}": (alpha, beta) for alpha, beta in product(ALPHAS, BETAS)}
    runs = [
        Run(f"sweep-{name}-seed{seed}", {"loss.alpha": alpha, "loss.beta": beta, **_seed(seed)}, evaluations("stage1"))
        for seed, (name, (alpha, beta)) in product(seeds, grid.items())
    ]
    return Plan(
        "sweep", runs, tuple(grid), {}, lambda name, seed: (f"sweep-{name}-seed{seed}", "stage1"), seeds, {"grid": grid}
    )


def _seed(seed: int) -> dict[str, Any]:
    return {"student.seed": seed, "stage2.seed": seed}


def _targets(changes: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """The evaluation of `model`; with another start of stage 2, also the stage that it starts from, which the
    workspace's graph does not have before it."""
    start = (changes["stage2.init"],) if "stage2.init" in changes else ()
    return (*start, *evaluations(model))


def _place(variant: str, seed: int) -> tuple[str, str]:
    changes, model = VARIANTS[variant]
    return f"ablation-{variant if changes else 'plain'}-seed{seed}", model
