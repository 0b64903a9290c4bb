"""One training loop, and three objectives over it: supervised, stage 1, stage 2."""

from posedistill.params import Params
from posedistill.training.runs import Paths, Trained
from posedistill.training.stage1 import distill_stage1, stage1_losses
from posedistill.training.stage2 import distill_stage2, stage2_losses
from posedistill.training.supervised import train_supervised

__all__ = [
    "Paths",
    "Trained",
    "distill_stage1",
    "distill_stage2",
    "stage1_losses",
    "stage2_losses",
    "train_stage",
    "train_supervised",
]


def train_stage(stage: str, params: Params, paths: Paths | None = None) -> Trained:
    """Train the model of a stage: teacher, baseline, stage1 or stage2."""
    if stage == "stage1":
        return distill_stage1(params, paths)
    if stage == "stage2":
        return distill_stage2(params, paths)
    return train_supervised(params, stage, paths)
