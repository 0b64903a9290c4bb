"""One training loop, and three objectives over it: supervised, stage 1, stage 2.

The names below are imported when they are first used: a training from labels needs no distillation code, so a change
there does not train its model again.
"""

import importlib
from typing import Any

_HOME = {
    "train_supervised": "supervised",
    "distill_stage1": "stage1",
    "distill_stage2": "stage2",
    "stage1_losses": "objectives",
    "stage2_losses": "objectives",
    "Run": "runs",
    "Where": "runs",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
