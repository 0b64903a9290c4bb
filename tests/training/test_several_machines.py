"""Several machines, as docs/training.md starts them: two torchrun agents over one shared folder, here both on one."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from distributed_worker import train
from safetensors.torch import load_file
from training_fakes import lively, supervised

from posedistill.training.distributed import Group

WORKER = Path(__file__).with_name("distributed_worker.py")
PATIENCE = 240  # seconds for both agents, on a busy machine


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def two_agents(folder: Path, dying: str) -> list[tuple[int, str, float]]:
    """Exit code, standard error and end (monotonic) of each of two agents with a process each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--local-addr=127.0.0.1"]
    command += [str(WORKER), str(folder / "two"), dying, "float64:0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    logs = [folder / f"agent-{number}.log" for number in range(2)]
    agents = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log.open("w")) for log in logs
    ]
    ends: dict[int, float] = {}
    deadline = time.monotonic() + PATIENCE
    try:
        while len(ends) < 2 and time.monotonic() < deadline:
            for number, agent in enumerate(agents):
                if number not in ends and agent.poll() is not None:
                    ends[number] = time.monotonic()
            time.sleep(0.05)
    finally:
        for agent in agents:
            agent.kill()
    return [(agent.wait(), log.read_text(), ends[number]) for number, (agent, log) in enumerate(zip(agents, logs))]


@pytest.mark.slow
def test_the_loss_of_a_machine_ends_the_other_and_the_restart_gives_the_weights_of_one(tmp_path):
    ended = two_agents(tmp_path, "agent:1")
    (lost, _, died), (left, words, survived) = sorted(ended, key=lambda one: one[0])
    assert lost < 0 < left, [one[1] for one in ended]
    assert survived - died < 60
    (line,) = [line for line in words.splitlines() if "another process of this training has ended" in line]
    assert "started again on all machines, it continues from its last checkpoint" in line
    assert "in train_epoch" not in words  # no traceback of ours
    run = tmp_path / "run-2-float64"
    assert (run / "steps.log").read_text().split() == ["10"]
    assert not list(tmp_path.glob("*.safetensors"))

    assert [code for code, *_ in two_agents(tmp_path, "-1")] == [0, 0]
    assert (run / "steps.log").read_text().split() == ["10", "20"]  # not from the beginning
    train(tmp_path / "one", torch.float64, Group())
    one, two = (load_file(tmp_path / f"{who}-float64.safetensors") for who in ("one", "two"))
    start = lively(supervised()).to(torch.float64).state_dict()
    assert any(not torch.equal(one[key], start[key]) for key in start)
    for key, weights in one.items():
        if weights.is_floating_point():
            assert (weights - two[key]).norm() <= 1e-9 * weights.norm().clamp(min=1e-12), key
