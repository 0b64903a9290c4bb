"""Drawing skeletons: in COCO-WholeBody colours over the image, and in OpenPose style on black for ControlNet.

Keypoints are [N, 133, 3]: x and y in image pixels, and a score or confidence, which a threshold is compared with.
Points outside the image, and those whose coordinates are NaN, are not drawn. Images are RGB, uint8 [H, W, 3].
"""

import colorsys

import cv2
import numpy as np

from posedistill.keypoints import KEYPOINT_COLORS, NAMES, PARTS, SKELETON, SKELETON_COLORS

# OpenPose's 18 body points as COCO indices; its neck is the middle of the shoulders.
_NECK = 1
_OPENPOSE = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
# Its limbs, in the order of their colours: shoulders and arms, then legs, then head.
_LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7)),
    *((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
# The colour circle in steps of 20 degrees, with which ControlNet's models were trained.
_WHEEL = [
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0)),
    *((0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255)),
    *((0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
]
_FINGER_LINKS = [
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1) for finger in range(5) for joint in range(4)
]
_FINGER_COLORS = [
    tuple(round(255 * value) for value in colorsys.hsv_to_rgb(i / len(_FINGER_LINKS), 1, 1)) for i in range(20)
]
_HANDS = (PARTS["lefthand"], PARTS["righthand"])
MIN_CONFIDENCE = 0.5  # least confidence of a point that is drawn
# The same as raw scores, where there is no calibration. Published files: as in mmpose and rtmlib. Models of rendered
# people: more than nine tenths of the labelled body points of rendered validation persons score higher, and of the body
# points of photographs that do, half are right.
RAW_THRESHOLD, RAW_THRESHOLD_RENDERED = 0.3, 0.15
_OPENPOSE_SIDE = 512  # shorter side of the pictures for which OpenPose's line widths are meant
_FINE = PARTS["face"].start  # from here on, the dense points of face and hands


def usual_threshold(calibrated: bool, rendered: bool) -> float:
    """From which confidence on points are drawn; from which raw score on, if the model is not calibrated.

    rendered: whether it was trained on rendered people alone.
    """
    if calibrated:
        return MIN_CONFIDENCE
    return RAW_THRESHOLD_RENDERED if rendered else RAW_THRESHOLD


def visible(keypoints: np.ndarray, shape: tuple[int, ...], threshold: float) -> np.ndarray:
    """Which points are drawn: bool [N, 133]; those from `threshold` on whose pixel lies in an image of `shape`."""
    finite = np.isfinite(keypoints).all(axis=2)
    pixel = np.where(finite[..., None], keypoints[..., :2], -1)
    inside = ((pixel >= -0.5) & (pixel < np.array([shape[1], shape[0]]) - 0.5)).all(axis=2)
    return finite & inside & (keypoints[..., 2] >= threshold)


def draw_skeletons(image: np.ndarray, keypoints: np.ndarray, threshold: float) -> np.ndarray:
    """A copy of `image` with the skeletons of all persons in the colours of COCO-WholeBody.

    Points below `threshold`, and links to them, are left out. Line width grows with the image.
    """
    canvas = np.ascontiguousarray(image).copy()
    thickness = max(1, round(min(canvas.shape[:2]) / 250))
    for person, shown in zip(keypoints, visible(keypoints, canvas.shape, threshold)):
        for (a, b), color in zip(SKELETON, SKELETON_COLORS):
            if shown[a] and shown[b]:
                thin = 1 if min(a, b) >= _FINE else thickness
                cv2.line(canvas, _pixel(person[a]), _pixel(person[b]), color, thin, cv2.LINE_AA)
        for i in np.flatnonzero(shown):
            radius = max(1, thickness // 2) if i >= _FINE else thickness + 1
            cv2.circle(canvas, _pixel(person[i]), radius, KEYPOINT_COLORS[i], cv2.FILLED, cv2.LINE_AA)
    return canvas


def draw_openpose(shape: tuple[int, int], keypoints: np.ndarray, threshold: float) -> np.ndarray:
    """Skeletons in OpenPose style on black, RGB uint8 [height, width, 3]: the condition image of a pose ControlNet.

    Body as 18 points with coloured limbs, hands as coloured bones with blue joints, face as white points; no feet,
    which these ControlNets were not trained on. `shape` is (height, width). Lines have OpenPose's widths up to a
    shorter side of 512 pixels and grow with larger pictures, which are scaled down for ControlNet.
    """
    height, width = shape
    scale = max(1.0, min(shape) / _OPENPOSE_SIDE)
    canvas = np.zeros((height, width, 3), np.uint8)
    people = list(zip(keypoints, visible(keypoints, shape, threshold)))
    _openpose_bodies(canvas, [_openpose_points(person, shown) for person, shown in people], scale)
    for person, shown in people:
        for hand in _HANDS:
            _openpose_hand(canvas, person[hand], shown[hand], scale)
    for person, shown in people:
        for i in range(PARTS["face"].start, PARTS["face"].stop):
            if shown[i]:
                cv2.circle(canvas, _pixel(person[i]), round(3 * scale), (255, 255, 255), cv2.FILLED)
    return canvas


def _openpose_points(person: np.ndarray, shown: np.ndarray) -> list[tuple[int, int] | None]:
    """The 18 points in pixels, None where one is not shown."""
    points = [None if i is None or not shown[i] else _pixel(person[i]) for i in _OPENPOSE]
    left, right = NAMES.index("left_shoulder"), NAMES.index("right_shoulder")
    if shown[left] and shown[right]:
        points[_NECK] = _pixel((person[left] + person[right]) / 2)
    return points


def _openpose_bodies(canvas: np.ndarray, people: list[list[tuple[int, int] | None]], scale: float) -> None:
    """First the limbs of all persons, then their joints, as in ControlNet's own pictures: no limb covers a joint."""
    for (a, b), color in zip(_LIMBS, _WHEEL):
        for points in people:
            start, end = points[a], points[b]
            if start is not None and end is not None:
                _openpose_limb(canvas, start, end, [int(0.6 * value) for value in color], scale)
    for joint, color in enumerate(_WHEEL):
        for points in people:
            point = points[joint]
            if point is not None:
                cv2.circle(canvas, point, round(4 * scale), color, cv2.FILLED)


def _openpose_limb(
    canvas: np.ndarray, start: tuple[int, int], end: tuple[int, int], color: list[int], scale: float
) -> None:
    middle = ((start[0] + end[0]) // 2, (start[1] + end[1]) // 2)
    along = np.subtract(end, start)
    axes = (int(np.hypot(*along) / 2), round(4 * scale))
    angle = int(np.degrees(np.arctan2(along[1], along[0])))
    cv2.fillConvexPoly(canvas, np.array(cv2.ellipse2Poly(middle, axes, angle, 0, 360, 1)), color)


def _openpose_hand(canvas: np.ndarray, hand: np.ndarray, shown: np.ndarray, scale: float) -> None:
    for (a, b), color in zip(_FINGER_LINKS, _FINGER_COLORS):
        if shown[a] and shown[b]:
            cv2.line(canvas, _pixel(hand[a]), _pixel(hand[b]), color, round(2 * scale))
    for i in np.flatnonzero(shown):
        cv2.circle(canvas, _pixel(hand[i]), round(4 * scale), (0, 0, 255), cv2.FILLED)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    x, y = np.rint(point[:2]).astype(int).tolist()
    return x, y
