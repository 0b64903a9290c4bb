"""What is measured of each label: how far it is from what the model sees, and from the other labels of the person.

Lengths are divided by the size of the part (the longer side of its labelled points' box), likelihoods are mean nats a
point (`Evidence.likelihood`), so that the numbers mean the same in every picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posedistill.audit.evidence import Evidence
from posedistill.audit.labels import FEW, Labelled, extent, size_of
from posedistill.keypoints import FLIP_INDICES, NAMES, PARTS, SIGMAS

Measures = dict[str, float]
HIDDEN = 1  # the third value of a labelled point that cannot be seen (COCO)
BOX_SIDES = ("left", "top", "right", "bottom")
KEYS = {part: np.arange(len(NAMES))[place] for part, place in PARTS.items()}

_FACE = PARTS["face"].start
_EYES = {"left": range(_FACE + 42, _FACE + 48), "right": range(_FACE + 36, _FACE + 42)}  # the person's own
# Where the heel is, seen from the ankle: shares of the way from knee to ankle and from toes to heel (least squares on
# rendered people; what is left is a seventh of the distance).
_SHIN, _SOLE = 0.155, 0.141

_ARMS = [NAMES.index(f"left_{joint}") for joint in ("shoulder", "elbow", "wrist")]
_LEGS = [NAMES.index(f"left_{joint}") for joint in ("hip", "knee", "ankle", "big_toe", "small_toe", "heel")]
_HEAD = [NAMES.index("left_eye"), NAMES.index("left_ear")]
_HANDS = KEYS["lefthand"].tolist()
_SWAPPED = {"hands": _HANDS, "arms": _ARMS + _HANDS, "legs": _LEGS, "all": _HEAD + _ARMS + _LEGS + _HANDS}
# What is swapped together: the left points, and the right ones that mirror them.
SIDES = {group: (np.array(left), FLIP_INDICES[left]) for group, left in _SWAPPED.items()}
_JOINED = {"hands": ("lefthand", "righthand"), "arms": (), "legs": (), "all": ("face",)}  # whose gaps tell a swap


def gap(points: np.ndarray, shown: np.ndarray, part: str) -> np.ndarray | None:
    """The offset [2] (pixels) of a part from its body: between wrist and root of a hand, nose and eyes of body and
    face, ankle and heel; None where labels of either are missing."""
    found = [place - joint for place, joint in _meetings(points, shown, part)]
    return np.median(found, axis=0) if found else None


def _meetings(points: np.ndarray, shown: np.ndarray, part: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of places that should be the same: by the part's own labels, by the body's."""
    xy, found = points[:, :2], []
    if part in ("lefthand", "righthand"):
        root, wrist = KEYS[part][0], NAMES.index(f"{part.removesuffix('hand')}_wrist")
        if shown[root] and shown[wrist]:
            found.append((xy[root], xy[wrist]))
    elif part == "face":
        places = [([_FACE + 30], "nose"), *((list(eye), f"{side}_eye") for side, eye in _EYES.items())]
        for own, joint in places:
            if shown[own].all() and shown[NAMES.index(joint)]:
                found.append((xy[own].mean(axis=0), xy[NAMES.index(joint)]))
    elif part == "foot":
        for side in ("left", "right"):
            knee, ankle, toe, small, heel = (
                NAMES.index(f"{side}_{name}") for name in ("knee", "ankle", "big_toe", "small_toe", "heel")
            )
            if shown[[knee, ankle, toe, small, heel]].all():
                sole = xy[heel] - (xy[toe] + xy[small]) / 2
                found.append((xy[heel] - _SOLE * sole, xy[ankle] + _SHIN * (xy[ankle] - xy[knee])))
    return found


def gaps(person: Labelled) -> dict[str, np.ndarray]:
    """`gap` of each part that has one, and of the body: the smallest of the others', reversed, since a body that agrees
    with one part is not shifted. Where all parts are off by as much as the smallest, that much is the body's."""
    found = {part: one for part in PARTS if (one := gap(person.keypoints, person.shown, part)) is not None}
    if not found:
        return {}
    common = min(found.values(), key=lambda one: float(np.linalg.norm(one)))
    if len(found) > 1 and np.linalg.norm(common) > 0.05 * size_of(person.keypoints[person.shown]):
        found = {part: one - common for part, one in found.items()}
    return found | {"body": -common}


def measure_part(
    person: Labelled, others: Sequence[Labelled], evidence: Evidence, part: str, gaps: dict[str, np.ndarray]
) -> Measures | None:
    """The place of a labelled part: against the model, the body it belongs to, and the other persons."""
    keys = KEYS[part][person.shown[KEYS[part]]]
    if len(keys) < FEW:
        return None
    label, seen = person.keypoints[keys, :2], evidence.points[keys, :2]
    size = size_of(label)
    away = np.median(seen - label, axis=0)  # where the model would move the part
    here = evidence.likelihood(keys, label).mean()
    missed = gaps.get(part)
    return {
        "size": size / evidence.size,
        "away": np.linalg.norm(away) / size,
        "shape": np.median(np.linalg.norm(seen - label - away, axis=1)) / size,
        "here": here,
        "moved": evidence.likelihood(keys, label + away).mean() - here,
        "sure": evidence.peak[keys].mean(),
        "low": np.quantile(evidence.peak[keys], 0.2),
        "spread": np.median(evidence.spread[keys]) / size,
        "gap": np.nan if missed is None else np.linalg.norm(missed) / size,
        "differ": np.linalg.norm(away + (0 if missed is None else missed)) / size,
        "closed": 0.0 if missed is None else evidence.likelihood(keys, label - missed).mean() - here,
        "other": min((_distance(person, one, keys) for one in others), default=np.inf) / size,
        "other_gap": min((_foreign_gap(person, one, part) for one in others), default=np.inf) / size,
    }


def _distance(person: Labelled, other: Labelled, keys: np.ndarray) -> float:
    """Mean distance of the labels of two persons over points that both have; infinite if few."""
    both = keys[other.shown[keys]]
    if len(both) < FEW:
        return np.inf
    return float(np.linalg.norm(person.keypoints[both, :2] - other.keypoints[both, :2], axis=1).mean())


def _foreign_gap(person: Labelled, other: Labelled, part: str) -> float:
    """How far a part is from where it would belong on another person's body."""
    body = KEYS["body"]
    points, shown = person.keypoints.copy(), person.shown.copy()
    points[body], shown[body] = other.keypoints[body], other.shown[body]
    found = gap(points, shown, part)
    return np.inf if found is None else float(np.linalg.norm(found))


def measure_sides(person: Labelled, evidence: Evidence, group: str) -> Measures | None:
    """Left and right of a group of points: how much likelier they are when exchanged."""
    left, right = SIDES[group]
    both = person.shown[left] & person.shown[right]
    left, right = left[both], right[both]
    if len(left) < 2:
        return None
    keys, mirror = np.concatenate((left, right)), np.concatenate((right, left))
    label = person.keypoints[:, :2]
    gain = evidence.likelihood(keys, label[mirror]) - evidence.likelihood(keys, label[keys])
    fine = keys >= _FACE
    size = size_of(label[keys])
    swapped = person.keypoints.copy()
    swapped[keys] = person.keypoints[mirror]
    before, after = (_mean_gap(points, person.shown, _JOINED[group]) / size for points in (person.keypoints, swapped))
    return {
        "apart": np.median(np.linalg.norm(label[left] - label[right], axis=1)) / size,
        "body_gain": gain[~fine].mean() if (~fine).any() else 0.0,
        "hand_gain": gain[fine].mean() if fine.any() else 0.0,
        "total": gain[~fine].sum() + (6 * gain[fine].mean() if fine.any() else 0.0) + 60 * (before - after),
        "agree": (gain > 0).mean(),
        "sure": evidence.peak[keys].mean(),
        "gap": before - after,
        "size": size / evidence.size,
    }


def _mean_gap(points: np.ndarray, shown: np.ndarray, parts: Sequence[str]) -> float:
    found = [one for part in parts if (one := gap(points, shown, part)) is not None]
    return float(np.linalg.norm(found, axis=1).mean()) if found else 0.0


def measure_missing(person: Labelled, evidence: Evidence, part: str, size: tuple[int, int]) -> Measures | None:
    """How clearly the model sees a part without labels. size: (width, height) of the picture."""
    keys = KEYS[part]
    if person.labelled[keys].any():
        return None
    seen = evidence.points[keys, :2]
    points, shown = person.keypoints.copy(), person.shown.copy()
    points[keys], shown[keys] = evidence.points[keys], True
    missed = gap(points, shown, part)
    length = size_of(seen)
    return {
        "sure": evidence.peak[keys].mean(),
        "low": np.quantile(evidence.peak[keys], 0.2),
        "spread": np.median(evidence.spread[keys]) / length,
        "inside": ((seen >= 0) & (seen < size)).all(axis=1).mean(),
        "gap": np.nan if missed is None else np.linalg.norm(missed) / length,
        "pixels": length,
        "size": length / evidence.size,
    }


def measure_double(person: Labelled, other: Labelled) -> Measures | None:
    """Whether two annotations of one picture are the same person: OKS between them, and overlap of their boxes."""
    both = person.shown & other.shown
    if both[: KEYS["foot"][-1] + 1].sum() < FEW:
        return None
    area = 0.53 * np.sqrt(person.box[2:].prod() * other.box[2:].prod())
    square = ((person.keypoints[both, :2] - other.keypoints[both, :2]) ** 2).sum(axis=1)
    similar = np.exp(-square / (2 * area * (2 * SIGMAS[both]) ** 2))
    return {"oks": similar.mean(), "overlap": overlap(person.box, other.box)}


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = np.clip(high - low, 0, None).prod()
    return float(shared / (a[2:].prod() + b[2:].prod() - shared))


def measure_box(person: Labelled, size: tuple[int, int]) -> Measures | None:
    """The box against the labelled points: the margins of its sides, in units of the points' extent.

    `narrow_…` counts visible points alone, since boxes are drawn around what can be seen; hidden ones may lie beyond.
    edge_…: 1 where the side is that of the picture, beyond which the person may go on.
    """
    points = person.keypoints[person.shown]
    visible = points[points[:, 2] != HIDDEN]
    if len(points) < 8 or len(visible) < FEW:
        return None
    length = size_of(points)
    low, high = person.box[:2], person.box[:2] + person.box[2:]
    edges = np.concatenate((low <= 1, high >= np.array(size) - 1))
    found: Measures = {"beyond": (~((visible[:, :2] >= low) & (visible[:, :2] <= high)).all(axis=1)).mean()}
    for name, chosen in (("wide", points), ("narrow", visible)):
        tight = extent(chosen)
        margins = np.concatenate((tight[:2] - low, high - tight[:2] - tight[2:])) / length
        found |= {f"{name}_{side}": float(margin) for side, margin in zip(BOX_SIDES, margins)}
    return found | {f"edge_{side}": float(edge) for side, edge in zip(BOX_SIDES, edges)}
