"""One part of a store: its pictures are read, cropped or copied, and written as one Arrow file with its notes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posedistill.data import crops, frames, jpeg, store
from posedistill.data.person import ImageRef, Person
from posedistill.data.pixels import BrokenImage, oddities
from posedistill.files import write_atomic

IMAGES_A_PART = 256  # what a kill can cost, and the size of one Arrow file

Picture = tuple[ImageRef, int, list[tuple[int, Person]]]  # picture, image_id, (source, person)


@dataclass(frozen=True)
class Task:
    """One part: pictures with their persons. kind: train | val."""

    kind: str
    folder: Path
    index: int
    pictures: list[Picture]
    size: tuple[int, int]
    use_valid_flags: bool
    parts: str


def by_picture(persons: list[tuple[int, Person]]) -> list[Picture]:
    grouped: dict[tuple[int, ImageRef, int], list[tuple[int, Person]]] = {}
    for index, person in persons:
        grouped.setdefault((index, person.image, person.image_id), []).append((index, person))
    # frames of a video one after the other, whatever the order of the annotations
    ordered = sorted(grouped.items(), key=lambda item: _place(item[0]))
    return [(ref, image_id, people) for (_, ref, image_id), people in ordered]


def _place(key: tuple[int, ImageRef, int]) -> tuple[int, str, int]:
    index, ref, _ = key
    return (index, "", 0) if ref.frame is None else (index, ref.path, ref.frame)


def chunks(pictures: list[Picture]) -> Iterator[list[Picture]]:
    """Parts of at most IMAGES_A_PART pictures; a video is not divided unless it alone is larger."""
    chunk: list[Picture] = []
    for picture in pictures:
        if len(chunk) >= IMAGES_A_PART or (
            chunk
            and len(chunk) >= IMAGES_A_PART // 2
            and picture[0].frame is not None
            and picture[0].path != chunk[-1][0].path
        ):
            yield chunk
            chunk = []
        chunk.append(picture)
    if chunk:
        yield chunk


def notes_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.json"


def make_part(task: Task) -> int:
    """Write one part and its notes (last: they make it finished); the number of persons it saw."""
    broken, records, images, odd = [], [], [], []
    refs = [ref for ref, _, _ in task.pictures]
    loaded = frames.load_all(refs, keep_bytes=task.kind == "val")
    for (ref, image_id, persons), pixels in zip(task.pictures, loaded, strict=True):
        if isinstance(pixels, BrokenImage):
            broken.append((persons[0][0], ref.name, str(pixels), image_id, len(persons)))
            continue
        content, image = pixels
        if ref.frame is None:
            odd += [(persons[0][0], ref.name, what) for what in oddities(content, ref.width, ref.height)]
        if task.kind == "val":
            height, width = image.shape[:2]
            images.append(store.StoredImage(content, image_id, ref.width or width, ref.height or height, ref.name))
        else:
            records += [_record(source, person, image, task) for source, person in persons]
    batch = store.train_batch(records) if task.kind == "train" else store.image_batch(images)
    store.write_batch(task.folder / store.part_name(task.index), batch)
    entries = {
        "index": task.index,
        "rows": len(records),
        "images": [i.image_id for i in images],
        "broken": broken,
        "odd": odd,
    }
    write_atomic(notes_path(task.folder, task.index), json.dumps(entries))
    return sum(len(persons) for _, _, persons in task.pictures)


def _record(source: int, person: Person, image: np.ndarray, task: Task) -> store.TrainRecord:
    labels = person.labels(use_valid_flags=task.use_valid_flags, parts=task.parts)
    crop = crops.plan(person, labels, image.shape[:2], task.size)  # type: ignore[arg-type]
    encoded = jpeg.encode(crops.cut(image, crop))
    labels[:, :2] = crops.to_crop(labels[:, :2].astype(np.float64), crop)
    labels[labels[:, 2] == 0] = 0
    factor = np.array(crop.factor)
    corner = crops.to_crop(person.box[:2].astype(np.float64), crop)
    return store.TrainRecord(
        jpeg=encoded.jpeg,
        segments=encoded.lengths,
        width=encoded.width,
        height=encoded.height,
        keypoints=labels,
        box=np.concatenate([corner, person.box[2:] * factor]).astype(np.float32),
        origin=np.array([crop.x0, crop.y0], np.int32),
        factor=factor,
        image_id=person.image_id,
        annotation_id=person.annotation_id,
        source=source,
    )
