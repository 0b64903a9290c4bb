"""Batches made by worker processes, in order; their faults end in one line, never in an endless wait."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import cv2
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from posedistill.errors import UserError

PREFETCH = 2  # batches per worker
SHARED_MEMORY = "/dev/shm"
POLL_SECONDS = 5  # between checks that the workers are alive
PATIENCE_SECONDS = 600  # for one batch from live workers

Task = TypeVar("Task")
Batch = TypeVar("Batch", bound=tuple)  # a NamedTuple of tensors


class _Work(Dataset):
    """`make` as a data set whose indices are tasks. A UserError is returned, not raised: it stays one line."""

    def __init__(self, make: Callable[[Any], Any]):
        self.make = make

    def __getitem__(self, task: Any) -> Any:
        try:
            return self.make(task)
        except UserError as error:
            return error


def in_order(
    make: Callable[[Task], Batch], tasks: Iterable[Task], workers: int, *, batch_bytes: int
) -> Iterator[Batch]:
    """make(task) of each task in order, from `workers` processes (0: this one), a few batches ahead.

    `make` must pickle and give a NamedTuple of tensors; batch_bytes is its size. `tasks` is iterated lazily, in this
    process. Closing the iterator ends the processes. Raises UserError if a process dies or makes no batch for
    ten minutes.
    """
    if workers == 0:
        yield from map(make, tasks)
        return
    # a plain fork would inherit CUDA and OpenCV's and OpenMP's threads half-alive, and hang
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["posedistill.data.feed.loader"])
    pin = torch.cuda.is_initialized()
    loader: DataLoader = DataLoader(
        _Work(make),
        batch_size=None,
        sampler=tasks,  # type: ignore[arg-type]
        num_workers=workers,
        prefetch_factor=PREFETCH,
        collate_fn=_share if _fits(workers, batch_bytes) else _as_arrays,
        pin_memory=pin,
        timeout=POLL_SECONDS,
        worker_init_fn=_one_thread,
        multiprocessing_context=context,
    )
    try:
        batches = iter(loader)
    except OSError as error:
        raise UserError(
            f"cannot start {workers} loader processes ({error.strerror or error}); runtime.workers: 0 needs none"
        ) from error
    while (batch := _next(batches)) is not None:
        if isinstance(batch, UserError):
            raise batch
        yield _as_tensors(batch, pin)


def _next(batches: Iterator[Any]) -> Any:
    """The next batch, None after the last. UserError if a worker died or none makes progress."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return next(batches, None)
        except RuntimeError as error:  # PyTorch has no classes for these
            words = str(error)
            if "exited unexpectedly" in words or "is killed by signal" in words:
                raise UserError(
                    "a loader process died (out of memory?); fewer processes need less: runtime.workers, 0 for none"
                ) from error
            if "DataLoader timed out" not in words:
                raise
            if time.monotonic() > deadline:
                raise UserError(
                    f"the loader processes have made no batch for {PATIENCE_SECONDS // 60} minutes; "
                    "runtime.workers: 0 loads in the main process and shows why"
                ) from error


def _fits(workers: int, batch_bytes: int) -> bool:
    """Whether shared memory holds the batches that are under way; says so where it does not."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        free = 0
    # two more: the one in use and the one handed over
    needed = (PREFETCH * workers + 2) * batch_bytes * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if free < needed:
        print(
            f"{SHARED_MEMORY} has {free / 1e6:,.0f} MB free, the batches of {workers} loader processes need "
            f"{needed / 1e6:,.0f} MB: they are sent through pipes instead, which is slower. A larger {SHARED_MEMORY} "
            f"(docker run --shm-size={needed // 2**30 + 1}g) or runtime.workers: 0 avoids it",
            file=sys.stderr,
            flush=True,
        )
    return free >= needed


def _share(batch: Batch) -> Batch:
    """Move a batch into shared memory, or make arrays of it where that is full.

    Done here, in the worker's main thread: left to the queue's own thread, a failure would be printed there, and the
    batch would be lost and waited for.
    """
    if isinstance(batch, UserError):
        return batch
    try:
        return type(batch)(*(value.share_memory_() if isinstance(value, Tensor) else value for value in batch))
    except RuntimeError:
        return _as_arrays(batch)


class _Piped(NamedTuple):
    """A tensor on its way through a pipe."""

    array: NDArray


def _as_arrays(batch: Batch) -> Batch:
    if isinstance(batch, UserError):
        return batch
    return type(batch)(*(_Piped(value.numpy()) if isinstance(value, Tensor) else value for value in batch))


def _as_tensors(batch: Batch, pin: bool) -> Batch:
    """The reverse of `_as_arrays`."""

    def tensor(value: _Piped) -> Tensor:
        return torch.from_numpy(value.array).pin_memory() if pin else torch.from_numpy(value.array)

    return type(batch)(*(tensor(value) if isinstance(value, _Piped) else value for value in batch))


def _one_thread(_: int) -> None:
    """More threads per worker would only compete with each other."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
