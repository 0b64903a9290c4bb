"""OpenPose's JSON: one file per frame, with the keypoints of COCO-WholeBody in OpenPose's order.

`pose_keypoints_2d` holds BODY_25, `face_keypoints_2d` 70 points, `hand_left_keypoints_2d` and `hand_right_keypoints_2d`
21 each, as x, y, c; a point that was not found is 0, 0, 0. COCO-WholeBody has no neck, mid-hip or pupils: neck and
mid-hip are the middle of the shoulders and of the hips, pupils the body's eyes, as other programs that write this
format from such keypoints fill them.
"""

from typing import Any

import numpy as np

from posedistill.keypoints import NAMES, PARTS

VERSION = 1.3  # of the format, as OpenPose 1.6 and 1.7 write it

_BODY_25 = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
    *("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"),
)
_MIDDLES = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}
_PUPILS = [NAMES.index("right_eye"), NAMES.index("left_eye")]  # points 68 and 69 of the face


def openpose_frame(people: np.ndarray, chosen: np.ndarray, numbers: list[int] | None = None) -> dict[str, Any]:
    """The content of a frame's file.

    people: [N, 133, 3] x, y, c; points with c = 0 were not found. chosen: [133] bool; a list none of whose points is
    chosen is empty, as in OpenPose without that network. numbers: of the persons over time; None writes OpenPose's -1.
    """
    numbers = [-1] * len(people) if numbers is None else numbers
    return {
        "version": VERSION,
        "people": [
            {"person_id": [number], **_lists(person, chosen)} for person, number in zip(people, numbers, strict=True)
        ],
    }


def _lists(person: np.ndarray, chosen: np.ndarray) -> dict[str, list[float]]:
    kept = np.where(chosen[:, None], person, 0)
    found = {
        "pose": (_body(kept), chosen[: PARTS["foot"].stop]),
        "face": (np.concatenate((kept[PARTS["face"]], person[_PUPILS])), chosen[PARTS["face"]]),
        "hand_left": (kept[PARTS["lefthand"]], chosen[PARTS["lefthand"]]),
        "hand_right": (kept[PARTS["righthand"]], chosen[PARTS["righthand"]]),
    }
    flat = {
        f"{part}_keypoints_2d": _rounded(points) if wanted.any() else [] for part, (points, wanted) in found.items()
    }
    return flat | {f"{part}_keypoints_3d": [] for part in found}


def _body(person: np.ndarray) -> np.ndarray:
    """[25, 3]"""
    return np.stack(
        [_middle(person, *_MIDDLES[name]) if name in _MIDDLES else person[NAMES.index(name)] for name in _BODY_25]
    )


def _middle(person: np.ndarray, left: str, right: str) -> np.ndarray:
    """Of two points, with the smaller c; 0 where one of them was not found."""
    pair = person[[NAMES.index(left), NAMES.index(right)]]
    certainty = pair[:, 2].min()
    return np.array([*pair[:, :2].mean(axis=0), certainty]) if certainty > 0 else np.zeros(3)


def _rounded(points: np.ndarray) -> list[float]:
    points = np.round(points, 3)  # first: c = 0 says that the point was not found
    return (np.where(points[:, 2:] > 0, points, 0) + 0.0).ravel().tolist()  # + 0.0 turns −0 into 0
