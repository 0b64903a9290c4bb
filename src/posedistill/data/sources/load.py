"""The sources of `data.train` and `data.val` as persons, with the account of what was read and dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posedistill.data.person import Funnel, ImageRef, Person
from posedistill.data.sources import coco, ubody, unlabelled
from posedistill.errors import UserError
from posedistill.params import Source


@dataclass
class Loaded:
    """A source after its annotations were read.

    ground_truth: what the evaluation needs (None for training). files: annotation files that decide the result.
    others: with detected boxes, all pictures of the set by image_id, those without a detection among them, and
    annotated: how many persons are kept of each.
    """

    persons: list[Person]
    funnels: list[Funnel]
    ground_truth: dict[str, Any] | None
    files: list[Path]
    details: dict[str, Any]  # what the source wants to have in the report
    others: dict[int, ImageRef] = field(default_factory=dict)
    annotated: Counter[int] = field(default_factory=Counter)


def load(source: Source, root: Path, *, split: str, boxes: str, rendered: Path | None = None) -> Loaded:
    """Read one source. split: train | val; boxes: ground_truth | detections (validation alone).

    root: data.root. rendered: the folder of a synthetic source's pictures. UserError names what is wrong and where.
    """
    if source.source == "synthetic":
        assert rendered is not None
        return _coco(source, rendered / "annotations.json", rendered / "images", split, None)
    if source.source == "coco_wholebody":
        detections = None
        if split == "val" and boxes == "detections":
            detections = root / str(source.detections)  # the settings' check has seen to it
        return _coco(source, root / str(source.annotations), root / str(source.images), split, detections)
    if source.source == "ubody":
        return Loaded(*ubody.load(source, root, split))
    return Loaded(*unlabelled.load(source, root, split))


def _coco(source: Source, annotations: Path, images: Path, split: str, detections: Path | None) -> Loaded:
    if not images.is_dir():
        raise UserError(f"source {source.name}: there is no image folder {images}")
    refs: dict[int, ImageRef] = {}

    def locate(image: dict[str, Any]) -> ImageRef:
        name = image["file_name"]
        ref = ImageRef(str(images / name), None, image["width"], image["height"], name)
        refs[image["id"]] = ref
        return ref

    funnel = Funnel(source.name)
    persons = coco.read_persons(annotations, locate, funnel)
    funnels, files = [funnel], [annotations]
    others, annotated = dict[int, ImageRef](), Counter[int]()
    if detections is not None:
        others, annotated = refs, Counter(person.image_id for person in persons)
        boxes = Funnel(source.name, what="detections")
        persons = coco.read_detections(detections, refs, boxes)
        funnels.append(boxes)
        files.append(detections)
    ground_truth = coco.read_ground_truth(annotations, lambda _: True) if split == "val" else None
    return Loaded(persons, funnels, ground_truth, files, {"images": len(refs)}, others, annotated)
