"""Batches from the prepared stores, in an order that depends on seed and epoch alone.

Every random number of a sample comes from a generator made of (seed, epoch, index of the person), so neither the number
of worker processes nor that of devices, nor a restart in the middle of an epoch, changes what is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posedistill.data import geometry
from posedistill.data.feed.augment import sample_train
from posedistill.data.feed.pixel_changes import CHANGES_LENGTH, apply_median
from posedistill.data.feed.workers import in_order
from posedistill.data.store.arrow import TrainStore, ValPersons, ValStore
from posedistill.data.store.crops import LIMITS
from posedistill.errors import UserError
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.params import Augment, Input


class Batch(NamedTuple):
    """Training samples of one process. What travels to the device: about 149 KB per person at 256x192.

    images: uint8 [B, H, W, 3] RGB. keypoints: float32 [B, 133, 3] (input pixels, weight). changes: float32 [B, 9], what
    happens to the pixels. ids: int64 [B], index of the person in the store. teacher_images: the same views at the
    teacher's size, where that is another.
    """

    images: Tensor
    keypoints: Tensor
    changes: Tensor
    ids: Tensor
    teacher_images: Tensor | None = None


class ValBatch(NamedTuple):
    """Crops to predict in. images: uint8 tensor [B, H, W, 3]; the rest NumPy, one entry per person.

    center, scale: float64 [B, 2] of the aspect-fixed crop in image pixels; person: row of the persons.
    """

    images: Tensor
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    person: NDArray[np.int64]
    image_id: NDArray[np.int64]
    annotation_id: NDArray[np.int64]
    score: NDArray[np.float64]


def epoch_order(persons: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch: a permutation of the store."""
    return np.random.default_rng([seed, epoch]).permutation(persons)


@dataclass(frozen=True)
class _TrainTask:
    seed: int
    epoch: int
    indices: NDArray[np.int64]
    augment: Augment


@dataclass(frozen=True)
class _TrainSamples:
    """Makes training batches, in a worker."""

    store: TrainStore
    input: Input
    for_gpu: bool
    teacher: Input | None

    def __call__(self, task: _TrainTask) -> Batch:
        persons, (height, width) = len(task.indices), self.input.size
        images = np.empty((persons, height, width, 3), np.uint8)
        keypoints = np.empty((persons, NUM_KEYPOINTS, 3), np.float32)
        changes = np.empty((persons, CHANGES_LENGTH), np.float32)
        larger = None if self.teacher is None else np.empty((persons, *self.teacher.size, 3), np.uint8)
        for row, index in enumerate(task.indices.tolist()):
            rng = np.random.default_rng([task.seed, task.epoch, index])
            sample = sample_train(self.store[index], task.augment, self.input, rng, self.teacher)
            if larger is not None and (view := sample.teacher_image) is not None:
                larger[row] = apply_median(view, sample.changes.copy()) if self.for_gpu else view
            image = apply_median(sample.image, sample.changes) if self.for_gpu else sample.image
            images[row], keypoints[row], changes[row] = image, sample.keypoints, sample.changes
        arrays = (images, keypoints, changes, task.indices, *(() if larger is None else (larger,)))
        return Batch(*(torch.from_numpy(array) for array in arrays))


class TrainLoader:
    """The batches of a training, epoch by epoch, for one of `world_size` processes.

    augment: the augmentation of each epoch. batch: the global batch, a multiple of world_size; each process gets its
    share of every batch, in order; the last, incomplete batch of an epoch is dropped. epochs: how many there will be
    (None: no end). workers: processes, 0 for none. for_gpu: the samples go to a GPU, which leaves median blurs to the
    workers. teacher: another size at which the same views are needed, too. stored: what the store must be prepared for
    (default: input). Raises UserError if it is not, or is smaller than a batch, or if the augmentation goes beyond the
    stored crops.

    The workers live as long as the loader, and go on with the next epoch while the last batches of one are used.
    """

    def __init__(
        self,
        store: TrainStore,
        input: Input,
        augment: Callable[[int], Augment],
        *,
        batch: int,
        seed: int,
        epochs: int | None = None,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        for_gpu: bool = False,
        teacher: Input | None = None,
        stored: Input | None = None,
    ):
        for epoch in range(epochs or 1):
            LIMITS.check(augment(epoch), "augment")
        wanted = stored or input
        if store.meta["input"] != list(wanted.size):
            raise UserError(
                f"{store.path} was prepared for an input of {'x'.join(map(str, store.meta['input']))} pixels, the "
                f"settings say {wanted.height}x{wanted.width}: run the stage prepare again"
            )
        if batch > len(store):
            raise UserError(f"train.batch: {batch}, but {store.path} holds {len(store)} persons; allowed: up to that")
        if batch % world_size:
            raise UserError(
                f"train.batch: {batch} cannot be shared by {world_size} processes; allowed: a multiple of {world_size}"
            )
        self.steps = len(store) // batch  # per epoch
        self._samples = _TrainSamples(store, input, for_gpu, teacher)
        self._augment, self._batch, self._seed, self._epochs = augment, batch, seed, epochs
        self._workers, self._rank, self._share = workers, rank, batch // world_size
        self._stream: Iterator[Batch] | None = None
        self._position = (0, 0)  # epoch and step of the stream's next batch

    def start(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Have the workers make the batches from this step on, unless they do already, before they are asked for."""
        if self._stream is None or self._position != (epoch, start_step):
            self.close()
            inputs = [one for one in (self._samples.input, self._samples.teacher) if one is not None]
            pixels = sum(one.height * one.width for one in inputs)
            size = self._share * (pixels * 3 + NUM_KEYPOINTS * 12 + CHANGES_LENGTH * 4 + 8)
            self._stream = in_order(self._samples, self._tasks(epoch, start_step), self._workers, batch_bytes=size)
            self._position = (epoch, start_step)
        return self._stream

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `start_step`."""
        stream = self.start(epoch, start_step)
        for step in range(start_step, self.steps):
            batch = next(stream)
            self._position = (epoch, step + 1) if step + 1 < self.steps else (epoch + 1, 0)
            yield batch

    def close(self) -> None:
        """End the workers; a later epoch starts new ones."""
        self._stream = None

    def __enter__(self) -> TrainLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tasks(self, epoch: int, start_step: int) -> Iterator[_TrainTask]:
        """All that is left of the training, from step `start_step` of `epoch` on."""
        for number in count(epoch) if self._epochs is None else range(epoch, self._epochs):
            order, augment = epoch_order(len(self._samples.store), self._seed, number), self._augment(number)
            for step in range(start_step if number == epoch else 0, self.steps):
                first = step * self._batch + self._rank * self._share
                yield _TrainTask(self._seed, number, order[first : first + self._share], augment)


class _ValCrops:
    """Makes validation batches, in a worker."""

    def __init__(self, store: ValStore, persons: ValPersons, size: tuple[int, int], padding: float):
        self.store, self.persons, self.size, self.padding = store, persons, size, padding
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def _image(self, index: int) -> NDArray[np.uint8]:
        """Decode an image; the persons of one image follow one another."""
        if self._last is None or self._last[0] != index:
            self._last = (index, self.store.picture(index))
        return self._last[1]

    def __call__(self, rows: NDArray[np.int64]) -> ValBatch:
        persons = self.persons
        center, scale = geometry.crop_of_box(persons.box[rows], self.padding, self.size)
        images = np.empty((len(rows), *self.size, 3), np.uint8)
        for i, index in enumerate(persons.image[rows].tolist()):
            matrix = geometry.warp_matrix(center[i], scale[i], 0.0, self.size)
            images[i] = geometry.warp_image(self._image(index), matrix, self.size)
        return ValBatch(
            torch.from_numpy(images),
            center.astype(np.float64),
            scale.astype(np.float64),
            rows,
            persons.image_id[rows],
            persons.annotation_id[rows],
            persons.score[rows],
        )


def val_batches(
    store: ValStore,
    size: tuple[int, int],
    batch: int,
    *,
    persons: ValPersons | None = None,
    workers: int = 0,
    padding: float = geometry.BOX_PADDING,
) -> Iterator[ValBatch]:
    """Crops of `size` (height, width) from the original images of a validation store, as published.

    persons: the boxes, in this order; default: all of the store. workers: processes, 0 for none.
    """
    persons = store.persons if persons is None else persons
    tasks = [np.arange(first, min(first + batch, len(persons))) for first in range(0, len(persons), batch)]
    crops = _ValCrops(store, persons, size, padding)
    return in_order(crops, tasks, min(workers, len(tasks)), batch_bytes=batch * size[0] * size[1] * 3)
