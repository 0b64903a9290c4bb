"""Everything in a picture's labels that could be a fault, with its measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posedistill.audit import measure
from posedistill.audit.evidence import Evidence
from posedistill.audit.labels import Labelled, Picture
from posedistill.keypoints import PARTS

# kind → what it means, as tables and pages name it
KINDS = {
    "unlabelled": "visible but not labelled",
    "swapped": "left and right swapped",
    "double": "person annotated twice",
    "shifted": "part shifted",
    "other_person": "part of another person",
    "box": "box does not fit",
    "outside": "points outside the picture",
}


@dataclass(frozen=True)
class Candidate:
    """What could be wrong with one annotation. part: a part, or for `swapped` a group of SIDES; "" for the person.
    other: the second annotation of a double. vector: the move (pixels) that would put a shifted part right."""

    kind: str
    image_id: int
    identity: int
    part: str
    measures: measure.Measures
    other: int | None = None
    vector: np.ndarray | None = None


def candidates(picture: Picture, evidence: Sequence[Evidence]) -> list[Candidate]:
    """All candidates of a picture; `evidence` on each of its persons."""
    found = []
    for index, (person, seen) in enumerate(zip(picture.persons, evidence)):
        others = [one for one in picture.persons if one is not person]
        found += _of_person(picture, person, others, seen)
        found += [
            Candidate("double", picture.image_id, person.identity, "", measures, other.identity)
            for other in picture.persons[:index]
            if (measures := measure.measure_double(person, other)) is not None
        ]
    return found


def _of_person(picture: Picture, person: Labelled, others: list[Labelled], evidence: Evidence) -> list[Candidate]:
    size = (picture.ref.width, picture.ref.height)
    found: list[Candidate] = []

    def add(kind: str, part: str, measures: measure.Measures | None, vector: np.ndarray | None = None) -> None:
        if measures is not None:
            found.append(Candidate(kind, picture.image_id, person.identity, part, measures, None, vector))

    gaps = measure.gaps(person)
    for part in PARTS:
        measures = measure.measure_part(person, others, evidence, part, gaps)
        add("shifted", part, measures, -gaps[part] if part in gaps else None)
        if part != "body" and others:
            add("other_person", part, measures)
        add("unlabelled", part, measure.measure_missing(person, evidence, part, size))
    groups = [(group, measure.measure_sides(person, evidence, group)) for group in measure.SIDES]
    known = [(group, measures) for group, measures in groups if measures is not None]
    if known:
        add("swapped", *max(known, key=lambda one: one[1]["total"]))
    add("box", "", measure.measure_box(person, size))
    if person.outside.any():
        add("outside", "", {"beyond": float(person.outside.max()), "points": float((person.outside > 0).sum())})
    return found
