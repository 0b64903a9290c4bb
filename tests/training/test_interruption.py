"""Killed at any point and started again, a training ends with the bytes of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_stage import EPOCHS, STEPS

PROGRAM = Path(__file__).with_name("fake_stage.py")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def run(folder: Path, *ending: object) -> str:
    """Train in `folder`; with (step, signal, delay) one that ends itself. → SHA-256 of the model, or nothing."""
    command = [sys.executable, str(PROGRAM), str(folder), *map(str, ending)]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def saved(folder: Path) -> list[int]:
    """The steps after which a checkpoint was written, in their order."""
    logs = list((folder / ".checkpoints").glob("*/steps.log"))
    return [int(line) for log in logs for line in log.read_text().split()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> str:
    digest = run(tmp_path_factory.mktemp("undisturbed"))
    assert len(digest) == 64
    return digest


def test_killed_and_continued_is_undisturbed(tmp_path, undisturbed):
    assert run(tmp_path, 2 * STEPS + 1, signal.SIGKILL.value, 0) == ""
    assert saved(tmp_path) in ([STEPS], [STEPS, 2 * STEPS])  # the second may still be on its way to the disk
    assert run(tmp_path) == undisturbed
    assert saved(tmp_path) == [STEPS, 2 * STEPS, 3 * STEPS], "a finished epoch was repeated"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_ended_anywhere_by_any_signal(tmp_path, undisturbed, how, number):
    chance = random.Random(f"{how.name}-{number}")
    for step in sorted(chance.choices(range(1, EPOCHS * STEPS), k=chance.randint(1, 2))):
        run(tmp_path, step, how.value, chance.uniform(0, 0.15))
    assert run(tmp_path) == undisturbed
    assert saved(tmp_path) == [STEPS, 2 * STEPS, 3 * STEPS], "a finished epoch was repeated"
