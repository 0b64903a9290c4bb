"""The trainings of all stages under one roof, for those who run several. A notebook imports only the one it runs, from
its own module: so its stage depends on no other's code."""

from posedistill.training.runs import Run, Where
from posedistill.training.stage1 import distill_stage1
from posedistill.training.stage2 import distill_stage2
from posedistill.training.supervised import train_supervised

__all__ = ["Run", "Where", "distill_stage1", "distill_stage2", "train_supervised"]
