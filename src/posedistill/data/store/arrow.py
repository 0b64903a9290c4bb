"""The prepared stores: Arrow IPC files, memory-mapped, so that any number of processes share one copy.

A store is a folder of `part-00000.arrow`, … and `store.json`. Training store: one JPEG crop a person with its labels.
Validation store: the original image files' bytes, once an image, and `persons.arrow` with the boxes to predict in.
Nothing is written in place: parts are complete when they appear, `store.json` is written last.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posedistill.data.store import jpeg
from posedistill.errors import UserError
from posedistill.files import atomic_path, write_atomic
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.sources import pixels

VERSION = 2


_TRAIN = pa.schema(
    [
        ("jpeg", pa.large_binary()),
        ("segments", pa.large_list(pa.uint16())),  # lengths of the JPEG's restart segments
        ("size", pa.list_(pa.int32(), 2)),  # width, height
        ("keypoints", pa.list_(pa.float32(), NUM_KEYPOINTS * 3)),
        ("box", pa.list_(pa.float32(), 4)),  # x, y, w, h
        ("origin", pa.list_(pa.int32(), 2)),  # x, y in the picture
        ("factor", pa.list_(pa.float64(), 2)),  # x, y: stored per image pixel
        ("image_id", pa.int64()),
        ("annotation_id", pa.int64()),
        ("source", pa.int32()),
    ]
)
_IMAGES = pa.schema(
    [
        ("content", pa.large_binary()),
        ("image_id", pa.int64()),
        ("size", pa.list_(pa.int32(), 2)),
        ("name", pa.string()),
    ]
)
_PERSONS = pa.schema(
    [
        ("image", pa.int64()),
        ("image_id", pa.int64()),
        ("annotation_id", pa.int64()),
        ("box", pa.list_(pa.float32(), 4)),
        ("score", pa.float64()),
    ]
)


class TrainRecord(NamedTuple):
    """One person as stored. Pixels of keypoints and box are those of the crop (x right, y down, centres whole).

    keypoints: float32 [133, 3], third value 1 = labelled. box: float32 (x, y, w, h). origin: int32 (x, y) of the crop
    in the picture; factor: float64 (x, y), stored pixels per image pixel.
    """

    jpeg: memoryview | bytes
    segments: NDArray[np.uint16]
    width: int
    height: int
    keypoints: NDArray[np.float32]
    box: NDArray[np.float32]
    origin: NDArray[np.int32]
    factor: NDArray[np.float64]
    image_id: int
    annotation_id: int
    source: int

    def pixels(self) -> NDArray[np.uint8]:
        """The whole crop, RGB [height, width, 3]."""
        return jpeg.decode(self.jpeg, self.segments, self.width, self.height)[0]


def train_batch(records: Sequence[TrainRecord]) -> pa.RecordBatch:
    """Records as the Arrow batch of one part."""
    columns = {name: [getattr(record, name) for record in records] for name in _TRAIN.names if name != "size"}
    columns["jpeg"] = [bytes(record.jpeg) for record in records]
    columns["size"] = [(record.width, record.height) for record in records]
    return _batch(_TRAIN, columns)


def _batch(schema: pa.Schema, columns: dict[str, list[Any]]) -> pa.RecordBatch:
    return pa.record_batch([_column(columns[field.name], field.type) for field in schema], schema=schema)


def _column(rows: list[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind) and not pa.types.is_large_list(kind):
        return pa.array(rows, kind)
    flat = [np.ravel(np.asarray(row, kind.value_type.to_pandas_dtype())) for row in rows]
    values = pa.array(np.concatenate(flat) if flat else [], kind.value_type)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(values, kind.list_size)
    ends = np.cumsum([0, *map(len, flat)])
    return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), values)


@dataclass(frozen=True)
class StoredImage:
    """An image file for the validation store."""

    content: bytes
    image_id: int
    width: int
    height: int
    name: str


def image_batch(images: Sequence[StoredImage]) -> pa.RecordBatch:
    """Image files as the Arrow batch of one part."""
    columns: dict[str, list[Any]] = {
        "content": [image.content for image in images],
        "image_id": [image.image_id for image in images],
        "size": [(image.width, image.height) for image in images],
        "name": [image.name for image in images],
    }
    return _batch(_IMAGES, columns)


def person_batch(rows: Iterable[tuple[int, int, int, NDArray[np.float32], float]]) -> pa.RecordBatch:
    """(image index, image_id, annotation_id, box, score) rows as the Arrow batch of persons.arrow."""
    rows = list(rows)
    return _batch(_PERSONS, {name: [row[i] for row in rows] for i, name in enumerate(_PERSONS.names)})


def write_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Write one Arrow IPC file, whole or not at all."""
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def part_name(index: int) -> str:
    return f"part-{index:05d}.arrow"


def write_meta(folder: Path, **entries: Any) -> None:
    """Write store.json, which makes a store complete."""
    text = json.dumps({"version": VERSION, **entries}, indent=1, sort_keys=True)
    write_atomic(folder / "store.json", text + "\n")


def _read_meta(folder: Path, kind: str) -> dict[str, Any]:
    try:
        meta = json.loads((folder / "store.json").read_text())
    except FileNotFoundError:
        raise UserError(f"there is no prepared store in {folder}: run the stage prepare first") from None
    if meta.get("version") != VERSION or meta.get("kind") != kind:
        raise UserError(f"{folder} is not a {kind} store of this version: run the stage prepare again")
    return meta


def _refused(error: Exception) -> bool:
    """Whether the machine is at its limit (threads, memory, open files) rather than the file damaged or missing.

    Arrow has no class of its own for a thread that does not start. Damage has no errno.
    """
    if isinstance(error, OSError):
        return error.errno not in (None, errno.ENOENT)
    return isinstance(error, MemoryError) or type(error) is pa.ArrowException


class _Part:
    """One memory-mapped Arrow file; columns as NumPy views, without copies."""

    def __init__(self, path: Path):
        try:
            self.batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        except (pa.ArrowException, OSError) as error:
            if _refused(error):
                raise UserError(f"cannot read the prepared file {path}, which may be whole: {error}") from error
            raise UserError(f"the prepared file {path} is damaged or missing ({error}): run prepare again") from error

    def slices(self, name: str) -> tuple[NDArray[np.int64], Any]:
        """Offsets [rows + 1] and the bytes or numbers of a column of varying length."""
        column = self.batch.column(name)
        if pa.types.is_large_list(column.type):
            return column.offsets.to_numpy(), column.values.to_numpy()
        _, offsets, data = column.buffers()
        return np.frombuffer(offsets, np.int64)[: len(column) + 1], memoryview(data or b"")

    def column(self, name: str) -> NDArray:
        """Numbers [rows], or [rows, count] where each row has several; keypoints as [rows, 133, 3]."""
        column = self.batch.column(name)
        if not pa.types.is_fixed_size_list(column.type):
            return column.to_numpy()
        shape = (NUM_KEYPOINTS, 3) if name == "keypoints" else (column.type.list_size,)
        return column.flatten().to_numpy().reshape(-1, *shape)


class _Parts:
    """The Arrow files of a store, opened when first used."""

    def __init__(self, folder: Path, rows: list[int]):
        self._folder, self._rows = folder, rows
        self._starts = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)

    @cached_property
    def parts(self) -> list[_Part]:
        return [_Part(self._folder / part_name(i)) for i in range(len(self._rows))]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def place(self, index: int) -> tuple[int, int]:
        """(part, row in it) of a row of the store; IndexError beyond the last."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return part, index - int(self._starts[part])


_TRAIN_COLUMNS = [name for name in _TRAIN.names if name not in ("jpeg", "segments")]


class TrainStore:
    """Persons to train on: `len(store)`, `store[i]` → TrainRecord. Pickles as its path."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.meta = _read_meta(self.path, "train")
        self._rows = _Parts(self.path, self.meta["rows"])

    @cached_property
    def _views(self) -> list[tuple[Any, Any, dict[str, NDArray]]]:
        """JPEGs, segments and the other columns of each part."""
        return [
            (part.slices("jpeg"), part.slices("segments"), {name: part.column(name) for name in _TRAIN_COLUMNS})
            for part in self._rows.parts
        ]

    @property
    def sources(self) -> list[str]:
        """Names of the sources; TrainRecord.source counts into it."""
        return self.meta["sources"]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> TrainRecord:
        part, row = self._rows.place(index)
        (at, data), (lengths_at, lengths), columns = self._views[part]
        width, height = columns["size"][row].tolist()
        return TrainRecord(
            jpeg=data[at[row] : at[row + 1]],
            segments=lengths[lengths_at[row] : lengths_at[row + 1]],
            width=width,
            height=height,
            keypoints=columns["keypoints"][row],
            box=columns["box"][row],
            origin=columns["origin"][row],
            factor=columns["factor"][row],
            image_id=int(columns["image_id"][row]),
            annotation_id=int(columns["annotation_id"][row]),
            source=int(columns["source"][row]),
        )

    def column(self, name: str) -> NDArray:
        """A column over all persons: size, keypoints, box, origin, factor, image_id, annotation_id, source."""
        return np.concatenate([columns[name] for _, _, columns in self._views])

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return type(self), (self.path,)


@dataclass(frozen=True)
class ValPersons:
    """The boxes to predict in, as columns. image: index into ValStore.images; box: float32 [n, 4] (x, y, w, h)."""

    image: NDArray[np.int64]
    image_id: NDArray[np.int64]
    annotation_id: NDArray[np.int64]
    box: NDArray[np.float32]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.image)


class _Images(_Parts, Sequence):
    """The encoded image files, by index."""

    @cached_property
    def _contents(self) -> list[tuple[NDArray[np.int64], memoryview]]:
        return [part.slices("content") for part in self.parts]

    def __getitem__(self, index: Any) -> Any:
        part, row = self.place(index)
        at, data = self._contents[part]
        return data[at[row] : at[row + 1]]


class ValStore:
    """Validation pictures and boxes. `.images[i]`: the original file's bytes; `.persons`: ValPersons."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.meta = _read_meta(self.path, "val")
        self.images = _Images(self.path, self.meta["rows"])

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Pixels [H, W, 3] RGB of an image, in the orientation its annotations count in."""
        width, height = self.sizes[index].tolist()
        return pixels.decode(self.images[index], width, height)

    @property
    def ground_truth(self) -> Path:
        """The set's COCO-WholeBody JSON."""
        return self.path / "gt.json"

    @cached_property
    def sizes(self) -> NDArray[np.int32]:
        """Annotated (width, height) of each image, int32 [n, 2]; 0 where the annotation does not say."""
        return np.concatenate([np.zeros((0, 2), "<i4"), *(part.column("size") for part in self.images.parts)])

    @cached_property
    def image_ids(self) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *(part.column("image_id") for part in self.images.parts)])

    @cached_property
    def names(self) -> list[str]:
        """File names (or video frames) of the images."""
        return [name for part in self.images.parts for name in part.batch.column("name").to_pylist()]

    @cached_property
    def persons(self) -> ValPersons:
        part = _Part(self.path / "persons.arrow")
        return ValPersons(**{name: part.column(name) for name in _PERSONS.names})

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return type(self), (self.path,)
