"""Training samples, the worker's part: one affine warp from the stored crop to the uint8 input.

Crop, flip, half-body, shift, scale and rotation become one matrix, applied once to the decoded part of the crop that it
looks at. Colour, blur, median blur and dropout are only drawn here (every random number of a sample comes from one
generator) and applied by `device_augment`, batched. The distributions are those of the published pipeline: RandomFlip,
RandomHalfBody, RandomBBoxTransform, TopdownAffine, YOLOXHSVRandomAug, Blur, MedianBlur, CoarseDropout, in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from posedistill.data import geometry
from posedistill.data.feed.pixel_changes import BLUR, BLUR_SIDES, CHANGES_LENGTH, DROPOUT, MEDIAN_BLUR
from posedistill.data.store import jpeg
from posedistill.data.store.arrow import TrainRecord
from posedistill.data.store.crops import MARGIN
from posedistill.params import Augment, Input

HSV_GAINS = (5, 30, 30)


class Sample(NamedTuple):
    """A training sample before the device part.

    image: uint8 [H, W, 3] RGB. keypoints: float32 [133, 3], input pixels; third value 1 where a label counts, else 0.
    changes: float32 [9]. matrix: float64 [2, 3], crop → input pixels (right-angled up to the flip). teacher_image: the
    same view at the teacher's size, where that is another.
    """

    image: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    changes: NDArray[np.float32]
    matrix: NDArray[np.float64]
    teacher_image: NDArray[np.uint8] | None = None


class View(NamedTuple):
    """What the random numbers chose for the geometry of one sample, in pixels of the (perhaps mirrored) picture."""

    flip: bool
    center: NDArray[np.float64]
    scale: NDArray[np.float64]  # aspect fixed
    rotation: float


def draw_view(
    keypoints: NDArray, box: NDArray, augment: Augment, size: tuple[int, int], rng: np.random.Generator
) -> tuple[View, NDArray]:
    """Draw flip, half-body and box transform. keypoints [133, 3] and box (x, y, w, h) share any pixel coordinates.

    Returns the view and the keypoints of the picture it looks at: mirrored about x = 0 where it is a flip.
    """
    chance = rng.random(3)
    flip = bool(chance[0] < augment.flip)
    center, scale = geometry.box_to_center_scale(box.astype(np.float64), augment.box_padding)
    if flip:
        keypoints = geometry.flip_points(keypoints, 1.0)
        center = np.array([-center[0], center[1]])
    if chance[1] <= augment.half_body and augment.half_body > 0:
        halves = geometry.half_body_choices(keypoints[:, 2])
        chosen = halves.choose(bool(chance[2] < geometry.PREFER_UPPER)) if halves else None
        if chosen:
            center, scale = geometry.half_body_box(keypoints[:, :2], chosen)
    shift, factor, rotation = draw_box_jitter(augment, rng)
    center = center + shift * scale
    scale = np.maximum(scale * factor, 1e-3)  # half-body of points on one spot
    return View(flip, center, geometry.fix_aspect(scale, size), rotation), keypoints


def draw_box_jitter(augment: Augment, rng: np.random.Generator) -> tuple[NDArray[np.float64], float, float]:
    """Draw the random box transform: shift (x, y) in shares of the padded box, factor of its size, degrees.

    All are truncated normals on [-1, 1], stretched to the ranges of `augment`.
    """
    x, y, factor, angle = geometry.truncated_normal(rng, 4).tolist()
    shift_chance, rotation_chance = rng.random(2).tolist()
    low, high = augment.scale
    shift = np.array([x, y]) * augment.shift if shift_chance < augment.shift_p else np.zeros(2)
    rotation = angle * augment.rotation if rotation_chance < augment.rotation_p else 0.0
    return shift, factor * (high - low) / 2 + (high + low) / 2, rotation


def draw_changes(augment: Augment, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw what happens to the pixels of a sample of input `size` (height, width): float32 [9], see `pixel_changes`."""
    changes = np.zeros(CHANGES_LENGTH, np.float32)
    u = rng.random(15)
    if augment.hsv:
        for channel, limit in enumerate(HSV_GAINS):
            if u[channel] < 0.5:
                changes[channel] = int((2 * u[3 + channel] - 1) * limit)  # towards zero, as the published int16 cast
    if u[6] < augment.blur_p:
        changes[BLUR] = BLUR_SIDES[int(u[7] * 3)]
    if u[8] < augment.median_blur_p:
        changes[MEDIAN_BLUR] = BLUR_SIDES[int(u[9] * 3)]
    if u[10] < augment.dropout_p:
        low, high = augment.dropout_size
        height = int(size[0] * (low + (high - low) * u[11]))
        width = int(size[1] * (low + (high - low) * u[12]))
        y0, x0 = int(u[13] * (size[0] - height + 1)), int(u[14] * (size[1] - width + 1))
        changes[DROPOUT] = (x0, y0, x0 + width, y0 + height)
    return changes


def sample_train(
    record: TrainRecord, augment: Augment, input: Input, rng: np.random.Generator, teacher: Input | None = None
) -> Sample:
    """Draw one training sample of a stored person; with `teacher`, also its view for an input of that size."""
    size = input.size
    # geometry happens in picture pixels (offset by the crop's origin), where it is isotropic
    factor = record.factor
    keypoints = record.keypoints.astype(np.float64)
    box = record.box.astype(np.float64)
    if factor[0] != 1 or factor[1] != 1:
        keypoints[:, :2] = (keypoints[:, :2] + 0.5) / factor - 0.5
        box = np.concatenate([(box[:2] + 0.5) / factor - 0.5, box[2:] / factor])
    view, keypoints = draw_view(keypoints, box, augment, size, rng)
    matrix = geometry.warp_matrix(view.center, view.scale, view.rotation, size)
    moved = keypoints.astype(np.float32)
    moved[:, :2] = geometry.transform_points(keypoints[:, :2], matrix)
    moved[:, 2] *= geometry.in_frame(moved[:, :2], size)
    moved[moved[:, 2] == 0] = 0
    matrix = _from_crop(matrix, view.flip, factor)
    changes = draw_changes(augment, size, rng)
    if teacher is None:
        return Sample(view_of(record, matrix, size), moved, changes, matrix)
    image, teacher_image = views_of(record, matrix, (size, teacher.size))
    return Sample(image, moved, changes, matrix, teacher_image)


def _from_crop(matrix: NDArray, flip: bool, factor: NDArray) -> NDArray[np.float64]:
    """`matrix` maps (mirrored) picture pixels to the input; the same from the crop's pixels."""
    turned = matrix.copy()
    if flip:
        turned[:, 0] = -turned[:, 0]  # x → -x, as flip_points with a width of 1
    if factor[0] != 1 or factor[1] != 1:
        turned[:, 2] += turned[:, :2] @ (0.5 / factor - 0.5)
        turned[:, :2] /= factor
    return turned


def visible_part(matrix: NDArray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part (x0, y0, x1, y1) of the crop that an input of `size` shows under `matrix` (crop → input)."""
    height, width = size
    (a, b, x), (c, d, y) = matrix.tolist()
    determinant = a * d - b * c
    corners = [(-1 - x, -1 - y), (width - x, -1 - y), (-1 - x, height - y), (width - x, height - y)]
    across = [(d * u - b * v) / determinant for u, v in corners]
    down = [(a * v - c * u) / determinant for u, v in corners]
    return min(across) - MARGIN, min(down) - MARGIN, max(across) + MARGIN, max(down) + MARGIN


def view_of(record: TrainRecord, matrix: NDArray, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The input picture [H, W, 3]: decodes the part of the crop that `matrix` (crop → input) shows, and warps it."""
    return views_of(record, matrix, (size,))[0]


def views_of(record: TrainRecord, matrix: NDArray, sizes: Sequence[tuple[int, int]]) -> list[NDArray[np.uint8]]:
    """The same at several sizes of one aspect ratio, from one decoding; `matrix` leads to the first of them."""
    box = visible_part(matrix, sizes[0])
    if box[2] < 0 or box[3] < 0 or box[0] >= record.width or box[1] >= record.height:
        return [np.zeros((height, width, 3), np.uint8) for height, width in sizes]  # entirely outside the picture
    pixels, x, y = jpeg.decode(record.jpeg, record.segments, record.width, record.height, box)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ np.array([x, y], np.float64)
    # Positions in an input are shares of it: see geometry.input_to_image.
    return [_warp(pixels, moved * (size[0] / sizes[0][0]), size) for size in sizes]


def _warp(pixels: NDArray[np.uint8], matrix: NDArray, size: tuple[int, int]) -> NDArray[np.uint8]:
    """`geometry.warp_image` to the bit, by way of four channels, where OpenCV takes half as long as with three.

    Worth it for parts not much larger than the input, since all of the part is converted.
    """
    four = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(four, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR)
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)  # type: ignore[return-value]
