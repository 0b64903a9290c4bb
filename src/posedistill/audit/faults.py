"""Known faults to test the audit: injects a few faults of each kind into correct labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from posedistill.audit.labels import FEW, Labelled, fields_of, size_of, to_labelled
from posedistill.audit.measure import SIDES
from posedistill.keypoints import PARTS, SIGMAS

SHARE = 0.05  # of the persons get a fault of each kind
LEAST, MOST = 0.1, 1.0  # of a part's longer side: how far shifted parts are moved, evenly drawn
APART = 0.1  # of the group's longer side: nearer than that, left and right are not worth telling apart
DETAILS = ("foot", "face", "lefthand", "righthand")

Rng = np.random.Generator
Changed = tuple[dict[str, Any], str, float]  # fields of the annotation, the part, the size of the fault


def inject(content: dict[str, Any], seed: int, share: float = SHARE) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO-WholeBody file's content with faults of each kind in `share` of its persons, at most one per person.

    Returns the copy and a list of what was done: annotation_id, kind, part and size (0 where there is none). Doubles
    are new annotations with new ids.
    """
    content = copy.deepcopy(content)
    rng = np.random.default_rng(seed)
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    people = {
        a["id"]: person for a in content["annotations"] if (person := to_labelled(a, sizes[a["image_id"]])) is not None
    }
    by_image: dict[int, list[Labelled]] = {}
    for person in people.values():
        by_image.setdefault(person.annotation["image_id"], []).append(person)
    entries = {a["id"]: a for a in content["annotations"]}
    wanted = max(1, round(share * len(people)))
    free = [int(identity) for identity in rng.permutation(list(people))]
    done: list[dict[str, Any]] = []
    for kind, change in FAULTS.items():
        count = 0
        for identity in list(free):
            person = people[identity]
            image_id = person.annotation["image_id"]
            others = [one for one in by_image[image_id] if one is not person]
            changed = change(rng, person, others, sizes[image_id])
            if changed is None:
                continue
            fields, part, size = changed
            if kind == "double":
                entry = {**copy.deepcopy(entries[identity]), **fields, "id": max(entries) + 1}
                content["annotations"].append(entry)
                entries[entry["id"]] = entry
            else:
                entry = entries[identity]
                entry.update(fields)
            done.append({"annotation_id": entry["id"], "kind": kind, "part": part, "size": size, "of": identity})
            free.remove(identity)
            count += 1
            if count == wanted:
                break
    return content, done


def _labelled_parts(person: Labelled, parts: tuple[str, ...]) -> list[str]:
    """Parts with enough labelled points, most of them visible."""
    flags = person.keypoints[:, 2]
    return [part for part in parts if (flags[PARTS[part]] > 0).sum() >= max(FEW, len(flags[PARTS[part]]) // 2)]


def _fields(person: Labelled, points: np.ndarray, parts: Iterable[str]) -> dict[str, Any]:
    return {name: row for part in parts for name, row in fields_of(person.annotation, points, part).items()}


def _pick(rng: Rng, items: list[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def _unlabelled(rng: Rng, person: Labelled, others: list[Labelled], size: tuple[int, int]) -> Changed | None:
    parts = [part for part in _labelled_parts(person, DETAILS) if (person.keypoints[PARTS[part], 2] == 2).mean() > 0.5]
    if not parts:
        return None
    part = _pick(rng, parts)
    points = person.keypoints.copy()
    points[PARTS[part]] = 0
    return fields_of(person.annotation, points, part) | {f"{part}_valid": False}, part, 0.0


def _swapped(rng: Rng, person: Labelled, others: list[Labelled], size: tuple[int, int]) -> Changed | None:
    group = _pick(rng, list(SIDES))
    left, right = SIDES[group]
    both = person.shown[left] & person.shown[right]
    if both.sum() < 3:
        return None
    points = person.keypoints.copy()
    apart = np.median(np.linalg.norm(points[left, :2] - points[right, :2], axis=1)[both])
    apart /= size_of(points[np.concatenate((left[both], right[both]))])
    if apart < APART:
        return None
    points[left], points[right] = person.keypoints[right], person.keypoints[left]
    parts = [part for part, place in PARTS.items() if (points[place] != person.keypoints[place]).any()]
    return _fields(person, points, parts), group, float(apart)


def _double(rng: Rng, person: Labelled, others: list[Labelled], size: tuple[int, int]) -> Changed | None:
    """A second annotation that differs as much as two annotators do (the keypoints' sigmas)."""
    points = person.keypoints.copy()
    noise = rng.normal(size=(133, 2)) * SIGMAS[:, None] * np.sqrt(person.box[2:].prod() * 0.53)
    points[:, :2] += noise * person.shown[:, None]
    for part in _labelled_parts(person, DETAILS):
        if rng.random() < 0.3:  # the second one left it out
            points[PARTS[part]] = 0
    box = person.box + rng.normal(0, 0.03, 4) * np.tile(person.box[2:], 2)
    return _fields(person, points, PARTS) | {"bbox": box.round(2).tolist()}, "", 0.0


def _shifted(rng: Rng, person: Labelled, others: list[Labelled], size: tuple[int, int]) -> Changed | None:
    parts = _labelled_parts(person, tuple(PARTS))
    if not parts:
        return None
    part = _pick(rng, parts)
    points = person.keypoints.copy()
    shown = person.shown & np.isin(np.arange(133), np.arange(133)[PARTS[part]])
    share, angle = rng.uniform(LEAST, MOST), rng.uniform(0, 2 * np.pi)
    move = share * size_of(points[shown]) * np.array([np.cos(angle), np.sin(angle)])
    points[shown, :2] += move
    if ((points[shown, :2] < 0) | (points[shown, :2] >= size)).any():
        return None  # nobody would label outside the picture; that is another kind
    return fields_of(person.annotation, points, part), part, float(share)


def _other_person(rng: Rng, person: Labelled, others: list[Labelled], size: tuple[int, int]) -> Changed | None:
    choices = [
        (part, other)
        for other in others
        for part in set(_labelled_parts(person, DETAILS)) & set(_labelled_parts(other, DETAILS))
    ]
    if not choices:
        return None
    part, other = _pick(rng, sorted(choices, key=lambda one: (one[0], one[1].identity)))
    points = person.keypoints.copy()
    away = np.linalg.norm(points[PARTS[part], :2] - other.keypoints[PARTS[part], :2], axis=1).mean()
    points[PARTS[part]] = other.keypoints[PARTS[part]]
    share = away / size_of(other.keypoints[PARTS[part]][other.shown[PARTS[part]]])
    return (fields_of(person.annotation, points, part), part, float(share)) if share > LEAST else None


def _box(rng: Rng, person: Labelled, others: list[Labelled], size: tuple[int, int]) -> Changed | None:
    """One side of the box, or two that meet, moved in or out by a sixth to a half of its length."""
    low, high = person.box[:2].copy(), person.box[:2] + person.box[2:]
    for axis in rng.permutation(2)[: int(rng.integers(1, 3))]:
        move = _pick(rng, [-1, 1]) * rng.uniform(0.17, 0.5) * person.box[2 + axis]
        if rng.random() < 0.5:
            low[axis] += move
        else:
            high[axis] += move
    low, high = low.clip(0, size), high.clip(0, size)
    box = np.concatenate((low, high - low))
    if (
        np.abs(np.concatenate((low - person.box[:2], high - person.box[:2] - person.box[2:]))).max()
        < 0.17 * max(person.box[2:])
        or (box[2:] <= 4).any()
    ):
        return None
    return {"bbox": box.round(2).tolist()}, "", 0.0


def _outside(rng: Rng, person: Labelled, others: list[Labelled], size: tuple[int, int]) -> Changed | None:
    """A few labelled points pushed over the nearest edge of the picture."""
    keys = np.flatnonzero(person.shown[: PARTS["foot"].stop])
    if not len(keys):
        return None
    chosen = rng.choice(keys, min(len(keys), int(rng.integers(1, 4))), replace=False)
    points = person.keypoints.copy()
    for k in chosen:
        axis = int(rng.integers(2))
        points[k, axis] = -rng.uniform(2, 30) if points[k, axis] < size[axis] / 2 else size[axis] + rng.uniform(2, 30)
    return _fields(person, points, ("body", "foot")), "", 0.0


FAULTS: dict[str, Callable[[Rng, Labelled, list[Labelled], tuple[int, int]], Changed | None]] = {
    "other_person": _other_person,
    "unlabelled": _unlabelled,
    "swapped": _swapped,
    "double": _double,
    "shifted": _shifted,
    "box": _box,
    "outside": _outside,
}
