"""The ranked list: candidates that are likely enough, each fault reported once, with the proposed correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posedistill.audit.candidates import Candidate
from posedistill.audit.judge import probabilities
from posedistill.audit.labels import Labelled, Picture, extent, fields_of
from posedistill.audit.measure import HIDDEN, KEYS, SIDES
from posedistill.audit.survey import Survey
from posedistill.keypoints import PARTS

LEAST = 0.05  # candidates that are less sure are not listed
SURE = 0.9  # from here on a finding is called sure
LIKELY = 0.5  # from here on a finding explains others, however sure those are
MARGIN = 0.05  # of the points' extent, added on each side of a proposed box
VISIBLE = 2.0  # the third value of proposed points


def explained(found: Sequence[Candidate], sure: np.ndarray, labelled: Mapping[int, int]) -> np.ndarray:
    """Probabilities [N], 0 where a likely or surer finding on the same annotation explains the candidate.

    labelled: number of labelled points by annotation id.
    """
    best: dict[int, dict[tuple[str, str], float]] = {}
    for one, p in zip(found, sure):
        identity = one.identity if one.kind != "double" else removed(one, labelled)
        mine = best.setdefault(identity, {})
        mine[one.kind, one.part] = max(mine.get((one.kind, one.part), 0.0), float(p))
    reasons = [_reason(one, best.get(one.identity, {})) for one in found]
    return np.where([reason < LIKELY and reason <= p for reason, p in zip(reasons, sure)], sure, 0.0)


def _reason(one: Candidate, best: Mapping[tuple[str, str], float]) -> float:
    """The surest other finding of the annotation that explains this one: a duplicate explains everything else that
    is wrong with it; another person's part and swapped hands are off their body; a shifted body is off all its parts;
    a box looks wrong where points are wrong."""
    explains: dict[str, Sequence[str]] = {
        "double": (),
        "shifted": ("double", "other_person", "swapped"),
        "other_person": ("double", "swapped") if "hand" in one.part else ("double",),
        "box": ("double", "other_person", "shifted"),
    }
    reasons = [
        p
        for (kind, part), p in best.items()
        if kind in explains.get(one.kind, ("double",))
        and (one.kind == "box" or kind != "other_person" or part == one.part)
    ]
    if one.kind == "shifted" and one.part != "body":
        reasons.append(best.get(("shifted", "body"), 0.0))
    return max(reasons, default=0.0)


def removed(double: Candidate, labelled: Mapping[int, int]) -> int:
    """The annotation of a double to remove: the one with fewer labelled points, else the one with the larger id."""
    assert double.other is not None
    return min((double.identity, double.other), key=lambda identity: (labelled[identity], -identity))


def judged(
    found: Sequence[Candidate], people: Mapping[int, Labelled], fitted: Mapping[str, Any] | None = None
) -> np.ndarray:
    """How sure each candidate is, after explanation, [N]."""
    labelled = {identity: int(person.labelled.sum()) for identity, person in people.items()}
    return explained(found, probabilities(found, fitted), labelled)


def ranked(result: Survey, least: float = LEAST) -> list[dict[str, Any]]:
    """The findings, surest first, as audit.json holds them."""
    found, people = result.candidates, result.people
    sure = judged(found, people)
    rows: list[dict[str, Any]] = []
    for i in np.argsort(-sure, kind="stable"):
        one = found[i]
        if sure[i] < least:
            break
        identity = one.identity
        if one.kind == "double":
            identity = removed(one, {k: int(people[k].labelled.sum()) for k in (one.identity, one.other or 0)})
        person = people[identity]
        proposed = propose(one, person, result.seen[identity], result.pictures[one.image_id])
        if one.kind != "double" and not proposed:
            continue
        rows.append(
            {
                "rank": len(rows) + 1,
                "annotation_id": identity,
                "image_id": one.image_id,
                "file_name": result.pictures[one.image_id].ref.name,
                "kind": one.kind,
                "part": one.part,
                "same_as": (one.other if identity == one.identity else one.identity) if one.kind == "double" else None,
                "sure": round(float(sure[i]), 4),
                "points": {name: person.annotation.get(name) for name in (proposed or ("bbox", "keypoints"))},
                "proposed": proposed,
                "accepted": None,
            }
        )
    return rows


def propose(one: Candidate, person: Labelled, seen: np.ndarray, picture: Picture) -> dict[str, Any] | None:
    """The corrected fields of the annotation; None: remove the annotation."""
    points = person.keypoints.copy()
    if one.kind == "double":
        return None
    if one.kind == "box":
        return {"bbox": _box(points[person.shown], (picture.ref.width, picture.ref.height))}
    if one.kind == "outside":
        points[person.outside > 0] = 0
    elif one.kind == "swapped":
        left, right = SIDES[one.part]
        points[left], points[right] = person.keypoints[right], person.keypoints[left]
    else:
        keys = KEYS[one.part]
        if one.kind == "shifted":
            keys = keys[person.labelled[keys]]
            points[keys, :2] += moved_by(one, person, seen, keys)
        else:
            points[keys, :2], points[keys, 2] = seen[keys, :2], VISIBLE
            beyond = (points[keys, :2] < 0) | (points[keys, :2] > (picture.ref.width, picture.ref.height))
            points[keys[beyond.any(axis=1)]] = 0
    changed: dict[str, Any] = {}
    for part, place in PARTS.items():
        if (points[place] != person.keypoints[place]).any():
            changed |= fields_of(person.annotation, points, part)
            if part == one.part and one.kind == "unlabelled" and f"{part}_valid" in person.annotation:
                changed[f"{part}_valid"] = True
            if part == "body" and "num_keypoints" in person.annotation:
                changed["num_keypoints"] = int((points[place, 2] > 0).sum())
    return changed


def moved_by(one: Candidate, person: Labelled, seen: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The move [2] (pixels) that corrects a shifted part: onto its body, or to where the model sees it."""
    if one.vector is not None and one.part != "body":
        return one.vector
    return np.median(seen[keys, :2] - person.keypoints[keys, :2], axis=0)


def _box(points: np.ndarray, size: tuple[int, int]) -> list[float]:
    visible = points[points[:, 2] != HIDDEN]
    x, y, w, h = extent(visible if len(visible) else points)
    margin = MARGIN * max(w, h)
    low = np.array([x - margin, y - margin]).clip(0, size)
    high = np.array([x + w + margin, y + h + margin]).clip(0, size)
    return [round(float(value), 2) for value in (*low, *(high - low))]
