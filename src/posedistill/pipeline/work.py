"""Long work in parts: several processes, bounded memory, and a restart that keeps every finished part.

Finished parts lie in a folder outside the stage's outputs (DVC deletes those before a run), named by a hash of all that
decides the result.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checkpoint_root() -> Path:
    """Where unfinished work is kept: POSEDISTILL_CHECKPOINTS, or .checkpoints in the project."""
    given = os.environ.get("POSEDISTILL_CHECKPOINTS")
    return Path(given) if given else project.root() / ".checkpoints"


def work_folder(name: str, key: dict[str, Any]) -> Path:
    """The folder of the unfinished work that `key` (plain values) decides."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
    folder = checkpoint_root() / f"{name}-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot keep unfinished work in {folder}: {error.strerror}") from error
    return folder


def in_parts(function: Callable[[Any], Any], tasks: Iterator[Any], workers: int) -> Iterator[Any]:
    """Results of function(task) as they finish, in no fixed order; at most two tasks a worker are in memory.

    `function` is a module's function. With one worker or fewer it runs in this process. Raises UserError if a worker
    process dies (mostly: the machine ran out of memory); a finished part is not lost by that.
    """
    if workers <= 1:
        for task in tasks:
            yield function(task)
        return
    context = multiprocessing.get_context("spawn")  # safe whatever threads a notebook's kernel runs
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_watch, initargs=(os.getpid(),)) as pool:
        waiting: set[Future] = set()
        try:
            for task in tasks:
                waiting.add(pool.submit(function, task))
                if len(waiting) >= 2 * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise UserError("a process of the preparation died (out of memory?): run it again, it continues") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _watch(parent: int) -> None:
    """End this worker when its parent was killed: nobody else would."""

    def loop() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=loop, daemon=True).start()
    import cv2

    cv2.setNumThreads(1)


def publish(source: Path, target: Path) -> None:
    """Put a finished file in place: a hard link where the file system allows, otherwise a copy."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)
