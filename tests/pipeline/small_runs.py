"""Small runs of the whole pipeline: one undisturbed, one ended by a signal once a stage."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
from clone import Clone

TRAININGS = ("teacher", "baseline", "stage1", "stage2")
# How the stages of the second run end: Ctrl-C, a polite request, and no warning at all.
ENDINGS = {
    "prepare": signal.SIGKILL,
    "teacher": signal.SIGINT,
    "baseline": signal.SIGTERM,
    "stage1": signal.SIGKILL,
    "stage2": signal.SIGINT,
}
EPOCHS = {"teacher.epochs": 2, "student.epochs": 2, "stage2.epochs": 2}


def steps(clone: Clone, stage: str) -> list[str]:
    """The steps after which a stage's trainings wrote a checkpoint, in order."""
    return [line for log in clone.checkpoints.glob(f"{stage}-*/steps.log") for line in log.read_text().splitlines()]


def kill_during(clone: Clone, stage: str, reached: Callable[[], bool], how: int = signal.SIGKILL) -> bool:
    """Run the pipeline up to `stage`, and send it a signal once `reached`; False if it ended before."""
    clone.mend()
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", stage],
        cwd=clone.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clone.environment(),
        start_new_session=True,
    )
    while not reached():
        try:
            process.wait(timeout=0.02)
            return False
        except subprocess.TimeoutExpired:
            continue
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, how)  # as the terminal does with Ctrl-C
    process.wait()
    # The kernel notices that its runner is gone, and its workers that it is.
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    return True


def rendered(clone: Clone) -> int:
    """Pictures of unfinished preparation."""
    return sum(1 for _ in clone.checkpoints.rglob("*.jpg"))


def run_killed(clone: Clone) -> list[str]:
    """All trainings of the pipeline, ended once in prepare and in each training, after its first checkpoint."""
    kills = ["prepare"] if kill_during(clone, "prepare", lambda: rendered(clone) >= 4, ENDINGS["prepare"]) else []
    for stage in TRAININGS:
        clone.dvc("repro", "prepare")

        def trained(stage: str = stage) -> bool:
            return bool(steps(clone, stage))

        kills += [stage] if kill_during(clone, stage, trained, ENDINGS[stage]) else []
    clone.dvc("repro", *TRAININGS)
    return kills


def run_whole(clone: Clone) -> None:
    clone.dvc("repro")
    clone.commit("after the first run")
