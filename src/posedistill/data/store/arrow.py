"""The prepared stores: Arrow IPC files, memory-mapped, so that any number of processes share one copy.

A store is a folder of `part-00000.arrow`, … and `store.json`. Training store: one JPEG crop a person with its labels.
Validation store: the original image files' bytes, once an image, and `persons.arrow` with the boxes to predict in.
Nothing is written in place: parts are complete when they appear, `store.json` is written last.
"""

from __future__ import annotations

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


def _numbers(kind: pa.DataType, count: int) -> pa.DataType:
    """A fixed count of numbers in each row."""
    return pa.list_(kind, count)


_TRAIN = pa.schema(
    [
        ("jpeg", pa.large_binary()),
        ("segments", pa.large_list(pa.uint16())),  # lengths of the JPEG's restart segments
        ("size", _numbers(pa.int32(), 2)),  # width, height
        ("keypoints", _numbers(pa.float32(), NUM_KEYPOINTS * 3)),
        ("box", _numbers(pa.float32(), 4)),  # x, y, w, h
        ("origin", _numbers(pa.int32(), 2)),  # x, y in the picture
        ("factor", _numbers(pa.float64(), 2)),  # x, y: stored per image pixel
        ("image_id", pa.int64()),
        ("annotation_id", pa.int64()),
        ("source", pa.int32()),
    ]
)
_IMAGES = pa.schema(
    [
        ("content", pa.large_binary()),
        ("image_id", pa.int64()),
        ("size", _numbers(pa.int32(), 2)),
        ("name", pa.string()),
    ]
)
_PERSONS = pa.schema(
    [
        ("image", pa.int64()),
        ("image_id", pa.int64()),
        ("annotation_id", pa.int64()),
        ("box", _numbers(pa.float32(), 4)),
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


class _Part:
    """One memory-mapped Arrow file; columns as NumPy views, without copies."""

    def __init__(self, path: Path):
        try:
            self._map = pa.memory_map(str(path))
            reader = pa.ipc.open_file(self._map)
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"the prepared file {path} is damaged or missing ({error}): run prepare again") from error
        self.batch = batches[0]
        self.rows = self.batch.num_rows

    def binary(self, name: str) -> tuple[NDArray[np.int64], memoryview]:
        """Offsets [rows + 1] and the bytes of a variable-length column."""
        _, offsets, data = self.batch.column(name).buffers()
        return np.frombuffer(offsets, np.int64)[: self.rows + 1], memoryview(data or b"")

    def lists(self, name: str) -> tuple[NDArray[np.int64], NDArray]:
        """Offsets [rows + 1] and the numbers of a column of lists."""
        column = self.batch.column(name)
        return column.offsets.to_numpy(), column.values.to_numpy()

    def fixed(self, name: str, *shape: int) -> NDArray:
        """A column with a fixed count of numbers as [rows, *shape]."""
        return self.batch.column(name).flatten().to_numpy().reshape(self.rows, *shape)

    def numbers(self, name: str) -> NDArray:
        return self.batch.column(name).to_numpy()


class _TrainPart:
    def __init__(self, path: Path):
        part = _Part(path)
        self.rows = part.rows
        self.jpeg = part.binary("jpeg")
        self.segments = part.lists("segments")
        self.size = part.fixed("size", 2)
        self.keypoints = part.fixed("keypoints", NUM_KEYPOINTS, 3)
        self.box = part.fixed("box", 4)
        self.origin = part.fixed("origin", 2)
        self.factor = part.fixed("factor", 2)
        self.image_id = part.numbers("image_id")
        self.annotation_id = part.numbers("annotation_id")
        self.source = part.numbers("source")

    def record(self, row: int) -> TrainRecord:
        (at, data), (lengths_at, lengths) = self.jpeg, self.segments
        return TrainRecord(
            jpeg=data[at[row] : at[row + 1]],
            segments=lengths[lengths_at[row] : lengths_at[row + 1]],
            width=int(self.size[row, 0]),
            height=int(self.size[row, 1]),
            keypoints=self.keypoints[row],
            box=self.box[row],
            origin=self.origin[row],
            factor=self.factor[row],
            image_id=int(self.image_id[row]),
            annotation_id=int(self.annotation_id[row]),
            source=int(self.source[row]),
        )


class TrainStore:
    """Persons to train on: `len(store)`, `store[i]` → TrainRecord. Pickles as its path."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.meta = _read_meta(self.path, "train")
        rows = self.meta["rows"]
        self._starts = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)

    @cached_property
    def _parts(self) -> list[_TrainPart]:
        return [_TrainPart(self.path / part_name(i)) for i in range(len(self.meta["rows"]))]

    @property
    def sources(self) -> list[str]:
        """Names of the sources; TrainRecord.source counts into it."""
        return self.meta["sources"]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> TrainRecord:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._parts[part].record(index - int(self._starts[part]))

    def column(self, name: str) -> NDArray:
        """A column over all persons: size, keypoints, box, origin, factor, image_id, annotation_id, source."""
        return np.concatenate([getattr(part, name) for part in self._parts])

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]


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


class _Images(Sequence):
    """The encoded image files, by index."""

    def __init__(self, folder: Path, rows: list[int]):
        self._folder, self._rows = folder, rows
        self._starts = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)

    @cached_property
    def parts(self) -> list[_Part]:
        return [_Part(self._folder / part_name(i)) for i in range(len(self._rows))]

    @cached_property
    def _contents(self) -> list[tuple[NDArray[np.int64], memoryview]]:
        return [part.binary("content") for part in self.parts]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        at, data = self._contents[part]
        row = index - int(self._starts[part])
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
        return np.concatenate([np.zeros((0, 2), "<i4"), *(part.fixed("size", 2) for part in self.images.parts)])

    @cached_property
    def image_ids(self) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *(part.numbers("image_id") for part in self.images.parts)])

    @cached_property
    def names(self) -> list[str]:
        """File names (or video frames) of the images."""
        return [name for part in self.images.parts for name in part.batch.column("name").to_pylist()]

    @cached_property
    def persons(self) -> ValPersons:
        part = _Part(self.path / "persons.arrow")
        numbers = {name: part.numbers(name) for name in ("image", "image_id", "annotation_id", "score")}
        return ValPersons(box=part.fixed("box", 4), **numbers)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]
