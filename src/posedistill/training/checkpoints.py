"""Where a training keeps its state: checkpoints to continue from, and the finished result.

A folder belongs to one training: its name carries a hash of all that decides the result (settings, contents of the
input files, code). Other settings have another folder, so old checkpoints are never mixed into a new training; the same
settings find theirs again, and a finished training is read back in seconds.

    <root>/.checkpoints/<stage>-<key>/        or in the folder that POSEDISTILL_CHECKPOINTS names
        step-000001200-3f9a….pt               the two last; the name carries a checksum
        steps.log                             a line for each checkpoint: the steps done
        finished.safetensors, finished.json   the trained model and its curves
"""

import hashlib
import io
import json
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posedistill import project
from posedistill.errors import UserError
from posedistill.files import sha256_file, write_atomic

KEPT = 2
_DIGITS = 16


def run_key(settings: dict[str, Any], inputs: dict[str, str], code: str) -> str:
    """Hash of everything that decides a training's result: settings, name → SHA-256 of the inputs, hash of the code."""
    content = json.dumps({"settings": settings, "inputs": inputs, "code": code}, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]


def say(line: str) -> None:
    """Print a line on standard error; results go elsewhere."""
    print(line, file=sys.stderr, flush=True)


class RunFolder:
    """The folder of one training. Every file in it is whole or absent."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Make the folder and remove the half-written files of a killed process."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for leftover in self.path.glob(".*.tmp*"):
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write the checkpoints to {self.path}: {error.strerror}") from error

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self.path.glob("step-*.pt"))

    def save(self, step: int, state: dict[str, Any], keep: int = KEPT) -> None:
        """Write a checkpoint and a line in steps.log, then remove all checkpoints but the last `keep`."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
        write_atomic(self.path / f"step-{step:09d}-{digest}.pt", content)
        log = self.path / "steps.log"
        try:
            with log.open("a") as file:
                file.write(f"{step}\n")
        except OSError as error:
            raise UserError(f"cannot write {log}: {error.strerror}") from error
        for old in self.checkpoints()[:-keep]:
            old.unlink(missing_ok=True)

    def load_last(self) -> dict[str, Any] | None:
        """The state of the newest undamaged checkpoint; a damaged one is reported, removed and skipped."""
        for path in reversed(self.checkpoints()):
            try:
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest()[:_DIGITS] != path.stem.split("-")[-1]:
                    raise ValueError("the checksum is wrong")
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except FileNotFoundError:  # another process with the same settings has just removed it
                continue
            except Exception as error:  # torch.load raises anything on a damaged file
                say(f"checkpoint {path} is damaged ({error}): going back to the one before")
                path.unlink(missing_ok=True)
        return None

    def last_step(self) -> int:
        """The steps done at the newest checkpoint, by its name; 0 if there is none."""
        found = self.checkpoints()
        return int(found[-1].stem.split("-")[1]) if found else 0

    def last_good(self) -> str:
        """For messages: where the last checkpoint is."""
        found = self.checkpoints()
        return f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"

    # -- the finished training -----------------------------------------------------------------------------------------

    @property
    def finished_model(self) -> Path:
        return self.path / "finished.safetensors"

    def finish(self, result: dict[str, Any]) -> None:
        """Declare the training finished; `finished_model` has been written before."""
        write_atomic(
            self.path / "finished.json", json.dumps({**result, "sha256": sha256_file(self.finished_model)}, indent=1)
        )
        for old in self.checkpoints()[:-1]:
            old.unlink(missing_ok=True)

    def finished(self) -> dict[str, Any] | None:
        """The result given to `finish`, if the training is finished and its model undamaged."""
        try:
            result = json.loads((self.path / "finished.json").read_text())
            if sha256_file(self.finished_model) == result["sha256"]:
                return result
            say(f"{self.finished_model} is damaged: made again from the last checkpoint")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError):
            say(f"{self.path / 'finished.json'} is damaged: made again from the last checkpoint")
        return None


class Writer:
    """Writes the checkpoints of a folder beside the training, in a thread: in order, never two at a time.

    A context manager; at its end, every checkpoint is written. What goes wrong in the thread is raised by the next
    call, or at the end.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future[None] | None = None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Begin to write a checkpoint; the training may change `state` as soon as this returns. Waits for the one
        before, so that no more than one copy of the state is in memory."""
        self.wait()
        copy, copied = _mapped(state, lambda tensor: tensor.detach().clone()), None
        if torch.cuda.is_initialized():
            copied = torch.cuda.current_stream().record_event()
        self._under_way = self._thread.submit(self._write, step, copy, copied)

    def wait(self) -> None:
        """Return when all is written. UserError if it could not be."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _write(self, step: int, state: dict[str, Any], copied: torch.cuda.Event | None) -> None:
        if copied is not None:
            # A stream of its own: on the training's, each transfer would wait for the steps that are queued there.
            stream = torch.cuda.Stream()
            stream.wait_event(copied)
            with torch.cuda.stream(stream):
                state = _mapped(state, Tensor.cpu)
        self.folder.save(step, state)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        self._thread.shutdown()
        if failed is None:
            self.wait()


def _mapped(state: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A copy of nested dictionaries and lists, with `function` of every tensor."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, dict):
        return {key: _mapped(value, function) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_mapped(value, function) for value in state)
    return state


def digest_inputs(paths: dict[str, Path]) -> dict[str, str]:
    """SHA-256 of each input: of a file, or of all files of a folder with their names.

    Hashing a large store takes a while, so digests are remembered by path, size and modification time.
    """
    cache_path = project.checkpoints() / "digests.json"
    try:
        cache: dict[str, str] = json.loads(cache_path.read_text())
    except (OSError, ValueError):
        cache = {}
    known = dict(cache)

    def digest(file: Path) -> str:
        stat = file.stat()
        key = f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
        if key not in cache:
            cache[key] = sha256_file(file)
        return cache[key]

    result = {}
    for name, path in paths.items():
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
            lines = [f"{file.relative_to(path).as_posix()} {digest(file)}" for file in files]
            result[name] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        elif path.is_file():
            result[name] = digest(path)
        else:
            raise UserError(f"{path} is not there: run the stage that makes it first (`dvc repro`)")
    if cache != known:
        write_atomic(cache_path, json.dumps(cache, indent=0))
    return result
