"""Shared by all parts of `benchmark gpu`: sizes, settings, working folder."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

from posedistill import project
from posedistill.benchmark.figures import Figures
from posedistill.devices import Device, choose, set_up
from posedistill.params import Params, from_settings
from posedistill.pipeline.recipes import settings_of

RECIPE = "gpu-short"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is measured, and how often."""

    pairs: tuple[tuple[str, str], ...]  # of stage 1: teacher and student
    student: str  # of stage 2, and of the evaluation
    micro_batches: tuple[int, ...]  # of the first pair
    batch: int  # of the others
    matrix: int
    warm_up: int
    steps: int
    images: int  # where the training is only one part of the run
    seconds: float  # of a loader
    boxes: tuple[int, int]
    compared: int  # persons of the parity
    changes: dict[str, dict[str, Any]]  # of the recipe


LARGE = Sizes(
    pairs=(("x", "l"), ("l", "t")),
    student="l",
    micro_batches=(256, 512, 64),
    batch=512,
    matrix=8192,
    warm_up=4,
    steps=20,
    images=6000,
    seconds=5.0,
    boxes=(4000, 24000),
    compared=64,
    changes={},
)
SMALL = Sizes(
    pairs=(("nw", "n"), ("nw", "n")),
    student="n",
    micro_batches=(4, 8, 2),
    batch=4,
    matrix=256,
    warm_up=1,
    steps=2,
    images=16,
    seconds=0.1,
    boxes=(8, 16),
    compared=8,
    changes={
        "input": {"height": 64, "width": 64},
        "teacher": {"size": "nw", "epochs": 1},
        "student": {"size": "n", "epochs": 1},
        "stage2": {"epochs": 1},
        "train": {"batch": 8, "reference_batch": 8, "validate_every": 1},
        "evaluate": {"bootstrap": 20},
        "runtime": {"device": "auto"},
    },
)


@dataclasses.dataclass(frozen=True)
class Run:
    """The context of a part. work: a separate project with data, models and checkpoints, in which the parts run."""

    part: str
    work: Path
    figures: Figures
    report: Path
    end: float  # monotonic
    launched: float  # seconds since 1970, when this process was started
    sizes: Sizes
    whole_recipe: bool

    def add(self, what: str, value: float, unit: str, bar: str = "", note: str = "") -> None:
        row = self.figures.add(self.part, what, float(value), unit, bar if self.sizes is LARGE else "", note)
        print(f"{what}: {row['value']} {unit}", flush=True)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe, on data rendered from the project's own assets."""
        recipe = settings_of(RECIPE)
        recipe = {name: values | self.sizes.changes.get(name, {}) for name, values in recipe.items()}
        (train,), (val,) = recipe["data"]["train"], recipe["data"]["val"]
        if not self.whole_recipe:
            train, val = train | {"images": self.sizes.images}, val | {"images": max(8, self.sizes.images // 12)}
        recipe["data"] |= {"root": str(ASSETS), "train": [train], "val": [val]}
        return recipe

    @cached_property
    def params(self) -> Params:
        return from_settings(self.settings)

    @cached_property
    def device(self) -> Device:
        """With the compiler on a GPU; the recipe itself, which is over before compiling pays, does without."""
        device = choose(self.params.runtime)
        device = dataclasses.replace(device, compile=device.cuda)
        set_up(device)
        return device

    @property
    def rate(self) -> float:
        """Operations a second of a large matrix product, as the first part measured."""
        return float(json.loads((self.work / "card.json").read_text())["rate"])


ASSETS = project.root() / "assets"


@contextlib.contextmanager
def workshop(folder: Path) -> Iterator[None]:
    """Run the body with `folder` as the project and the working directory."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"POSEDISTILL_ROOT": str(folder), "POSEDISTILL_CHECKPOINTS": str(folder / ".checkpoints")}
    with patch.dict(os.environ, own), contextlib.chdir(folder):
        yield
