"""Two processes over gloo train as one does; a killed one fails the stage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distributed_worker import train
from safetensors.torch import load_file
from torch import nn
from training_fakes import lively, supervised

from posedistill.errors import UserError
from posedistill.training import distributed
from posedistill.training.distributed import Group

WORKER = Path(__file__).with_name("distributed_worker.py")


def torchrun(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [*command, str(WORKER), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


# dtype → (largest relative difference of a tensor, micro-batch of each process)
BARS = {"float64": (1e-9, 0), "float32": (1e-4, 1)}


def test_two_processes_give_the_weights_of_one(tmp_path):
    done = torchrun(str(tmp_path / "two"), "-1", *(f"{dtype}:{part}" for dtype, (_, part) in BARS.items()))
    assert done.returncode == 0, done.stderr
    for name, (bar, _) in BARS.items():
        dtype = getattr(torch, name)
        train(tmp_path / "one", dtype, Group())
        one, two = (load_file(tmp_path / f"{who}-{name}.safetensors") for who in ("one", "two"))
        assert set(one) == set(two)
        start = lively(supervised()).to(dtype).state_dict()
        assert any(not torch.equal(one[key], start[key]) for key in start)
        for key, weights in one.items():
            if weights.is_floating_point():
                assert (weights - two[key]).norm() <= bar * weights.norm().clamp(min=1e-12), (name, key)


def test_a_killed_process_ends_the_others_with_an_error(tmp_path):
    done = torchrun(str(tmp_path / "two"), "1", "float32:0")
    assert done.returncode != 0
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_failed_launch_is_one_clear_line(monkeypatch, capfd):
    class Ended:
        returncode = 1

    asked = []
    monkeypatch.setattr(distributed.subprocess, "run", lambda command, **_: asked.append(command) or Ended)
    with pytest.raises(UserError, match="stage1: one of the 2 processes failed") as caught:
        distributed.launch("stage1", {"loss": {}}, 2, ["--prepared", "prepared"])
    assert "\n" not in str(caught.value)
    assert "--nproc-per-node=2" in asked[0] and asked[0][-2:] == ["--prepared", "prepared"]


def test_batch_norm_is_synchronised_on_several_gpus_only():
    """By structure: the layer itself runs on GPUs alone."""
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    count = sum(isinstance(module, nn.BatchNorm2d) for module in supervised().modules())
    several = distributed.synchronise_batch_norm(supervised(), cuda, Group(0, 2))
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in several.modules()) == count
    assert list(several.state_dict()) == list(supervised().state_dict())
    for device, group in ((cuda, Group()), (cpu, Group(0, 2))):
        alone = distributed.synchronise_batch_norm(supervised(), device, group)
        assert not any(isinstance(module, nn.SyncBatchNorm) for module in alone.modules())


def test_alone_nothing_is_wrapped():
    objective = supervised()
    assert distributed.wrap(objective, torch.device("cpu"), Group()) is objective
    assert Group().main and not Group(1, 2).main
