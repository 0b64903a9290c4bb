"""Work in several processes: every result once, bounded memory, and a dead worker ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posedistill.errors import UserError
from posedistill.parallel import in_parts

SOURCE = Path(__file__).parents[1] / "src"


def kill_oneself_at(task):
    if task < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


@pytest.mark.parametrize("workers", [0, 2])
def test_every_task_has_its_result(workers):
    assert sorted(in_parts(abs, iter(range(-9, 1)), workers)) == list(range(10))


def test_no_more_than_two_tasks_a_worker_are_drawn_ahead():
    drawn = []
    results = in_parts(abs, (drawn.append(task) or task for task in range(100)), 2)
    next(results)
    assert len(drawn) <= 4 + 4
    results.close()


def test_a_worker_that_dies_is_one_line():
    with pytest.raises(UserError, match="a worker process died"):
        list(in_parts(kill_oneself_at, iter([1, -1, 2]), 2))


def test_a_child_ends_when_its_parent_was_killed():
    child = (
        "import time; from posedistill.parent import end_with_parent; end_with_parent(); "
        "print('ready', flush=True); time.sleep(60)"
    )
    parent = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
        "print(p.pid, flush=True); p.wait()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)}
    )
    pid = int(process.stdout.readline())
    process.stdout.readline()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
