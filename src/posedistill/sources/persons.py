"""The sources of `data.train` and `data.val` as persons, with the account of what was read and dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.keypoints import PARTS
from posedistill.params import Source
from posedistill.sources import coco, ubody, unlabelled
from posedistill.sources.detections import read_detections
from posedistill.sources.fields import wrong
from posedistill.sources.person import Funnel, ImageRef, Person, SourcePersons, ValidFlags
from posedistill.synthetic.incomplete import drop_labels


def read_source(source: Source, root: Path, *, split: str, boxes: str, rendered: Path | None = None) -> SourcePersons:
    """Read one source. split: train | val; boxes: ground_truth | detections (validation alone).

    root: data.root. rendered: the folder of a synthetic source's pictures. UserError names what is wrong and where.
    """
    if source.source == "synthetic":
        assert rendered is not None
        read = _coco(source, rendered / "annotations.json", rendered / "images", split, None)
        if source.labels is not None:
            read.persons = [_incomplete(person, source) for person in read.persons]
        return read
    if source.source == "coco_wholebody":
        detections = None
        if split == "val" and boxes == "detections":
            detections = root / str(source.detections)  # validated in params: never null here
        return _coco(source, root / str(source.annotations), root / str(source.images), split, detections)
    if source.source == "ubody":
        return ubody.load(source, root, split)
    return unlabelled.load(source, root, split)


def _incomplete(person: Person, source: Source) -> Person:
    """A rendered person without the labels that `source.labels` leaves out."""
    kept = drop_labels(person.keypoints, dict(source.labels or ()), source.seed or 0, person.annotation_id)
    flags = (ok and bool(kept[PARTS[part], 2].any()) for part, ok in person.valid._asdict().items())
    return replace(person, keypoints=kept, valid=ValidFlags(*flags))


def _coco(source: Source, annotations: Path, images: Path, split: str, detections: Path | None) -> SourcePersons:
    if not images.is_dir():
        raise UserError(f"source {source.name}: there is no image folder {images}")
    refs: dict[int, ImageRef] = {}

    def locate(image: dict[str, Any]) -> ImageRef:
        name = image["file_name"]
        if Path(name).is_absolute():
            raise wrong(annotations, f"image {image['id']}", "file_name", name, "a path inside the image folder")
        ref = ImageRef(str(images / name), None, image["width"], image["height"], name)
        refs[image["id"]] = ref
        return ref

    funnel = Funnel(source.name)
    persons, truth = coco.read_annotations(annotations, locate, funnel, ground_truth=split == "val")
    read = SourcePersons(persons, [funnel], truth, [annotations], {"images": len(refs)})
    if detections is not None:
        read.others, read.annotated = refs, Counter(person.image_id for person in persons)
        found = Funnel(source.name, what="detections")
        read.persons = read_detections(detections, refs, found)
        read.funnels.append(found)
        read.files.append(detections)
    return read
