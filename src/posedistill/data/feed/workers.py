"""Batches made by worker processes, in order; their faults end in one line, never in an endless wait."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

import cv2
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from posedistill.devices import keep_memory
from posedistill.errors import UserError

PREFETCH = 2  # batches per worker
SHARED_MEMORY = "/dev/shm"
ALIGNMENT = 64  # bytes: where tensors begin in a slot
POLL_SECONDS = 5  # between checks that the workers are alive
PATIENCE_SECONDS = 600  # for one batch from live workers

Task = TypeVar("Task")
Batch = TypeVar("Batch", bound=tuple)  # a NamedTuple of tensors


class _Work(Dataset):
    """`make` as a data set whose indices are (slot, task). A UserError is returned, not raised: it stays one line."""

    def __init__(self, make: Callable[[Any], Any], slots: Tensor | None):
        self.make, self.slots = make, slots

    def __getitem__(self, index: tuple[int, Any]) -> Any:
        slot, task = index
        try:
            return slot, _put(self.make(task), None if self.slots is None else self.slots[slot])
        except UserError as error:
            return error


def in_order(
    make: Callable[[Task], Batch], tasks: Iterable[Task], workers: int, *, batch_bytes: int
) -> Iterator[Batch]:
    """make(task) of each task in order, from `workers` processes (0: this one), a few batches ahead.

    `make` must pickle and give a NamedTuple of tensors and arrays; batch_bytes is the size of its tensors. `tasks` is
    iterated lazily, in this process. The processes start at once; closing the iterator ends them. Tensors lie in pinned
    memory where this process uses a GPU. Raises UserError if a process dies or makes no batch for ten minutes.
    """
    if workers == 0:
        return map(make, tasks)
    # a plain fork would inherit CUDA and OpenCV's and OpenMP's threads half-alive, and hang
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["posedistill.data.feed.loader"])
    slots = _slots(workers, batch_bytes)
    loader: DataLoader = DataLoader(
        _Work(make, slots),
        batch_size=None,
        sampler=zip(cycle(range(_slot_count(workers))), tasks),  # type: ignore[arg-type]
        num_workers=workers,
        prefetch_factor=PREFETCH,
        collate_fn=_as_it_is,
        timeout=POLL_SECONDS,
        worker_init_fn=_set_up,
        multiprocessing_context=context,
        generator=torch.Generator(),  # the default one is the training's
    )
    try:
        return _received(iter(loader), slots)
    except OSError as error:
        raise UserError(
            f"cannot start {workers} loader processes ({error.strerror or error}); runtime.workers: 0 needs none"
        ) from error


def _received(batches: Iterator[Any], slots: Tensor | None) -> Iterator[Any]:
    while (found := _next(batches)) is not None:
        if isinstance(found, UserError):
            raise found
        slot, batch = found
        yield _take(batch, None if slots is None else slots[slot], pin=torch.cuda.is_initialized())


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


# Batches cross from worker to main process in slots of shared memory that both keep: a new piece for every batch would
# be mapped and faulted in page by page on both sides, which took the main process twice the time.


def _slot_count(workers: int) -> int:
    """One more than there are batches under way: a batch is copied from its slot before the next one is asked for."""
    return PREFETCH * workers + 1


def _slots(workers: int, batch_bytes: int) -> Tensor | None:
    """Shared memory uint8 [slots, bytes]; None where there is too little of it."""
    size = batch_bytes + 8 * ALIGNMENT
    size += -size % ALIGNMENT
    if not _fits(_slot_count(workers) * size, workers):
        return None
    try:
        storage = torch.UntypedStorage._new_shared(_slot_count(workers) * size)
    except RuntimeError:  # others took it in the meantime
        return None
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(-1, size)


def _fits(needed: int, workers: int) -> bool:
    """Whether shared memory has the bytes that are needed; says so where it does not."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        free = 0
    needed *= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if free < needed:
        print(
            f"{SHARED_MEMORY} has {free / 1e6:,.0f} MB free, the batches of {workers} loader processes need "
            f"{needed / 1e6:,.0f} MB: they are sent through pipes instead, which is slower. A larger {SHARED_MEMORY} "
            f"(docker run --shm-size={needed // 2**30 + 1}g) or runtime.workers: 0 avoids it",
            file=sys.stderr,
            flush=True,
        )
    return free >= needed


class _Placed(NamedTuple):
    """A tensor in the batch's slot, from byte `start` on."""

    start: int
    shape: torch.Size
    dtype: torch.dtype

    def view(self, slot: Tensor) -> Tensor:
        size = self.shape.numel() * self.dtype.itemsize
        return slot[self.start : self.start + size].view(self.dtype).view(self.shape)


class _Piped(NamedTuple):
    """A tensor that goes through the pipe, because it has no place in a slot."""

    array: NDArray


def _put(batch: Batch, slot: Tensor | None) -> Batch:
    """In the worker: the batch with its tensors in the slot."""
    start = 0

    def put(value: Any) -> Any:
        nonlocal start
        if not isinstance(value, Tensor):
            return value
        if slot is None or start + value.nbytes > len(slot):
            return _Piped(value.numpy())
        placed = _Placed(start, value.shape, value.dtype)
        placed.view(slot).copy_(value)
        start += value.nbytes + -value.nbytes % ALIGNMENT
        return placed

    return type(batch)(*map(put, batch))


def _take(batch: Batch, slot: Tensor | None, *, pin: bool) -> Batch:
    """The reverse of `_put`, in this process: tensors of their own, which stay when the slot is used again."""

    def take(value: Any) -> Any:
        if not isinstance(value, _Placed | _Piped):
            return value
        source = torch.from_numpy(value.array) if isinstance(value, _Piped) else value.view(slot)  # type: ignore[arg-type]
        return torch.empty(source.shape, dtype=source.dtype, pin_memory=pin).copy_(source)

    return type(batch)(*map(take, batch))


def _as_it_is(value: Any) -> Any:
    return value


def _set_up(_: int) -> None:
    """In a worker: one thread, since more would only compete with each other, and memory that is kept for the next
    batch."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_memory()
