"""Which part of a picture a training crop keeps, and at which resolution.

The stores do not depend on the augmentation settings: a crop covers everything that any augmentation within `LIMITS`
can look at, so that changing a probability or a range does not mean preparing 150,000 persons again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from posedistill.data import geometry
from posedistill.errors import UserError
from posedistill.params import Augment
from posedistill.sources.person import Person


@dataclass(frozen=True)
class Limits:
    """The strongest augmentation that the stored crops serve: the widest of all published rows."""

    box_padding: float = 1.25
    shift: float = 0.16
    scale_min: float = 0.5
    scale_max: float = 1.5

    def check(self, augment: Augment, where: str) -> None:
        """UserError if `augment` needs more than the crops hold (rotations and flips are always served)."""
        needed = (
            ("box_padding", augment.box_padding, self.box_padding),
            ("shift", augment.shift if augment.shift_p > 0 else 0.0, self.shift),
            ("scale", augment.scale[1], self.scale_max),
        )
        for name, found, limit in needed:
            if found > limit + 1e-9:
                raise UserError(f"{where}.{name}: {found:g} goes beyond the prepared crops, allowed: up to {limit:g}")
        # a narrower box magnifies, too; half bodies have a padding of their own
        least = self.scale_min * max(1.0, self.box_padding / augment.box_padding)
        if augment.scale[0] < least - 1e-9:
            with_padding = f" with a box_padding of {augment.box_padding:g}" if least > self.scale_min else ""
            raise UserError(
                f"{where}.scale: {augment.scale[0]:g}{with_padding} magnifies beyond the prepared crops, "
                f"allowed: from {least:g}"
            )


LIMITS = Limits()
SPARE = 1.05  # resolution kept beyond the largest magnification
MARGIN = 2  # pixels for the interpolation
LONGEST = 65_000  # pixels a side: a JPEG holds no more


@dataclass(frozen=True)
class CropPlan:
    """The rectangle x0 <= x < x1, y0 <= y < y1 of the picture, stored at `width` x `height` pixels."""

    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    height: int

    @property
    def factor(self) -> tuple[float, float]:
        """Stored pixels per image pixel, x and y; at most 1."""
        return self.width / (self.x1 - self.x0), self.height / (self.y1 - self.y0)


def plan(
    person: Person,
    labels: NDArray[np.float32],
    image_size: tuple[int, int],
    size: tuple[int, int],
    teacher_height: int = 0,
) -> CropPlan:
    """The crop of a person for model input `size`; image_size is (height, width) of the picture, labels [133, 3].

    The pixels suffice for the strongest magnification of that input, and for an unmagnified one of `teacher_height`.
    """
    pixels = max(size[0] / LIMITS.scale_min, teacher_height)  # of the height of the unmagnified view
    center, scale = geometry.box_to_center_scale(person.box.astype(np.float64), LIMITS.box_padding)
    views = [(center, scale)]
    halves = geometry.half_body_choices(labels[:, 2])
    if halves:
        for prefer_upper in (True, False):
            chosen = halves.choose(prefer_upper)
            if chosen:
                views.append(geometry.half_body_box(labels[:, :2].astype(np.float64), chosen))
    low, high, magnification = np.full(2, np.inf), np.full(2, -np.inf), 0.0
    for center, scale in views:
        fixed = geometry.fix_aspect(scale, size)
        # turned by any angle up to 90 degrees, the crop stays within the circle through its corners
        reach = LIMITS.scale_max * math.hypot(*fixed) / 2 + LIMITS.shift * scale + MARGIN
        low, high = np.minimum(low, center - reach), np.maximum(high, center + reach)
        magnification = max(magnification, pixels / max(float(fixed[1]), 1e-6))
    height, width = image_size
    x0, y0 = (int(value) for value in np.clip(np.floor(low), 0, [width - 1, height - 1]))
    x1, y1 = (int(value) for value in np.clip(np.ceil(high), [x0 + 1, y0 + 1], [width, height]))
    factor = min(1.0, magnification * SPARE, LONGEST / (x1 - x0), LONGEST / (y1 - y0))
    return CropPlan(x0, y0, x1, y1, max(1, math.ceil((x1 - x0) * factor)), max(1, math.ceil((y1 - y0) * factor)))


def cut(image: NDArray[np.uint8], crop: CropPlan) -> NDArray[np.uint8]:
    """The pixels of a plan: area-filtered where it is smaller than the picture, never enlarged."""
    pixels = image[crop.y0 : crop.y1, crop.x0 : crop.x1]
    if pixels.shape[:2] != (crop.height, crop.width):
        pixels = cv2.resize(pixels, (crop.width, crop.height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return np.ascontiguousarray(pixels)


def to_crop(points: NDArray, crop: CropPlan) -> NDArray:
    """Image pixels [..., 2] → stored pixels (pixel centres at whole numbers in both)."""
    factor = np.array(crop.factor)
    return (points - np.array([crop.x0, crop.y0]) + 0.5) * factor - 0.5
