"""Batches from the prepared stores, in an order that depends on seed and epoch alone.

Every random number of a sample comes from a generator made of (seed, epoch, index of the person), so neither the number
of worker processes nor that of devices, nor a restart in the middle of an epoch, changes what is trained on. Worker
processes stay alive from epoch to epoch.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from posedistill.data import geometry
from posedistill.data.feed.augment import sample_train
from posedistill.data.feed.pixel_changes import RECIPE_LENGTH, apply_median
from posedistill.data.store.arrow import TrainStore, ValStore
from posedistill.data.store.crops import LIMITS
from posedistill.errors import UserError
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.params import Augment, Input, Params

PREFETCH = 2  # batches a worker


class Batch(NamedTuple):
    """Training samples of one process. What travels to the device: about 149 KB a person at 256x192.

    images: uint8 [B, H, W, 3] RGB. keypoints: float32 [B, 133, 3] (input pixels, weight). recipe: float32 [B, 9].
    ids: int64 [B], index of the person in the store.
    """

    images: Tensor
    keypoints: Tensor
    recipe: Tensor
    ids: Tensor


class ValBatch(NamedTuple):
    """Crops to predict in. images: uint8 tensor [B, H, W, 3]; the rest NumPy, one entry a person.

    center, scale: float64 [B, 2] of the aspect-fixed crop in image pixels; person: row of ValStore.persons.
    """

    images: Tensor
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    person: NDArray[np.int64]
    image_id: NDArray[np.int64]
    annotation_id: NDArray[np.int64]
    score: NDArray[np.float64]


def auto_workers(setting: int | str) -> int:
    """Number of worker processes for `runtime.workers`: "auto" is the cores of this process, one left for training."""
    if isinstance(setting, int):
        return setting
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(cores - 1, 16))


def epoch_order(persons: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch: a permutation of the store."""
    return np.random.default_rng([seed, epoch]).permutation(persons)


@dataclass(frozen=True)
class _TrainTask:
    seed: int
    epoch: int
    indices: NDArray[np.int64]
    augment: Augment
    for_gpu: bool


class _TrainSamples(Dataset):
    def __init__(self, store: TrainStore, input: Input):
        self.store, self.input = store, input

    def __getitem__(self, task: _TrainTask) -> Batch:
        count, (height, width) = len(task.indices), self.input.size
        images = np.empty((count, height, width, 3), np.uint8)
        keypoints = np.empty((count, NUM_KEYPOINTS, 3), np.float32)
        recipe = np.empty((count, RECIPE_LENGTH), np.float32)
        for row, index in enumerate(task.indices.tolist()):
            rng = np.random.default_rng([task.seed, task.epoch, index])
            sample = sample_train(self.store[index], task.augment, self.input, rng)
            image = apply_median(sample.image, sample.recipe) if task.for_gpu else sample.image
            images[row], keypoints[row], recipe[row] = image, sample.keypoints, sample.recipe
        return Batch(*(torch.from_numpy(array) for array in (images, keypoints, recipe, task.indices)))


class _ValCrops(Dataset):
    def __init__(self, store: ValStore, input: Input, padding: float):
        self.store, self.input, self.padding = store, input, padding
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def _image(self, index: int) -> NDArray[np.uint8]:
        """Decode an image; the persons of one image follow one another."""
        if self._last is None or self._last[0] != index:
            self._last = (index, self.store.picture(index))
        return self._last[1]

    def __getitem__(self, rows: NDArray[np.int64]) -> ValBatch:
        persons, size = self.store.persons, self.input.size
        center, scale = geometry.box_to_center_scale(persons.box[rows], self.padding)
        scale = geometry.fix_aspect(scale, size)
        images = np.empty((len(rows), *size, 3), np.uint8)
        for i, row in enumerate(rows.tolist()):
            matrix = geometry.warp_matrix(center[i], scale[i], 0.0, size)
            images[i] = geometry.warp_image(self._image(int(persons.image[row])), matrix, size)
        return ValBatch(
            torch.from_numpy(images),
            center.astype(np.float64),
            scale.astype(np.float64),
            rows,
            persons.image_id[rows],
            persons.annotation_id[rows],
            persons.score[rows],
        )


class _Tasks(Sampler):
    """The tasks of the coming pass; set anew before each."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)


class _Pool:
    """Worker processes over one data set, kept from pass to pass."""

    def __init__(self, data: Dataset, workers: int):
        self.tasks = _Tasks()
        context = None
        if workers:
            # a plain fork would inherit CUDA and OpenCV's and OpenMP's threads half-alive, and hang
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
        self.loader: DataLoader = DataLoader(
            data,
            batch_size=None,
            sampler=self.tasks,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_initialized(),
            worker_init_fn=_start_worker,
            multiprocessing_context=context,
        )

    def run(self, tasks: list[Any]) -> Iterator[Any]:
        self.tasks.tasks = tasks
        return iter(self.loader)


_pools: dict[tuple, _Pool] = {}
atexit.register(_pools.clear)


def _pool(key: tuple, make: Any, workers: int) -> _Pool:
    """The pool of a key; another store of the same kind replaces it, so that at most one a kind is alive."""
    full = (*key, workers, torch.cuda.is_initialized())
    if full not in _pools:
        for other in [k for k in _pools if k[0] == key[0]]:
            del _pools[other]
        _pools[full] = _Pool(make(), workers)
    return _pools[full]


def _identity(store: Path) -> tuple[str, int]:
    """A store that was prepared anew is another store."""
    return str(store.resolve()), (store / "store.json").stat().st_mtime_ns


def _start_worker(_: int) -> None:
    """One thread a worker: more would only compete with each other."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def train_steps(persons: int, batch: int) -> int:
    """Optimiser steps of an epoch: the last, incomplete global batch is dropped."""
    return persons // batch


def train_loader(
    store: TrainStore,
    P: Params,
    *,
    augment: Augment,
    batch: int,
    seed: int,
    epoch: int,
    workers: int | str | None = None,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    for_gpu: bool = False,
) -> Iterator[Batch]:
    """The batches of one epoch for one of `world_size` processes, from step `start_step`.

    batch: the global batch, a multiple of world_size; each process gets its share of every batch, in order.
    workers: processes; 0 = in this one; None = `runtime.workers`. for_gpu: the samples go to a GPU, which leaves median
    blurs to the worker. Raises UserError if the store is smaller than a
    batch, or the augmentation larger than the stored crops.
    """
    LIMITS.check(augment, "augment")
    if store.meta["input"] != list(P.input.size):
        raise UserError(
            f"{store.path} was prepared for an input of {'x'.join(map(str, store.meta['input']))} pixels, the settings "
            f"say {P.input.height}x{P.input.width}: run the stage prepare again"
        )
    steps = train_steps(len(store), batch)
    if steps == 0:
        raise UserError(f"train.batch: {batch}, but {store.path} holds {len(store)} persons: allowed: up to that")
    if batch % world_size:
        raise UserError(f"train.batch: {batch} cannot be shared by {world_size} processes, allowed: a multiple of it")
    count = auto_workers(P.runtime.workers if workers is None else workers)
    order = epoch_order(len(store), seed, epoch)
    share = batch // world_size
    tasks = []
    for step in range(start_step, steps):
        first = step * batch + rank * share
        tasks.append(_TrainTask(seed, epoch, order[first : first + share], augment, for_gpu))
    pool = _pool(("train", _identity(store.path), P.input.size), lambda: _TrainSamples(store, P.input), count)
    return pool.run(tasks)


def val_batches(
    store: ValStore, P: Params, batch: int, workers: int | str | None = None, *, padding: float = geometry.BOX_PADDING
) -> Iterator[ValBatch]:
    """All boxes of a validation store in its order, cropped from the original images as published."""
    count = auto_workers(P.runtime.workers if workers is None else workers)
    rows = np.arange(len(store.persons))
    tasks = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    key = ("val", _identity(store.path), P.input.size, padding)
    return _pool(key, lambda: _ValCrops(store, P.input, padding), count).run(tasks)
