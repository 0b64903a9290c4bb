"""The 133 keypoints of COCO-WholeBody: names, parts, flip pairs, OKS sigmas, skeleton and colours.

Order of the keypoints: 17 body, 6 foot, 68 face, 21 left hand, 21 right hand (arXiv 2007.11858). Sigmas are those of
the official COCO-WholeBody evaluation; skeleton and colours are those of mmpose's COCO-WholeBody visualisation.
"Left" and "right" are the person's own.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

NUM_KEYPOINTS = 133

PARTS: dict[str, slice] = {
    "body": slice(0, 17),
    "foot": slice(17, 23),
    "face": slice(23, 91),
    "lefthand": slice(91, 112),
    "righthand": slice(112, 133),
}
# Parts as tables and figures name them; files keep the keys.
PART_NAMES = {
    "body": "body",
    "foot": "feet",
    "face": "face",
    "lefthand": "left hand",
    "righthand": "right hand",
    "hand": "hands",
    "wholebody": "whole body",
}
MAIN_PARTS = ("wholebody", "body", "foot", "face", "hand")  # the parts that tables and figures show

# Half-body augmentation looks at these alone, never at face or hands.
UPPER_BODY = tuple(range(0, 11))
LOWER_BODY = tuple(range(11, 23))

_BODY = (
    "nose",
    *("left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
_FOOT = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")


def _hand(side: str) -> tuple[str, ...]:
    return (f"{side}_hand_root", *(f"{side}_{finger}{joint}" for finger in FINGERS for joint in range(1, 5)))


NAMES: tuple[str, ...] = (*_BODY, *_FOOT, *(f"face-{i}" for i in range(68)), *_hand("left"), *_hand("right"))

# Mirror images within the 68 face points: jaw line, brows, (the nose bridge is its own mirror), nostrils, eyes, lips.
_FACE_MIRROR = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30),
    *(35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)


def _mirror(index: int) -> int:
    name = NAMES[index]
    if name.startswith("face-"):
        return PARTS["face"].start + _FACE_MIRROR[int(name.removeprefix("face-"))]
    for side, other in (("left_", "right_"), ("right_", "left_")):
        if name.startswith(side):
            return NAMES.index(other + name.removeprefix(side))
    return index


# FLIP_INDICES[k] is the keypoint that takes the place of k in the mirrored image. int64 [133]
FLIP_INDICES = np.array([_mirror(i) for i in range(NUM_KEYPOINTS)], dtype=np.int64)
FLIP_PAIRS: tuple[tuple[int, int], ...] = tuple((i, int(j)) for i, j in enumerate(FLIP_INDICES) if i < j)

_BODY_SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
_FOOT_SIGMAS = (68, 66, 66, 92, 94, 94)
_FACE_SIGMAS = (
    *(42, 43, 44, 43, 40, 35, 31, 25, 20, 23, 29, 32, 37, 38, 43, 41, 45),
    *(13, 12, 11, 11, 12, 12, 11, 11, 13, 15),
    *(9, 7, 7, 7, 12, 9, 8, 16, 10),
    *(17, 11, 9, 11, 9, 7, 13, 8, 11, 12, 10, 34),
    *(8, 8, 9, 8, 8, 7, 10, 8, 9, 9, 9, 7),
    *(7, 8, 11, 8, 8, 8, 10, 8),
)
_HAND_SIGMAS = (29, 22, 35, 37, 47, 26, 25, 24, 35, 18, 24, 22, 26, 17, 21, 21, 32, 20, 19, 22, 31)

# OKS sigmas, float64 [133]; a keypoint's falloff variance is (2 sigma)^2.
SIGMAS = np.array([*_BODY_SIGMAS, *_FOOT_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS], np.float64) / 1000

_GREEN, _ORANGE, _BLUE, _WHITE = (0, 255, 0), (255, 128, 0), (51, 153, 255), (255, 255, 255)
_FINGER_COLORS = (_ORANGE, (255, 153, 255), (102, 178, 255), (255, 51, 51), _GREEN)

_BODY_LINKS = (
    *(("left_ankle", "left_knee", _GREEN), ("left_knee", "left_hip", _GREEN)),
    *(("right_ankle", "right_knee", _ORANGE), ("right_knee", "right_hip", _ORANGE)),
    *(("left_hip", "right_hip", _BLUE), ("left_shoulder", "left_hip", _BLUE), ("right_shoulder", "right_hip", _BLUE)),
    *(("left_shoulder", "right_shoulder", _BLUE), ("left_shoulder", "left_elbow", _GREEN)),
    *(("right_shoulder", "right_elbow", _ORANGE), ("left_elbow", "left_wrist", _GREEN)),
    ("right_elbow", "right_wrist", _ORANGE),
    *(("left_eye", "right_eye", _BLUE), ("nose", "left_eye", _BLUE), ("nose", "right_eye", _BLUE)),
    *(("left_eye", "left_ear", _BLUE), ("right_eye", "right_ear", _BLUE)),
    *(("left_ear", "left_shoulder", _BLUE), ("right_ear", "right_shoulder", _BLUE)),
    *(("left_ankle", f"left_{toe}", _GREEN) for toe in ("big_toe", "small_toe", "heel")),
    *(("right_ankle", f"right_{toe}", _ORANGE) for toe in ("big_toe", "small_toe", "heel")),
)


def _hand_links(side: str) -> list[tuple[str, str, tuple[int, int, int]]]:
    links = []
    for finger, color in zip(FINGERS, _FINGER_COLORS, strict=True):
        chain = (f"{side}_hand_root", *(f"{side}_{finger}{joint}" for joint in range(1, 5)))
        links += [(a, b, color) for a, b in pairwise(chain)]
    return links


_LINKS = (*_BODY_LINKS, *_hand_links("left"), *_hand_links("right"))

# Pairs of keypoint indices, and the RGB colour of each link.
SKELETON: list[tuple[int, int]] = [(NAMES.index(a), NAMES.index(b)) for a, b, _ in _LINKS]
SKELETON_COLORS: list[tuple[int, int, int]] = [color for _, _, color in _LINKS]


def _color(name: str) -> tuple[int, int, int]:
    if name.startswith("face-") or name.endswith("_hand_root"):
        return _WHITE
    for finger, color in zip(FINGERS, _FINGER_COLORS, strict=True):
        if f"_{finger}" in name:
            return color
    if name in _BODY[:5]:
        return _BLUE
    if name in _FOOT:
        return _ORANGE
    return _GREEN if name.startswith("left_") else _ORANGE


KEYPOINT_COLORS: list[tuple[int, int, int]] = [_color(name) for name in NAMES]
