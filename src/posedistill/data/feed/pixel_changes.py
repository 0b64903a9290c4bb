"""Changes of a training sample's pixels, by OpenCV: the arithmetic of the published pipeline.

The changes of a sample are one float32 vector [9], drawn by `augment.draw_changes`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

HSV = slice(0, 3)  # whole-number gains of OpenCV's hue (0-179), saturation and value (0-255)
BLUR = 3  # kernel side of the box blur: 0 (none), 3, 5 or 7
MEDIAN_BLUR = 4  # kernel side of the median blur: 0, 3, 5 or 7
DROPOUT = slice(5, 9)  # rectangle x0, y0, x1, y1 that is set to black; empty if x0 = x1
CHANGES_LENGTH = 9
BLUR_SIDES = (3, 5, 7)


def enlarged(changes: Tensor, factor: float) -> Tensor:
    """The changes [B, 9] for the same views at `factor` times the size: the dropout covers the same part of them. The
    sides of blurs count pixels of either."""
    changes = changes.clone()
    changes[:, DROPOUT] = (changes[:, DROPOUT] * factor).round()
    return changes


def apply(images: NDArray[np.uint8], changes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour jitter, both blurs and dropout of [B, H, W, 3] RGB by changes [B, 9]; returns new pixels."""
    out = np.empty_like(images)
    for image, drawn, target in zip(images, changes, out):
        target[:] = blur(jitter(image, drawn), drawn)
        x0, y0, x1, y1 = drawn[DROPOUT].astype(int)
        target[y0:y1, x0:x1] = 0
    return out


def jitter(image: NDArray[np.uint8], changes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """OpenCV's 8-bit HSV with the gains added: hue modulo 180, the others clipped."""
    gains = changes[HSV].astype(np.int16)
    if not gains.any():
        return image
    levels = np.arange(256)
    table = np.empty((1, 256, 3), np.uint8)
    table[0, :, 0] = (levels + gains[0]) % 180
    table[0, :, 1] = np.clip(levels + gains[1], 0, 255)
    table[0, :, 2] = np.clip(levels + gains[2], 0, 255)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def blur(image: NDArray[np.uint8], changes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Box blur, then median blur, where the changes contain them."""
    if changes[BLUR] > 0:
        image = cv2.blur(image, (int(changes[BLUR]), int(changes[BLUR])))  # type: ignore[assignment]
    if changes[MEDIAN_BLUR] > 0:
        image = cv2.medianBlur(np.ascontiguousarray(image), int(changes[MEDIAN_BLUR]))  # type: ignore[assignment]
    return image


def apply_median(image: NDArray[np.uint8], changes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """For a sample with a median blur: do it, with what comes before it, and clear both in `changes`.

    Workers that feed a GPU do this: a median of 49 neighbours is slow in batched tensor code and fast in OpenCV, and
    one sample in ten needs it.
    """
    if changes[MEDIAN_BLUR] > 0:
        image = blur(jitter(image, changes), changes)
        changes[HSV] = changes[BLUR] = changes[MEDIAN_BLUR] = 0
    return image
