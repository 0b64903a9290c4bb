"""One part of a store: its pictures are read, cropped or copied, and written as one Arrow file with its notes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from posedistill.data.store import arrow as store
from posedistill.data.store import crops, jpeg
from posedistill.files import write_atomic
from posedistill.sources import frames
from posedistill.sources.person import ImageRef, Person
from posedistill.sources.pixels import BrokenImage, oddities

IMAGES_PER_PART = 256  # what a kill can cost, and the size of one Arrow file
BYTES_PER_PART = 64 << 20  # of files that are kept whole: a worker holds them and two copies


class Picture(NamedTuple):
    """A picture with its persons (none: it is kept for those that were not detected). source: its place in the set."""

    source: int
    ref: ImageRef
    image_id: int
    persons: list[Person]


@dataclass(frozen=True)
class Task:
    """One part: pictures with their persons. kind: train | val."""

    kind: str
    folder: Path
    index: int
    pictures: list[Picture]
    size: tuple[int, int]
    teacher_height: int
    use_valid_flags: bool
    parts: str


class Notes(TypedDict):
    """What a finished part holds. index: its number; rows: training records; images: ids of validation images.

    broken: pictures that could not be used, as (source, name, reason, image id, persons). odd: pictures that were
    changed in reading, as (source, name, what).
    """

    index: int
    rows: int
    images: list[int]
    broken: list[tuple[int, str, str, int, int]]
    odd: list[tuple[int, str, str]]


def by_picture(source: int, persons: list[Person], others: dict[int, ImageRef]) -> list[Picture]:
    """The pictures of a source. others: image_id → pictures of the set whether they have persons or not."""
    grouped: dict[tuple[ImageRef, int], list[Person]] = {}
    for person in persons:
        grouped.setdefault((person.image, person.image_id), []).append(person)
    for image_id, ref in others.items():
        grouped.setdefault((ref, image_id), [])
    found = [Picture(source, ref, image_id, people) for (ref, image_id), people in grouped.items()]
    # frames of a video one after the other, whatever the order of the annotations
    return sorted(found, key=lambda one: ("", 0) if one.ref.frame is None else (one.ref.path, one.ref.frame))


def chunks(pictures: list[Picture], whole_files: bool) -> Iterator[list[Picture]]:
    """Parts of at most IMAGES_PER_PART pictures, and BYTES_PER_PART where their files are kept whole; a video is not
    divided unless it alone is larger."""
    chunk: list[Picture] = []
    size = 0
    for picture in pictures:
        weight = _weight(picture.ref) if whole_files else 0
        ref, last = picture.ref, chunk[-1].ref if chunk else picture.ref
        next_video = ref.frame is not None and ref.path != last.path and len(chunk) >= IMAGES_PER_PART // 2
        if chunk and (len(chunk) >= IMAGES_PER_PART or size + weight > BYTES_PER_PART or next_video):
            yield chunk
            chunk, size = [], 0
        chunk.append(picture)
        size += weight
    if chunk:
        yield chunk


def _weight(ref: ImageRef) -> int:
    """About how many bytes are kept of a picture: its file, or a frame of a video without loss."""
    if ref.frame is not None:
        return 2 * ref.width * ref.height
    try:
        return Path(ref.path).stat().st_size
    except OSError:
        return 0


def read_notes(task: Task) -> Notes | None:
    """The notes of a finished part, None where it is not finished."""
    path = _notes_path(task)
    return json.loads(path.read_text()) if path.is_file() else None


def _notes_path(task: Task) -> Path:
    return task.folder / f"part-{task.index:05d}.json"


def make_part(task: Task) -> int:
    """Write one part and its notes (last: they make it finished); the number of persons in its pictures."""
    broken, records, images, odd = [], [], [], []
    refs = [picture.ref for picture in task.pictures]
    loaded = frames.load_all(refs, keep_bytes=task.kind == "val")
    for (source, ref, image_id, persons), pixels in zip(task.pictures, loaded, strict=True):
        if isinstance(pixels, BrokenImage):
            broken.append((source, ref.name, str(pixels), image_id, len(persons)))
            continue
        content, image = pixels
        if ref.frame is None:
            odd += [(source, ref.name, what) for what in oddities(content, ref.width, ref.height)]
        if task.kind == "val":
            height, width = image.shape[:2]
            images.append(store.StoredImage(content, image_id, ref.width or width, ref.height or height, ref.name))
        else:
            records += [_record(source, person, image, task) for person in persons]
    batch = store.train_batch(records) if task.kind == "train" else store.image_batch(images)
    store.write_batch(task.folder / store.part_name(task.index), batch)
    image_ids = [image.image_id for image in images]
    notes = Notes(index=task.index, rows=len(records), images=image_ids, broken=broken, odd=odd)
    write_atomic(_notes_path(task), json.dumps(notes))
    return sum(len(picture.persons) for picture in task.pictures)


def _record(source: int, person: Person, image: np.ndarray, task: Task) -> store.TrainRecord:
    labels = person.labels(use_valid_flags=task.use_valid_flags, parts=task.parts)
    crop = crops.plan(person, labels, image.shape[:2], task.size, task.teacher_height)  # type: ignore[arg-type]
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
