"""Workspaces run side by side, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from posedistill.errors import UserError
from posedistill.pipeline.experiments.workspaces import Workspace

LAST_LINES = 5


def run_all(
    workspaces: Sequence[Workspace],
    start: Callable[[Workspace], None],
    processes: int,
    title: str,
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Call `start` for each workspace once those that it needs are finished, `processes` at a time.

    The first failure stops what has not begun, waits for what runs, and is raised. An interruption calls `stop`, which
    ends what runs.
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
            try:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
            except BaseException:
                stop()
                raise
            for future in done:
                workspace = running.pop(future)
                failure = failure or future.exception()
                finished.add(workspace.name)
                bar.update(len(workspace.stages))
    if failure is not None:
        raise failure


class Processes:
    """Trainings in processes of their own, and their end with this one."""

    def __init__(self, checkpoints: Path) -> None:
        self.checkpoints = checkpoints
        self._running: set[subprocess.Popen] = set()

    def run(self, folder: Path, stages: Sequence[str]) -> None:
        """Train and evaluate `stages` in the workspace `folder`; what the process says goes to log.txt there.

        Started again, it continues from its last checkpoint. UserError with the reason if it fails.
        """
        environment = {
            "OMP_NUM_THREADS": "1",
            **os.environ,
            "POSEDISTILL_ROOT": str(folder),
            "POSEDISTILL_CHECKPOINTS": str(self.checkpoints),
        }
        command = [sys.executable, "-m", "posedistill.pipeline.experiments.worker", *stages]
        log = folder / "log.txt"
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
            self._running.add(process)
            code = process.wait()
            self._running.discard(process)
        if code:
            lines = log.read_text(errors="replace").replace("\r", "\n").strip().splitlines() or ["?"]
            reason = lines[-1] if code == 2 else " | ".join(lines[-LAST_LINES:])
            raise UserError(f"{folder.name}: {reason} (all of it: {log})")

    def stop(self) -> None:
        """End what runs; its checkpoints stay."""
        for process in list(self._running):
            process.terminate()
