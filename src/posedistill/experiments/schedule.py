"""Workspaces run side by side, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from posedistill.errors import UserError
from posedistill.experiments.workspaces import Workspace

LAST_LINES = 5


def run_all(workspaces: Sequence[Workspace], start: Callable[[Workspace], None], processes: int, title: str) -> None:
    """Call `start` for each workspace once those that it needs are finished, `processes` at a time.

    The first failure stops what has not begun, waits for what runs, and is raised.
    """
    waiting = list(workspaces)
    finished: set[str] = set()
    running: dict[Future, Workspace] = {}
    failure: BaseException | None = None
    total = sum(len(workspace.stages) for workspace in workspaces)
    with ThreadPoolExecutor(processes) as pool, tqdm(total=total, desc=title, unit="stage", file=sys.stderr) as bar:
        while (waiting and failure is None) or running:
            ready = [item for item in waiting if item.needs <= finished][: processes - len(running)]
            if failure is None:
                for workspace in ready:
                    waiting.remove(workspace)
                    running[pool.submit(start, workspace)] = workspace
                    tqdm.write(f"{title}: {workspace.name} ({', '.join(workspace.stages)})", file=sys.stderr)
            if not running:
                raise ValueError(f"these need each other: {', '.join(item.name for item in waiting)}")
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                workspace = running.pop(future)
                failure = failure or future.exception()
                finished.add(workspace.name)
                bar.update(len(workspace.stages))
    if failure is not None:
        raise failure


def run_in_process(folder: Path, stages: Sequence[str], checkpoints: Path) -> None:
    """Train and evaluate `stages` in the workspace `folder`; what the process says goes to log.txt there.

    The process ends with this one, since both get the signals of the terminal; started again, it continues from its
    last checkpoint.
    """
    environment = {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "POSEDISTILL_ROOT": str(folder),
        "POSEDISTILL_CHECKPOINTS": str(checkpoints),
    }
    command = [sys.executable, "-m", "posedistill.experiments.worker", *stages]
    log = folder / "log.txt"
    with log.open("w") as output:
        ended = subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=output, check=False)
    if ended.returncode:
        lines = log.read_text(errors="replace").replace("\r", "\n").strip().splitlines()
        last = " | ".join(lines[-LAST_LINES:]) if ended.returncode != 2 else (lines or ["?"])[-1]
        raise UserError(f"{folder.name}: {last} (all of it: {log})")
