"""All candidates of a data set: every picture is read once, its persons go through the model once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from posedistill.audit.candidates import Candidate, candidates
from posedistill.audit.evidence import look
from posedistill.audit.labels import Labelled, Picture
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


def survey(pose: Pose, pictures: Sequence[Picture], *, show: bool = True) -> Survey:
    """Measure every label of the pictures. Pictures that cannot be read are skipped; UserError if none can."""
    result = Survey()
    total = sum(len(picture.persons) for picture in pictures)
    loaded = load_all([picture.ref for picture in pictures], keep_bytes=False)
    with progress(desc="audit", unit="persons", total=total, show=show) as bar:
        for picture, content in zip(pictures, loaded):
            if isinstance(content, BrokenImage):
                result.skipped[picture.ref.name] = str(content)
            else:
                _add(result, pose, picture, content[1])
            bar.update(len(picture.persons))
    if not result.people:
        name, reason = next(iter(result.skipped.items()), ("the annotations", "no person with labels"))
        raise UserError(f"{name}: {reason}; there is nothing to audit")
    return result


def _add(result: Survey, pose: Pose, picture: Picture, image: np.ndarray) -> None:
    evidence = look(pose, image, picture.persons)
    result.pictures[picture.image_id] = picture
    for person, one in zip(picture.persons, evidence):
        result.people[person.identity] = person
        result.seen[person.identity] = one.points.astype(np.float32)
    result.candidates += candidates(picture, evidence)


def counts(rows: Sequence[Mapping], kinds: Sequence[str], least: float) -> dict[str, int]:
    """Findings of each kind that are at least so sure."""
    return {kind: sum(row["kind"] == kind and row["sure"] >= least for row in rows) for kind in kinds}
