"""Boxes, crops and the affine maps between image and model input, as the published implementation computes them.

Conventions: a box is (x, y, w, h) in image pixels; `center` and `scale` are (x, y) and (width, height) of the crop in
image pixels; an input size is (height, width); angles are degrees, and a positive angle turns the crop box
counter-clockwise on the screen's mirror (as mmpose's `bbox_rotation` does). Source: mmpose 1.1, structures/bbox and
datasets/transforms, on which DWPose builds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from posedistill.keypoints import FLIP_INDICES, LOWER_BODY, UPPER_BODY

FloatArray = NDArray[np.floating]

BOX_PADDING = 1.25  # published; also the default of `augment.box_padding`
HALF_BODY_PADDING = 1.5
HALF_BODY_MIN_KEYPOINTS = 9  # visible of all 133; with fewer, half-body never happens
HALF_BODY_MIN_UPPER = 2
HALF_BODY_MIN_LOWER = 3
PREFER_UPPER = 0.7


def box_to_center_scale(box: ArrayLike, padding: float = BOX_PADDING) -> tuple[NDArray, NDArray]:
    """Centre and padded size of boxes (x, y, w, h) [..., 4] → [..., 2] each, in the dtype of the box."""
    box = np.asarray(box)
    return box[..., :2] + box[..., 2:] * 0.5, box[..., 2:] * box.dtype.type(padding)


def fix_aspect(scale: NDArray, size: tuple[int, int]) -> NDArray:
    """The smallest crop of the input's aspect ratio that contains `scale` (w, h) [..., 2]; size is (height, width)."""
    aspect = size[1] / size[0]
    w, h = scale[..., 0], scale[..., 1]
    wide = w > h * aspect
    dtype = scale.dtype.type
    return np.stack([np.where(wide, w, h * dtype(aspect)), np.where(wide, w / dtype(aspect), h)], axis=-1)


def crop_of_box(box: ArrayLike, padding: float, size: tuple[int, int]) -> tuple[NDArray, NDArray]:
    """Centre and aspect-fixed size of the crops of boxes (x, y, w, h) [..., 4] for inputs of `size` (height, width)."""
    center, scale = box_to_center_scale(box, padding)
    return center, fix_aspect(scale, size)


def _third_point(a: NDArray, b: NDArray) -> NDArray:
    """`b` plus a - b turned by 90°: three points that are never on one line."""
    d = a - b
    return np.array([b[0] - d[1], b[1] + d[0]])


def warp_matrix(center: NDArray, scale: NDArray, rotation: float, size: tuple[int, int]) -> NDArray[np.float64]:
    """Affine map [2, 3] from image to input pixels of the crop with aspect-fixed `scale`, turned by `rotation` degrees.

    The corresponding points pass through float32, as in the published code; the error is about 1e-7 relative.
    """
    height, width = size
    radians = math.radians(rotation)
    source = np.zeros((3, 2), np.float32)
    target = np.zeros((3, 2), np.float32)
    source[0] = center
    source[1] = center + np.array([math.sin(radians), -math.cos(radians)]) * (scale[0] * 0.5)
    source[2] = _third_point(source[0], source[1])
    target[0] = (width * 0.5, height * 0.5)
    target[1] = (width * 0.5, height * 0.5 - width * 0.5)
    target[2] = _third_point(target[0], target[1])
    return np.asarray(cv2.getAffineTransform(source, target), np.float64)


def transform_points(points: NDArray, matrix: NDArray) -> NDArray:
    """Apply an affine map [2, 3] to points [..., 2]."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def input_to_image(points: NDArray, center: NDArray, scale: NDArray, size: tuple[int, int]) -> NDArray:
    """Input pixels [..., 2] → image pixels for an unrotated crop with aspect-fixed `scale` (w, h); broadcasts."""
    height, width = size
    return points / np.array([width, height], np.float64) * scale + center - 0.5 * scale


def warp_image(image: NDArray[np.uint8], matrix: NDArray, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The input picture [H, W, 3]: bilinear, black outside the image, as published."""
    return cv2.warpAffine(image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def flip_points(keypoints: NDArray, width: float) -> NDArray:
    """Keypoints [133, 2 or 3] of the mirrored picture of `width` pixels: x → width - 1 - x, left and right swapped."""
    flipped = keypoints[FLIP_INDICES]  # a copy
    flipped[:, 0] = width - 1 - flipped[:, 0]
    return flipped


def half_body_box(keypoints: NDArray, indices: ArrayLike) -> tuple[NDArray, NDArray]:
    """Centre (mean of the keypoints) and padded size of the box around keypoints[indices]; keypoints [133, 2]."""
    chosen = keypoints[np.asarray(indices)]
    center = chosen.mean(axis=0)
    return center, (chosen.max(axis=0) - chosen.min(axis=0)) * HALF_BODY_PADDING


@dataclass(frozen=True)
class HalfBody:
    """What half-body can choose for one person: labelled keypoints of the upper and of the lower body."""

    upper: tuple[int, ...]
    lower: tuple[int, ...]

    def choose(self, prefer_upper: bool) -> tuple[int, ...] | None:
        """The half that is taken; None if neither has enough keypoints."""
        enough_upper = len(self.upper) >= HALF_BODY_MIN_UPPER
        enough_lower = len(self.lower) >= HALF_BODY_MIN_LOWER
        if not enough_upper and not enough_lower:
            return None
        if not enough_lower:
            return self.upper
        if not enough_upper:
            return self.lower
        return self.upper if prefer_upper else self.lower


def half_body_choices(visible: NDArray) -> HalfBody | None:
    """Half-body candidates of a person from visibility [133]; None with fewer than 9 labelled keypoints."""
    if int(np.count_nonzero(visible > 0)) < HALF_BODY_MIN_KEYPOINTS:
        return None
    labelled = visible[: LOWER_BODY[-1] + 1].tolist()
    return HalfBody(tuple(i for i in UPPER_BODY if labelled[i] > 0), tuple(i for i in LOWER_BODY if labelled[i] > 0))


def truncated_normal(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """`n` draws of the standard normal restricted to [-1, 1], by rejection (accepts 68 %)."""
    draws = rng.standard_normal(n)
    outside = np.abs(draws) > 1
    while outside.any():
        draws[outside] = rng.standard_normal(int(outside.sum()))
        outside = np.abs(draws) > 1
    return draws


def label_sigma(size: tuple[int, int]) -> tuple[float, float]:
    """Standard deviation (x, y) in SimCC bins of the label distributions: sqrt(side / 8), two decimals.

    (4.9, 5.66) at 256x192 and (6.0, 6.93) at 384x288, the published values.
    """
    return round(math.sqrt(size[1] / 8), 2), round(math.sqrt(size[0] / 8), 2)


def label_range(size: tuple[int, int], split: float = 2.0) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bins (low, high) of x and of y with a label, low <= bin < high: cut at 3 sigma, it meets the input.

    A keypoint a few pixels outside therefore still counts, as in the published codec.
    """
    (x, y), (height, width) = label_sigma(size), size
    return (-3 * x - 1, width * split + 3 * x), (-3 * y - 1, height * split + 3 * y)


def in_frame(keypoints: NDArray, size: tuple[int, int], split: float = 2.0) -> NDArray[np.bool_]:
    """Which keypoints [..., 2] (input pixels) carry a label, see `label_range`."""
    bins = np.rint(keypoints * split)
    low, high = _label_limits(size, split)
    inside = (bins >= low) & (bins < high)
    return inside[..., 0] & inside[..., 1]


@lru_cache(maxsize=16)
def _label_limits(size: tuple[int, int], split: float) -> tuple[NDArray, NDArray]:
    low, high = np.transpose(label_range(size, split))
    return low, high
