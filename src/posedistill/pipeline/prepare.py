"""The stage `prepare`: sources → validated persons → stores in prepared/, and what became of each record.

Each set goes the same way: `read_set`, `make_parts`, `publish_train` or `publish_val`, and `Ledger.settle`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posedistill import project
from posedistill.data.store import arrow as store
from posedistill.data.store import crops, jpeg
from posedistill.data.store.parts import Notes, Picture, Task, by_picture, chunks, make_part, read_notes
from posedistill.errors import UserError
from posedistill.files import dumps_json, sha256_file, write_atomic
from posedistill.fingerprint import code_hash
from posedistill.parallel import cores, in_parts
from posedistill.params import Params, Source
from posedistill.pipeline.ledger import Ledger, broken_pictures, check_share, reasons
from posedistill.pipeline.work import make_folder, publish, work_folder
from posedistill.progress import progress as progress_bar
from posedistill.reporting.preparation import overlap_with_ground_truth, part_statistics
from posedistill.sources.person import ImageRef, SourcePersons
from posedistill.sources.persons import read_source

SHEET = 24  # persons drawn by data.seed, for the report's sheet of crops


def prepare(params: Params, out: Path | None = None, *, workers: int | None = None, progress: bool = True) -> Ledger:
    """Write prepared/train, prepared/val-<name>/ and prepared/report.json from the sources of `params.data`.

    Uses params.data, params.input and params.teacher.input alone. Continues after an interruption; the same settings
    and data give the same bytes with any number of workers. out: default <project>/prepared. workers: default all
    cores.
    Raises UserError for structural errors of the annotations and for too many broken pictures.
    """
    root = project.root()
    out = out if out is not None else root / "prepared"
    workers = workers or cores()
    data_root = root / params.data.root  # which may be absolute
    if not data_root.is_dir():
        raise UserError(f"data.root: there is no folder {data_root}; docs/data.md says how to get the data")
    make_folder(out)
    # All annotations first: a fault in a validation set shows before hours of work on the training pictures.
    given = {"train": params.data.train, **{f"val-{source.name}": (source,) for source in params.data.val}}
    sets = [read_set(params, name, sources, data_root, workers, progress) for name, sources in given.items()]
    ledger = Ledger()
    for one in sets:
        notes = make_parts(params, one, workers, progress)
        ledger.settle(one.name, one.reads, notes)
        entry = (publish_train if one.name == "train" else publish_val)(params, one, notes, out)
        ledger.sets[one.name] = {
            "bytes": sum(path.stat().st_size for path in (out / one.name).glob("*.arrow")),
            "broken pictures": sum(len(part["broken"]) for part in notes),
            "sources": [{**files, **read.details} for files, read in zip(one.files, one.reads)],
            **entry,
        }
    for stale in out.iterdir():
        if stale.name not in {*given, "report.json"}:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    text = json.dumps(asdict(ledger), indent=1, sort_keys=True, ensure_ascii=False)
    write_atomic(out / "report.json", text + "\n")
    for folder in (folder for one in sets for folder in (one.folder, *one.rendered)):
        shutil.rmtree(folder, ignore_errors=True)
    return ledger


@dataclass(frozen=True)
class PersonSet:
    """A set whose annotations were read and whose pictures were looked for.

    reads, files: one per source, files being what is known of its picture files. folder: keeps the finished parts;
    rendered: folders of rendered sources.
    """

    name: str
    sources: Sequence[Source]
    reads: list[SourcePersons]
    pictures: list[Picture]
    files: list[dict[str, Any]]
    folder: Path
    rendered: list[Path]

    def nobody(self) -> UserError:
        """The error where no person is left, with what became of all that were read."""
        if self.name == "train":
            return UserError(f"data.train: no person is left to train on: {reasons(self.reads)}")
        source = self.sources[0].name
        return UserError(f"data.val: source {source}: no person is left to predict: {reasons(self.reads)}")


# -- 1. reading --------------------------------------------------------------------------------------------------------


def read_set(
    params: Params, name: str, sources: Sequence[Source], data_root: Path, workers: int, progress: bool
) -> PersonSet:
    """The annotations of a set. UserError for their faults, and for too many missing pictures."""
    reads, pictures, files, rendered = [], [], [], []
    for index, source in enumerate(sources):
        folder = _render(source, data_root, workers, progress) if source.source == "synthetic" else None
        split = "train" if name == "train" else "val"
        read = read_source(source, data_root, split=split, boxes=params.data.boxes, rendered=folder)
        found = by_picture(index, read.persons, read.others)
        files.append(find_files(source.name, [picture.ref for picture in found], params.data.max_broken))
        reads.append(read)
        pictures += found
        rendered += [] if folder is None else [folder]
    key = {
        "code": code_hash(
            "data.store.parts:make_part",
            "data.store.parts:by_picture",
            "data.store.parts:chunks",
            "sources.persons:read_source",
        ),
        "set": name,
        "root": str(data_root),
        "sources": [source.dump() for source in sources],
        "annotations": [sha256_file(path) for read in reads for path in read.files],
        "pictures": files,
        "input": list(params.input.size),
        "teacher_height": _teacher_height(params),
        "boxes": params.data.boxes,
        "flags": params.data.use_valid_flags,
        "parts": params.data.parts,
    }
    one = PersonSet(name, sources, reads, pictures, files, work_folder(f"prepare-{name}", key), rendered)
    if not any(read.persons for read in reads):
        raise one.nobody()
    return one


def _teacher_height(params: Params) -> int:
    """Height in pixels that a teacher of its own input size sees; 0 without one."""
    return params.teacher.input.height if params.teacher.input else 0


def _render(source: Source, data_root: Path, workers: int, progress: bool) -> Path:
    """Render the pictures of a synthetic source; the folder that holds them."""
    from posedistill.synthetic import render_dataset

    body, images, seed = data_root / "body", int(source.images or 0), int(source.seed or 0)
    folder = work_folder("render", {"images": images, "seed": seed, "asset": str(body)})
    render_dataset(body, folder, images, seed, workers=workers, progress=progress)
    return folder


def find_files(source: str, refs: Sequence[ImageRef], max_broken: float) -> dict[str, Any]:
    """Count, bytes and a hash over names and sizes of a source's picture files.

    The pictures are raw data that nobody changes: their contents are not hashed. A wrong folder fails here, after a
    second, not after an hour.
    """
    pictures = Counter(ref.path for ref in refs)  # of a video: its frames
    first: dict[str, ImageRef] = {}
    for ref in refs:
        first.setdefault(ref.path, ref)
    listed, missing = [], []
    for path, ref in first.items():
        try:
            size = Path(path).stat().st_size
        except OSError:
            size = -1
            missing.append(path)
        listed.append((ref.name if ref.frame is None else Path(path).name, size))
    cases = [f"{p} (missing{f', {pictures[p]} frames of it' if pictures[p] > 1 else ''})" for p in missing]
    check_share(source, cases, sum(pictures[path] for path in missing), len(refs), max_broken)
    return {
        "source": source,
        "files": len(listed),
        "bytes": sum(size for _, size in listed if size > 0),
        "names and sizes": hashlib.sha256(json.dumps(sorted(listed)).encode()).hexdigest(),
    }


# -- 2. parts ----------------------------------------------------------------------------------------------------------


def make_parts(params: Params, one: PersonSet, workers: int, progress: bool) -> list[Notes]:
    """Make every part that is not finished yet; the notes of all of them, in order.

    A part with broken pictures is made again: they may have been repaired since. UserError if too many are broken.
    """
    make_folder(one.folder)
    kind = "train" if one.name == "train" else "val"
    size, height, flags = params.input.size, _teacher_height(params), params.data.use_valid_flags
    tasks = [
        Task(kind, one.folder, index, chunk, size, height, flags, params.data.parts)
        for index, chunk in enumerate(chunks(one.pictures, whole_files=kind == "val"))
    ]
    todo = [task for task in tasks if (notes := read_notes(task)) is None or notes["broken"]]
    persons, left = (sum(len(picture.persons) for task in some for picture in task.pictures) for some in (tasks, todo))
    with progress_bar(
        desc=f"preparing {one.name}", unit="persons", total=persons, initial=persons - left, show=progress
    ) as bar:
        for done in in_parts(make_part, iter(todo), min(workers, len(todo))):
            bar.update(done)
    made = [notes for task in tasks if (notes := read_notes(task)) is not None]
    total = Counter(picture.source for picture in one.pictures)
    for index, source in enumerate(one.sources):
        cases = [f"{picture} ({reason})" for picture, reason, *_ in broken_pictures(made, index)]
        check_share(source.name, cases, len(cases), total[index], params.data.max_broken)
    return made


# -- 3. stores ---------------------------------------------------------------------------------------------------------


def publish_train(params: Params, one: PersonSet, notes: list[Notes], out: Path) -> dict[str, Any]:
    """Put the training store in place; its entry in the report."""
    rows = [part["rows"] for part in notes]
    if not sum(rows):
        raise one.nobody()
    target = _new_folder(out / "train", one, notes)
    store.write_meta(
        target,
        kind="train",
        rows=rows,
        sources=[source.name for source in one.sources],
        input=list(params.input.size),
        limits=asdict(crops.LIMITS),
        jpeg_quality=jpeg.QUALITY,
    )
    done = store.TrainStore(_replace(target, out / "train"))
    images = np.stack([done.column("source").astype(np.int64), done.column("image_id")])
    size = sum(path.stat().st_size for path in done.path.glob("*.arrow"))
    draw = np.random.default_rng(params.data.seed).permutation(len(done))
    return {
        "persons": len(done),
        "images": np.unique(images, axis=1).shape[1],
        "bytes per person": round(size / len(done)),
        "reduced share": round(float((done.column("factor")[:, 0] < 1).mean()), 4),
        "random persons": draw[:SHEET].tolist(),
        "parts": part_statistics(done.column("keypoints")[:, :, 2]),
    }


def publish_val(params: Params, one: PersonSet, notes: list[Notes], out: Path) -> dict[str, Any]:
    """Put a validation store in place, with its boxes and its ground truth; its entry in the report."""
    (read,) = one.reads
    assert read.ground_truth is not None
    image_ids = [image_id for part in notes for image_id in part["images"]]
    image_index = {image_id: index for index, image_id in enumerate(image_ids)}
    kept = [person for person in read.persons if person.image_id in image_index]
    if not kept:
        raise one.nobody()
    target = _new_folder(out / one.name, one, notes)
    rows = [(image_index[p.image_id], p.image_id, p.annotation_id, p.box, p.score) for p in kept]
    store.write_batch(target / "persons.arrow", store.person_batch(rows))
    truth = _without(read.ground_truth, {image_id for _, _, image_id, _ in broken_pictures(notes, 0)})
    write_atomic(target / "gt.json", dumps_json(truth, pretty=False))
    store.write_meta(target, kind="val", rows=[len(part["images"]) for part in notes], boxes=params.data.boxes)
    _replace(target, out / one.name)
    entry: dict[str, Any] = {"persons": len(kept), "images": len(image_ids)}
    if params.data.boxes == "detections" and kept[0].annotation_id < 0:
        entry["overlap"] = overlap_with_ground_truth(kept, truth)
    return entry


def _without(truth: dict[str, Any], broken: set[int]) -> dict[str, Any]:
    """Ground truth of the pictures that can be predicted on."""
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] not in broken],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] not in broken],
    }


def _new_folder(target: Path, one: PersonSet, notes: list[Notes]) -> Path:
    """A folder beside `target` with the finished parts, to be put in its place when complete."""
    folder = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in notes:
        publish(one.folder / store.part_name(part["index"]), folder / store.part_name(part["index"]))
    return folder


def _replace(folder: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return folder.replace(target)
