"""All candidates of a data set: each picture is read once, and its persons are predicted once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from posedistill.audit.candidates import Candidate, candidates
from posedistill.audit.evidence import Evidence, crop_boxes, look
from posedistill.audit.labels import Labelled, Picture
from posedistill.audit.measure import KEYS
from posedistill.errors import UserError
from posedistill.inference.pose import Pose
from posedistill.progress import progress
from posedistill.sources.frames import load_all
from posedistill.sources.pixels import BrokenImage


@dataclass
class Survey:
    """What was found. seen: the model's points [133, 3] float32 by annotation id. skipped: picture name → reason."""

    pictures: dict[int, Picture] = field(default_factory=dict)
    people: dict[int, Labelled] = field(default_factory=dict)
    seen: dict[int, np.ndarray] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


Memory = dict[tuple, Evidence]  # (picture, the crops' boxes) → what the model said


def survey(pose: Pose, pictures: Sequence[Picture], memory: Memory | None = None) -> Survey:
    """Measure every label of the pictures. Pictures that cannot be read are skipped; UserError if none can.

    A part that nobody has labels of, as in body-only files, is missed nowhere.

    memory: filled, and asked before the model is; for several label sets of the same pictures.
    """
    result = Survey()
    total = sum(len(picture.persons) for picture in pictures)
    loaded = load_all([picture.ref for picture in pictures], keep_bytes=False)
    with progress(desc="audit", unit="persons", total=total) as bar:
        for picture, content in zip(pictures, loaded):
            if isinstance(content, BrokenImage):
                result.skipped[picture.ref.name] = str(content)
            else:
                _add(result, picture, _look(pose, picture, content[1], memory))
            bar.update(len(picture.persons))
    if not result.people:
        name, reason = next(iter(result.skipped.items()), ("the annotations", "no person with labels"))
        raise UserError(f"{name}: {reason}; there is nothing to audit")
    known = [part for part, keys in KEYS.items() if any(one.labelled[keys].any() for one in result.people.values())]
    result.candidates = [one for one in result.candidates if one.kind != "unlabelled" or one.part in known]
    return result


def _look(pose: Pose, picture: Picture, image: np.ndarray, memory: Memory | None) -> list[Evidence]:
    if memory is None:
        return look(pose, image, picture.persons)
    keys = [(picture.image_id, *np.concatenate(crop_boxes(person)).round(3)) for person in picture.persons]
    new = [i for i, key in enumerate(keys) if key not in memory]
    for i, evidence in zip(new, look(pose, image, [picture.persons[i] for i in new])):
        memory[keys[i]] = replace(evidence, x=evidence.x.astype(np.float16), y=evidence.y.astype(np.float16))
    return [memory[key] for key in keys]


def _add(result: Survey, picture: Picture, evidence: Sequence[Evidence]) -> None:
    result.pictures[picture.image_id] = picture
    for person, one in zip(picture.persons, evidence):
        result.people[person.identity] = person
        result.seen[person.identity] = one.points.astype(np.float32)
    result.candidates += candidates(picture, evidence)


def counts(rows: Sequence[Mapping], kinds: Sequence[str], least: float) -> dict[str, int]:
    """Number of findings of each kind that are at least `least` sure."""
    return {kind: sum(row["kind"] == kind and row["sure"] >= least for row in rows) for kind in kinds}
