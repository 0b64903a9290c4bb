"""Trains the fake objective for 20 steps in this process's group and writes the weights: started by torchrun in
test_distributed.py and test_several_machines.py. Arguments: start of the output's name, who shall die (RANK: at its
third step; agent:RANK: with its agent at the third step of the second epoch; -1: nobody), and one or more
DTYPE:MICRO_BATCH (0 = all at once)."""

import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from training_fakes import CPU, batches_of, folder, lively, plan, supervised

from posedistill.errors import UserError
from posedistill.training import distributed
from posedistill.training.distributed import Group
from posedistill.training.loop import fit
from posedistill.training.schedule import Schedule


def train(output: Path, dtype: torch.dtype, group: Group, dying: str = "-1", micro_batch: int | None = None) -> None:
    torch.set_num_threads(1)
    name = str(dtype).removeprefix("torch.")
    objective = lively(supervised()).to(dtype)
    objective.eval()
    objective.train = lambda mode=True: None  # SyncBatchNorm needs GPUs: compared with fixed statistics
    # Adam turns the rounding of tiny gradients into steps of the learning rate's size: a usual fine-tuning rate.
    p = plan(epochs=2, steps_per_epoch=10, batch=4, schedule=Schedule(2e-4, 20, 2))

    def batches(epoch, start):
        for step, batch in enumerate(batches_of(p, group.rank, group.size, dtype)(epoch, start)):
            if step == 2:
                die(dying, group.rank, epoch)
            yield batch

    device = type(CPU)(**(vars(CPU) | {"micro_batch": micro_batch}))
    result = fit(objective, p, batches, device, folder(output.parent / f"run-{group.size}-{name}"), group=group)
    if group.main:
        averaged = {f"ema.{key}": value for key, value in result.model.state_dict().items()}
        save_file({**objective.state_dict(), **averaged}, f"{output}-{name}.safetensors")


def die(dying: str, rank: int, epoch: int) -> None:
    """End this process, or its agent and then itself, if it is the one that shall die."""
    if dying == f"agent:{rank}" and epoch == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    elif dying == str(rank):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    try:
        with distributed.joined("cpu") as group:
            for argument in sys.argv[3:]:
                name, micro_batch = argument.split(":")
                train(Path(sys.argv[1]), getattr(torch, name), group, sys.argv[2], int(micro_batch) or None)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
