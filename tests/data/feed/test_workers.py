"""Batches from worker processes: in order, and every fault of a worker ends in one line."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from posedistill.data.feed import workers
from posedistill.data.feed.workers import in_order
from posedistill.errors import UserError

ROOT = Path(__file__).parents[3]
MEGABYTES = 4  # of one batch


class Pair(NamedTuple):
    pixels: torch.Tensor
    numbers: np.ndarray


def make(task):
    """A batch, or the fault that a negative task stands for."""
    if task == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == -2:
        time.sleep(60)
    if task == -3:
        raise UserError("the store is damaged")
    return Pair(torch.full((MEGABYTES << 20,), task, dtype=torch.uint8), np.array([task]))


def made(tasks, count):
    return list(in_order(make, tasks, count, batch_bytes=MEGABYTES << 20))


def check(batches, expected):
    assert [int(batch.numbers[0]) for batch in batches] == expected
    for batch, number in zip(batches, expected):
        assert isinstance(batch.numbers, np.ndarray) and isinstance(batch.pixels, torch.Tensor)
        assert (batch.pixels == number).all()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(workers, "POLL_SECONDS", 1)


@pytest.mark.parametrize("count", [0, 2])
def test_batches_come_in_order(count, capfd):
    check(made(range(7), count), list(range(7)))
    assert capfd.readouterr().err == ""


def test_a_small_shared_memory_is_told_and_passed_by(monkeypatch, capfd):
    usage = shutil.disk_usage("/")._replace(free=16_000_000)
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: usage)
    check(made(range(5), 2), list(range(5)))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("/dev/shm has 16 MB free, the batches of 2 loader processes need 21 MB")
    assert "runtime.workers: 0" in line and "--shm-size=1g" in line


FULL = """
import sys
sys.path += sys.argv[1:]
from posedistill.data.feed import workers
from test_workers import check, made
if __name__ == "__main__":
    if len(sys.argv) > 3:  # as if others took the space after it was found sufficient
        workers._fits = lambda *_: True
    check(made(range(5), 2), list(range(5)))
    print("whole")
"""


@pytest.mark.parametrize("how", [[], ["/checked-too-early"]])
def test_a_full_shared_memory(how, tmp_path):
    """A /dev/shm of 10 MB, mounted for the test's process alone."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("mounting needs root")
    (tmp_path / "script.py").write_text(FULL)
    inside = 'mount -t tmpfs -o size=10m tmpfs /dev/shm && exec "$@"'
    command = [sys.executable, str(tmp_path / "script.py"), str(ROOT / "src"), str(Path(__file__).parent), *how]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside, "sh", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "whole\n", done.stderr
    assert ("/dev/shm has 10 MB free" in done.stderr) is not bool(how)


def test_a_worker_that_is_killed_ends_it():
    with pytest.raises(UserError, match=r"a loader process died .*runtime\.workers, 0 for none"):
        made([0, 1, -1, 2, 3], 2)


def test_workers_that_hang_end_it(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE_SECONDS", 1)
    with pytest.raises(UserError, match=r"no batch .*runtime\.workers: 0"):
        made([0, -2], 1)


@pytest.mark.parametrize("count", [0, 1])
def test_a_fault_of_the_data_stays_one_line(count):
    with pytest.raises(UserError) as caught:
        made([0, -3], count)
    assert str(caught.value) == "the store is damaged"
