"""The plan of an experiment: runs of the pipeline with other settings, and the comparisons between them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Run:
    """One experiment of DVC: the pipeline up to `targets`, with `changes` ("loss.alpha" → value) of the settings.

    `after` names runs that must finish before this one is queued, because it reuses their results.
    """

    name: str
    changes: Mapping[str, Any]
    targets: tuple[str, ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Runs, in starting order, and what is compared.

    `place(model, seed)` is the name of a run and the pipeline's name of the model there; `pairs` maps a title to
    (model, minus model); `notes` go into the results as they are.
    """

    name: str
    runs: Sequence[Run]
    models: Sequence[str]
    pairs: Mapping[str, tuple[str, str]]
    place: Callable[[str, int], tuple[str, str]]
    seeds: Sequence[int]
    notes: Mapping[str, Any] = field(default_factory=dict)


def evaluations(*models: str) -> tuple[str, ...]:
    """The stages of dvc.yaml that evaluate `models`."""
    return tuple(f"evaluate@{model}" for model in models)


def override(value: Any) -> str:
    """`value` as `dvc exp run --set-param` reads it (Hydra's grammar: keys without quotes)."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(override, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
