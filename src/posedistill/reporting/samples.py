"""Contact sheets of the prepared data: validation images, stored crops, and what the model sees in training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from posedistill.data.feed.augment import sample_train
from posedistill.data.feed.device_augment import MEAN, STD, to_model_input
from posedistill.data.store.arrow import TrainStore, ValStore
from posedistill.evaluation.records import read_ground_truth
from posedistill.params import Augment, Input
from posedistill.reporting.pictures import contact_sheet, draw_skeleton, flow_sheet


def spread(count: int, total: int) -> NDArray[np.int64]:
    """`count` different places, evenly spread over 0 … total − 1."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64)) if total else np.zeros(0, np.int64)


def validation_sheet(folder: str | Path, count: int = 14, height: int = 240) -> Image.Image:
    """Whole validation images with the labels of all their persons."""
    store = ValStore(folder)
    truth = read_ground_truth(store.ground_truth)
    tiles, titles = [], []
    for i in spread(count, len(store.images)):
        image = Image.fromarray(store.picture(int(i)))
        zoom = height / image.height
        image_id = int(store.image_ids[i])
        points = truth.keypoints[truth.image_ids[truth.image] == image_id]
        tile = draw_people(image, points, zoom)
        tiles.append(tile)
        titles.append(f"image {image_id}, {len(points)} {'person' if len(points) == 1 else 'persons'}")
    return flow_sheet(tiles, titles)


def draw_people(image: Image.Image, people: Sequence[NDArray] | NDArray, zoom: float) -> Image.Image:
    """All persons of an image, keypoints [P, 133, 3]."""
    shown = image.resize((round(image.width * zoom), round(image.height * zoom)), Image.Resampling.BILINEAR)
    for points in people:
        moved = np.array(points, np.float64)
        moved[:, :2] = (moved[:, :2] + 0.5) * zoom - 0.5
        shown = draw_skeleton(shown, moved, width=1.2)
    return shown


def crops_sheet(store: TrainStore, rows: Sequence[int], height: int = 200) -> Image.Image:
    """Training crops as they are stored, with labels; `rows` of the store."""
    tiles, titles = [], []
    for i in rows:
        record = store[i]
        image = Image.fromarray(record.pixels())
        zoom = height / image.height
        tiles.append(draw_people(image, record.keypoints[None], zoom))
        titles.append(f"{image.width}×{image.height}")
    return flow_sheet(tiles, titles)


def augmented_sheet(
    store: TrainStore, augment: Augment, size: Input, persons: int = 3, times: int = 8, seed: int = 0
) -> Image.Image:
    """Rows of one person each: its model inputs in `times` epochs, with the remaining labels."""
    tiles = []
    for row in spread(persons, len(store)):
        record = store[int(row)]
        for epoch in range(times):
            sample = sample_train(record, augment, size, np.random.default_rng([seed, epoch, int(row)]))
            pixels = to_model_input(torch.from_numpy(sample.image[None]), torch.from_numpy(sample.changes[None]))
            shown = pixels[0].permute(1, 2, 0).numpy() * np.array(STD) + np.array(MEAN)
            image = Image.fromarray(shown.round().clip(0, 255).astype(np.uint8))
            tiles.append(draw_skeleton(image, sample.keypoints, zoom=110 / size.width, width=0.9))
    return contact_sheet(tiles, times)
