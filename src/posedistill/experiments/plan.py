"""The plan of an experiment: runs of the pipeline with other settings, and the comparisons between them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posedistill.models.rtmpose import INPUT_MULTIPLE

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
    (model, minus model); `notes` go into the results as they are. `between` maps a model that no run trains to the two
    between which it lies, and the share of the second: its results are interpolated, person by person.
    """

    name: str
    runs: Sequence[Run]
    models: Sequence[str]
    pairs: Mapping[str, tuple[str, str]]
    place: Callable[[str, int], tuple[str, str]]
    seeds: Sequence[int]
    notes: Mapping[str, Any] = field(default_factory=dict)
    between: Mapping[str, tuple[str, str, float]] = field(default_factory=dict)

    def places(self, model: str, seed: int) -> list[tuple[str, str, float]]:
        """The runs from which a model's results come, its name there, and the share of each."""
        first, second, share = self.between.get(model, (model, model, 0.0))
        found = [(*self.place(first, seed), 1 - share), (*self.place(second, seed), share)]
        return [one for one in found if one[2] > 0]


def evaluations(*models: str) -> tuple[str, ...]:
    """The stages of dvc.yaml that evaluate `models`."""
    return tuple(f"evaluate@{model}" for model in models)


def larger_input(settings: Mapping[str, Any]) -> dict[str, int]:
    """Half again the input (192×144 for 128×96, 384×288 for 256×192), or twice where that is no allowed size."""
    sides = {side: settings["input"][side] for side in ("height", "width")}
    half = not any(3 * value // 2 % INPUT_MULTIPLE for value in sides.values())
    return {side: 3 * value // 2 if half else 2 * value for side, value in sides.items()}


def override(value: Any) -> str:
    """`value` as `dvc exp run --set-param` reads it (Hydra's grammar: keys without quotes)."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(override, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
