"""Several processes, one training: PyTorch's distributed engine, started with torchrun.

With `runtime.devices` > 1 a stage starts torchrun on this machine and waits for it. Over several machines the same
command is started by hand on each of them (see README); the processes find their rank in torchrun's environment.
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from posedistill.errors import UserError, shorten

Module = TypeVar("Module", bound=nn.Module)

# The main process validates while the others wait for it.
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class Group:
    """The processes that train together: this one's rank, and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files, validates and shows progress."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """`values` summed over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def min(self, values: Tensor) -> Tensor:
        """The smallest over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values, distributed.ReduceOp.MIN)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group of this process: torchrun's, or itself alone. `device` is cpu (gloo) or cuda (NCCL).

    Raises UserError where another process of the group is lost, with its machine or alone.
    """
    if not started_by_torchrun():
        yield Group()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):  # gloo has no class for it
            raise
        raise UserError(
            f"another process of this training has ended or cannot be reached ({shorten(error)}); started again on all "
            "machines, it continues from its last checkpoint"
        ) from error
    finally:
        distributed.destroy_process_group()


def wrap(objective: nn.Module, device: torch.device, group: Group) -> nn.Module:
    """`objective` such that backward averages the gradients over the group; alone, the objective itself."""
    if group.size == 1:
        return objective
    with warnings.catch_warnings():
        # Newer versions would rename `broadcast_buffers`, which older ones need.
        warnings.simplefilter("ignore", FutureWarning)
        # Buffers are the statistics of BatchNorm: on GPUs SyncBatchNorm keeps them equal.
        return nn.parallel.DistributedDataParallel(
            objective,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )


def synchronise_batch_norm(module: Module, device: torch.device, group: Group) -> Module:
    """`module` with SyncBatchNorm for BatchNorm where several GPUs train together (the CPU has no such layer)."""
    if group.size > 1 and device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return module


def launch(stage: str, settings: dict[str, Any], processes: int, arguments: list[str]) -> None:
    """Run `python -m posedistill train --stage STAGE` in `processes` processes of this machine and wait for them.

    If one dies, torchrun stops the others and this raises a UserError; the training continues from its last
    checkpoint when it is started again.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.json"
        file.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += ["-m", "posedistill.training.cli", "--stage", stage, "--params", str(file), *arguments]
        environment = {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONUNBUFFERED": "1"}
        ended = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    if ended.returncode:
        raise UserError(
            f"{stage}: one of the {processes} processes failed, so all were stopped (torchrun ended with "
            f"{ended.returncode}; the reason stands above); started again, it continues from its last checkpoint"
        )
