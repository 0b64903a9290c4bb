"""The stage `prepare`: sources → validated persons → stores in prepared/, and what became of each record."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from posedistill import project
from posedistill.data.person import Funnel
from posedistill.data.sources.persons import SourcePersons, read_source
from posedistill.data.store import arrow as store
from posedistill.data.store import crops, jpeg
from posedistill.data.store.parts import Picture, Task, by_picture, chunks, finished, make_part, notes_path
from posedistill.errors import UserError
from posedistill.files import dumps_json, printable, sha256_file, write_atomic
from posedistill.fingerprint import code_hash
from posedistill.parallel import cores, in_parts
from posedistill.params import Params, Source
from posedistill.pipeline import work
from posedistill.reporting.preparation import overlap_with_ground_truth, part_statistics

SHEET = 24  # persons drawn by data.seed, for the report's sheet of crops
SHOWN = 10  # broken pictures that an error message lists


@dataclass
class PrepareReport:
    """What prepare did, for the notebook; also written to prepared/report.json.

    sets: one entry for `train` and for each validation set: persons, images, bytes, parts (labelled counts), …
    funnels: as Funnel.as_dict, with their set; they add up. broken: pictures that could not be used, with the reason.
    """

    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    funnels: list[dict[str, Any]] = field(default_factory=list)
    broken: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"sets": self.sets, "funnels": self.funnels, "broken": self.broken}


def prepare(P: Params, out: Path | None = None, *, workers: int | None = None, progress: bool = True) -> PrepareReport:
    """Write prepared/train, prepared/val-<name>/ and prepared/report.json from the sources of `P.data`.

    Uses P.data and P.input alone. Continues after an interruption; the same settings and data give the same bytes with
    any number of workers. out: default <project>/prepared. workers: default all cores.
    Raises UserError for structural errors of the annotations and for too many broken pictures.
    """
    root = project.root()
    out = out if out is not None else root / "prepared"
    data_root = Path(P.data.root) if Path(P.data.root).is_absolute() else root / P.data.root
    if not data_root.is_dir():
        raise UserError(f"data.root: there is no folder {data_root}; README says how to fetch the data")
    run = _Run(P, data_root, out, workers or cores(), progress)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from error
    # All annotations first: a fault in a validation set is told before hours of work on the training pictures.
    training = run.read("train", P.data.train)
    validation = [run.read(f"val-{source.name}", [source]) for source in P.data.val]
    run.train(training)
    for one in validation:
        run.validation(one)
    kept = {"train", "report.json", *(f"val-{source.name}" for source in P.data.val)}
    for stale in out.iterdir():
        if stale.name not in kept:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    text = json.dumps(run.report.as_dict(), indent=1, sort_keys=True, ensure_ascii=False)
    write_atomic(out / "report.json", text + "\n")
    for folder in run.folders:
        shutil.rmtree(folder, ignore_errors=True)
    return run.report


@dataclass(frozen=True)
class _Set:
    """A set after its annotations were read, and its pictures looked for. digests: one for each source."""

    name: str
    given: Sequence[Source]
    loaded: Sequence[SourcePersons]
    pictures: list[Picture]
    digests: list[dict[str, Any]]

    @property
    def names(self) -> list[str]:
        return [source.name for source in self.given]


class _Run:
    """One call of prepare: settings, report, folders of unfinished work."""

    def __init__(self, P: Params, data_root: Path, out: Path, workers: int, progress: bool):
        self.P, self.data_root, self.out = P, data_root, out
        self.workers, self.progress = workers, progress
        self.report = PrepareReport()
        self.folders: list[Path] = []

    def read(self, name: str, given: Sequence[Source]) -> _Set:
        """The annotations of a set. UserError for their faults, and for too many missing pictures."""
        loaded = [self._load(source, "train" if name == "train" else "val") for source in given]
        pictures = [p for i, one in enumerate(loaded) for p in by_picture(i, one.persons, one.others)]
        digests = self._look_at_files(pictures, [source.name for source in given])
        read = _Set(name, given, loaded, pictures, digests)
        if not any(one.persons for one in loaded):
            raise _nobody(read)
        return read

    def train(self, read: _Set) -> None:
        """All training sources together."""
        folder = self._work_folder(read)
        parts = self._write_parts("train", folder, read.pictures)
        dropped = self._count_broken(read, parts)
        rows = [part["rows"] for part in parts]
        if not sum(rows):
            raise _nobody(read)
        target = _fresh(self.out / "train")
        for part in parts:
            work.publish(folder / store.part_name(part["index"]), target / store.part_name(part["index"]))
        store.write_meta(
            target,
            kind="train",
            rows=rows,
            sources=read.names,
            input=list(self.P.input.size),
            limits=crops.LIMITS.as_dict(),
            jpeg_quality=jpeg.QUALITY,
        )
        _publish_folder(target, self.out / "train")
        self._finish(read, dropped, store.TrainStore(self.out / "train"))

    def validation(self, read: _Set) -> None:
        """One validation set."""
        name, (loaded,) = read.name, read.loaded
        assert loaded.ground_truth is not None
        folder = self._work_folder(read)
        parts = self._write_parts("val", folder, read.pictures)
        dropped = self._count_broken(read, parts)
        image_ids = [image_id for part in parts for image_id in part["images"]]
        image_index = {image_id: index for index, image_id in enumerate(image_ids)}
        kept = [person for person in loaded.persons if person.image_id in image_index]
        if not kept:
            raise _nobody(read)
        target = _fresh(self.out / name)
        for part in parts:
            work.publish(folder / store.part_name(part["index"]), target / store.part_name(part["index"]))
        rows = [(image_index[p.image_id], p.image_id, p.annotation_id, p.box, p.score) for p in kept]
        store.write_batch(target / "persons.arrow", store.person_batch(rows))
        broken = {entry[3] for part in parts for entry in part["broken"]}
        truth = _without(loaded.ground_truth, broken)
        write_atomic(target / "gt.json", dumps_json(truth, pretty=False))
        store.write_meta(target, kind="val", rows=[len(part["images"]) for part in parts], boxes=self.P.data.boxes)
        _publish_folder(target, self.out / name)
        self._finish(read, dropped, store.ValStore(self.out / name))
        if self.P.data.boxes == "detections" and kept and kept[0].annotation_id < 0:
            self.report.sets[name]["overlap"] = overlap_with_ground_truth(kept, truth)

    def _load(self, source: Source, split: str) -> SourcePersons:
        rendered = None
        if source.source == "synthetic":
            from posedistill.synthetic import render_dataset

            key = {"images": source.images, "seed": source.seed, "asset": str(self.data_root / "body")}
            rendered = work.work_folder("render", key)
            self.folders.append(rendered)
            images, seed = int(source.images or 0), int(source.seed or 0)
            render_dataset(
                self.data_root / "body", rendered, images, seed, workers=self.workers, progress=self.progress
            )
        return read_source(source, self.data_root, split=split, boxes=self.P.data.boxes, rendered=rendered)

    def _work_folder(self, read: _Set) -> Path:
        key = {
            "store": store.VERSION,
            "code": code_hash("data.store.parts", "data.sources.persons"),
            "set": read.name,
            "root": str(self.data_root),
            "sources": [dict(source.present()) for source in read.given],
            "files": [sha256_file(path) for one in read.loaded for path in one.files],
            "pictures": read.digests,
            "input": list(self.P.input.size),
            "boxes": self.P.data.boxes,
            "flags": self.P.data.use_valid_flags,
            "parts": self.P.data.parts,
        }
        folder = work.work_folder(f"prepare-{read.name}", key)
        self.folders.append(folder)
        return folder

    def _write_parts(self, kind: str, folder: Path, pictures: list[Picture]) -> list[dict[str, Any]]:
        """Make every part that is not finished yet; the notes of all of them, in order.

        A part with broken pictures is made again: they may have been repaired meanwhile.
        """
        tasks = [
            Task(kind, folder, index, chunk, self.P.input.size, self.P.data.use_valid_flags, self.P.data.parts)
            for index, chunk in enumerate(chunks(pictures, whole_files=kind == "val"))
        ]
        todo = [task for task in tasks if not finished(folder, task.index)]
        people = sum(len(picture.persons) for task in tasks for picture in task.pictures)
        left = sum(len(picture.persons) for task in todo for picture in task.pictures)
        with tqdm(
            total=people, initial=people - left, unit="person", desc=f"preparing {kind}", disable=not self.progress
        ) as bar:
            start = time.perf_counter()
            for done in in_parts(make_part, iter(todo), min(self.workers, len(todo))):
                bar.update(done)
        if todo and self.progress:  # for whoever waits; a time has no place in the report, which is the same every time
            rate = left / max(time.perf_counter() - start, 1e-9)
            print(f"{kind}: {left:,} persons, {rate:,.0f} a second", file=sys.stderr)
        return [json.loads(notes_path(folder, task.index).read_text()) for task in tasks]

    def _look_at_files(self, pictures: list[Picture], names: list[str]) -> list[dict[str, Any]]:
        """Count, bytes and a hash over names and sizes of each source's picture files.

        The pictures are raw data that nobody changes: their contents are not hashed. A wrong folder fails here, after
        a second, not after an hour.
        """
        files: list[dict[str, tuple[str, int]]] = [{} for _ in names]
        missing: list[dict[str, int]] = [{} for _ in names]  # path → pictures of it
        total = [0 for _ in names]
        for index, ref, _, _ in pictures:
            total[index] += 1
            if ref.path in missing[index]:
                missing[index][ref.path] += 1
            if ref.path in files[index]:
                continue
            try:
                size = Path(ref.path).stat().st_size
            except OSError:
                size = -1
                missing[index][ref.path] = 1
            files[index][ref.path] = (ref.name if ref.frame is None else Path(ref.path).name, size)
        digests = []
        for name, found, absent, count in zip(names, files, missing, total):
            cases = [
                f"{path} (missing{f', {frames} frames of it' if frames > 1 else ''})" for path, frames in absent.items()
            ]
            self._check_share(name, cases, count, sum(absent.values()))
            listed = json.dumps(sorted(found.values()))
            size = sum(size for _, size in found.values() if size > 0)
            digest = hashlib.sha256(listed.encode()).hexdigest()
            digests.append({"source": name, "files": len(found), "bytes": size, "names and sizes": digest})
        return digests

    def _check_share(self, name: str, broken: list[str], total: int, count: int | None = None) -> None:
        """UserError if `count` (that of the cases `broken` that are listed, if not given) of `total` are too many."""
        count = len(broken) if count is None else count
        if broken and count > self.P.data.max_broken * total:
            listed = "; ".join(map(printable, broken[:SHOWN])) + ("; …" if len(broken) > SHOWN else "")
            raise UserError(
                f"source {name}: {count} of {total} pictures cannot be used, allowed: a share of "
                f"{self.P.data.max_broken:g} (data.max_broken): {listed}"
            )

    def _count_broken(self, read: _Set, parts: list[dict[str, Any]]) -> dict[str, int]:
        """Move the persons of broken pictures from kept to dropped; fail if they are too many."""
        split, loaded, names = read.name, read.loaded, read.names
        total = Counter(picture.source for picture in read.pictures)
        for index, one in enumerate(loaded):
            cases = [entry for part in parts for entry in part["broken"] if entry[0] == index]
            self._check_share(names[index], [f"{name} ({reason})" for _, name, reason, *_ in cases], total[index])
            for _, name, reason, image_id, persons in cases:
                if unseen := one.annotated[image_id]:  # those who were detected are counted apart
                    one.funnels[0].drop(reason, name, unseen)
                    one.funnels[0].kept -= unseen
                funnel = _funnel_of(one.funnels, name)
                if persons:
                    funnel.drop(reason, name, persons)
                    funnel.kept -= persons
                self.report.broken.append(
                    {"set": split, "source": funnel.source, "picture": name, "reason": reason, "persons": persons}
                )
            for _, name, what in (entry for part in parts for entry in part["odd"] if entry[0] == index):
                _funnel_of(one.funnels, name).note(f"picture: {what}", name)
        for one in loaded:
            for funnel in one.funnels:
                funnel.check()
                self.report.funnels.append({"set": split, **funnel.as_dict()})
        return {
            names[i]: sum(1 for part in parts for entry in part["broken"] if entry[0] == i) for i in range(len(names))
        }

    def _finish(self, read: _Set, dropped: dict[str, int], done: store.TrainStore | store.ValStore) -> None:
        folder = self.out / read.name
        size = sum(path.stat().st_size for path in folder.glob("*.arrow"))
        entry: dict[str, Any] = {
            "bytes": size,
            "broken pictures": sum(dropped.values()),
            "sources": [{**digest, **one.details} for digest, one in zip(read.digests, read.loaded)],
        }
        if isinstance(done, store.TrainStore):
            images = np.stack([done.column("source").astype(np.int64), done.column("image_id")])
            entry.update(persons=len(done), images=np.unique(images, axis=1).shape[1])
            entry["bytes a person"] = round(size / len(done))
            factors = done.column("factor")
            entry["reduced share"] = round(float((factors[:, 0] < 1).mean()), 4)
            draw = np.random.default_rng(self.P.data.seed).permutation(len(done))
            entry["random persons"] = draw[:SHEET].tolist()
            entry["parts"] = part_statistics(done.column("keypoints")[:, :, 2])
        else:
            entry.update(persons=len(done.persons), images=len(done.images))
        self.report.sets[read.name] = entry


def _funnel_of(funnels: list[Funnel], picture: str) -> Funnel:
    """The funnel that counted a picture's persons: of its scene, where a source has one a scene; the last otherwise."""
    scene = picture.split("/")[0]
    counting = [funnel for funnel in funnels if funnel.what != "pictures"]
    return next((funnel for funnel in counting if funnel.source.endswith(f"/{scene}")), counting[-1])


def _nobody(read: _Set) -> UserError:
    """Nobody is left of a set; what became of all that was read, in words."""
    counts: Counter[str] = Counter()
    for funnel in (funnel for one in read.loaded for funnel in one.funnels):
        counts.update({f"{funnel.what}: {reason}": number for reason, number in funnel.dropped.items()})
    reasons = "; ".join(f"{reason} ({number})" for reason, number in counts.most_common()) or "none was annotated"
    if read.name == "train":
        return UserError(f"data.train: no person is left to train on: {reasons}")
    return UserError(f"data.val: source {read.names[0]}: no person is left to predict: {reasons}")


def _without(truth: dict[str, Any], broken: set[int]) -> dict[str, Any]:
    """Ground truth of the pictures that can be predicted on."""
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] not in broken],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] not in broken],
    }


def _fresh(folder: Path) -> Path:
    """An empty folder beside `folder`, to be put in its place when complete."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def _publish_folder(temporary: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
