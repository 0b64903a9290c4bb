"""The steps of each axis: one person, one change, and what it measures on the rendered truth.

Every point inside the picture counts, hidden ones included, since the renderer knows them: the same points are judged
at all steps of an axis, except those that leave the picture. The tolerance of OKS follows the person's size in
the reference picture (times the zoom squared) rather than what is seen of it, so a curve falls because points move.
Visibility (2 seen, 1 hidden, 0 outside) is that of training labels, and the box is the exact one of the visible pixels,
as in training labels, unless the box is what changes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from posedistill.keypoints import PARTS
from posedistill.stress.sitters import (
    DIRECTION,
    NEIGHBOUR,
    NOISE,
    OUTFIT,
    PICTURE,
    THING,
    Sitter,
    moved,
    place,
    sample_person,
    stream,
    to_jpeg,
)
from posedistill.synthetic.background import clouds
from posedistill.synthetic.camera import Camera
from posedistill.synthetic.generate import QUALITY
from posedistill.synthetic.sampling import random_colour
from posedistill.synthetic.scene import Placed, RenderedPerson, mask_box

HIPS = (11, 12)
BEHIND = 0.4  # metres by which the second person stands further away
FRAMES = 6  # of a still person, whose noise alone changes


@dataclass(frozen=True)
class Shot:
    """A picture, its truth, and the box that the model is given."""

    jpeg: bytes
    keypoints: np.ndarray  # float64 [133, 3]: x, y in pixels; 2 seen, 1 hidden, 0 outside the picture
    box: tuple[float, float, float, float]  # x, y, width, height
    area: float  # pixels, for OKS
    value: float  # of the axis, measured on the truth

    def picture(self) -> np.ndarray:
        """The decoded picture, uint8 RGB [H, W, 3]."""
        with Image.open(io.BytesIO(self.jpeg)) as image:
            return np.asarray(image.convert("RGB"))


@dataclass(frozen=True)
class Axis:
    """One property that changes; `neutral` is the step whose picture is the reference picture of all axes."""

    title: str
    unit: str
    steps: tuple[float, ...]
    neutral: float
    shoot: Callable[[Sitter, float], Shot]
    cyclic: bool = False  # degrees
    log: bool = False  # drawn and interpolated over the logarithm

    @property
    def middle(self) -> int:
        """The neutral step's place."""
        return self.steps.index(self.neutral)


def reference(sitter: Sitter, value: float = 0.0) -> Shot:
    """The picture that all axes share, with `value` as its value on the axis."""
    return _shot(sitter, sitter.picture, sitter.seen, value)


def view(sitter: Sitter, degrees: float) -> Shot:
    """The person turned in front of the camera. Value: the turn of the line through the hips, degrees."""
    placed = sitter.turned(degrees)
    angles = [np.arctan2(*(p.keypoints[HIPS[0]] - p.keypoints[HIPS[1]])[1::-1]) for p in (placed, sitter.placed)]
    return _render(sitter, [placed], sitter.camera(), float(np.rad2deg(angles[0] - angles[1])) % 360)


def roll(sitter: Sitter, degrees: float) -> Shot:
    """Camera, person and background turned about the picture's middle. Value: the turn of the keypoints, degrees."""
    shaded, (seen,) = sitter.studio.shoot(
        [sitter.placed], sitter.camera(roll=degrees), sitter.behind(degrees), sitter.light
    )
    both = (seen.keypoints[:, 2] > 0) & (sitter.seen.keypoints[:, 2] > 0)
    a, b = (person.keypoints[both, :2] - PICTURE / 2 for person in (sitter.seen, seen))
    turn = np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum())
    return _shot(sitter, sitter.develop(shaded), seen, float(np.rad2deg(turn)) % 360)


def cut(sitter: Sitter, share: float) -> Shot:
    """The picture cropped from below, the right, above or the left (persons in turn). Value: share of the body's pixels
    that is cut."""
    side = sitter.index % 4  # the crop is turned so that it is always from below
    mask, picture = (np.rot90(a, -side) for a in (sitter.seen.mask, sitter.picture))
    rows = mask.reshape(PICTURE, 2, -1).sum(axis=(1, 2))
    gone = np.concatenate(([0], rows[::-1].cumsum())) / rows.sum()  # share below, when k rows are cut off
    keep = PICTURE - int(np.abs(gone - share).argmin()) if share else PICTURE
    mask, picture = (np.rot90(a, side) for a in (mask[: 2 * keep], picture[:keep]))
    start = np.array([PICTURE - keep if side == 3 else 0, PICTURE - keep if side == 2 else 0])
    height, width = picture.shape[:2]
    keypoints = sitter.seen.keypoints.copy()
    keypoints[:, :2] -= start
    x, y, _ = keypoints.T
    keypoints[(x < 0) | (x >= width) | (y < 0) | (y >= height) | (sitter.seen.keypoints[:, 2] == 0)] = 0
    seen = replace(sitter.seen, keypoints=keypoints, mask=mask, box=mask_box(mask))
    return _shot(sitter, np.ascontiguousarray(picture), seen, 1 - float(mask.sum() / sitter.seen.mask.sum()))


def occluded(sitter: Sitter, share: float) -> Shot:
    """A flat rectangle in front, grown from a place on the body. Value: share of the body's pixels that it hides."""
    mask, rng = sitter.seen.mask, stream(sitter.seed, sitter.index, THING)
    where, narrow, colour = rng.random(), rng.uniform(0.6, 1.6), random_colour(rng, 0.1, 1)
    ramp = (0.6 + 0.5 * clouds(rng, PICTURE, PICTURE, 4)[..., None].astype(np.float32) / 255) * colour
    rows, columns = np.nonzero(mask)
    centre = int(where * len(rows))
    y, x = np.indices(mask.shape)
    size = np.maximum(np.abs(x - columns[centre]) * narrow, np.abs(y - rows[centre]))
    sizes = np.sort(size[mask])
    count = round(share * len(sizes))
    thing = (size <= sizes[count - 1]) if count else np.zeros_like(mask)
    front = thing, ramp.clip(0, 1).astype(np.float32), sitter.distance - sitter.radius - 0.1
    shaded, (seen,) = sitter.studio.shoot([sitter.placed], sitter.camera(), sitter.behind(), sitter.light, front)
    return _shot(sitter, sitter.develop(shaded), seen, 1 - float(seen.mask.sum() / mask.sum()))


def size(sitter: Sitter, zoom: float) -> Shot:
    """A shorter focal length: the person gets smaller in the middle. Value: longer side of the box, pixels."""
    shot = _render(sitter, [sitter.placed], sitter.camera(zoom=zoom), zoom=zoom)
    return replace(shot, value=max(shot.box[2:]))


def hand(sitter: Sitter, zoom: float) -> Shot:
    """Zoomed on the more visible hand, which stays in place; the picture cuts off what leaves it. Value: longer side of
    this hand's points, pixels."""
    points = sitter.seen.keypoints
    part = max((PARTS["righthand"], PARTS["lefthand"]), key=lambda one: (points[one, 2] == 2).sum())
    low, high = points[part, :2].min(axis=0), points[part, :2].max(axis=0)
    camera = sitter.camera(zoom=zoom, fixed=(low + high) / 2)
    shot = _render(sitter, [sitter.placed], camera, zoom=zoom)
    return replace(shot, value=float(np.ptp(camera.project(sitter.placed.keypoints)[0][part], axis=0).max()))


def blur(sitter: Sitter, sigma: float) -> Shot:
    """Out of focus. Value: sigma of the Gaussian, pixels."""
    return _shot(sitter, sitter.develop(sitter.shaded, blur=sigma), sitter.seen, sigma)


def jpeg(sitter: Sitter, quality: float) -> Shot:
    """Compressed more. Value: JPEG quality."""
    shot = reference(sitter, quality)
    return replace(shot, jpeg=to_jpeg(sitter.picture, int(quality)))


def darkness(sitter: Sitter, stops: float) -> Shot:
    """Exposed less, with the same noise. Value: stops (factors of two)."""
    return _shot(sitter, sitter.develop(sitter.shaded, exposure=2.0**-stops), sitter.seen, stops)


def box_shift(sitter: Sitter, share: float) -> Shot:
    """The given box beside the true one, in a random direction per person. Value: shift divided by the box's size."""
    angle = stream(sitter.seed, sitter.index, DIRECTION).uniform(0, 2 * np.pi)
    x, y, w, h = sitter.seen.box
    shifted = (x + share * w * float(np.cos(angle)), y + share * h * float(np.sin(angle)))
    value = float(np.hypot((shifted[0] - x) / w, (shifted[1] - y) / h))
    return replace(reference(sitter, value), box=(*shifted, w, h))


def box_scale(sitter: Sitter, factor: float) -> Shot:
    """The given box larger or smaller about its middle. Value: its width over the true one's."""
    x, y, w, h = sitter.seen.box
    box = (x - (factor - 1) / 2 * w, y - (factor - 1) / 2 * h, factor * w, factor * h)
    return replace(reference(sitter, box[2] / w), box=box)


def crowding(sitter: Sitter, metres: float) -> Shot:
    """A second person a little behind, to the left or right in turn. Value: sideways distance of the hips' middles in
    metres; infinite: nobody."""
    if np.isinf(metres):
        return reference(sitter, metres)
    rng = stream(sitter.seed, sitter.index, NEIGHBOUR)
    rest, pose = sample_person(sitter.studio, rng)
    outfit = stream(sitter.seed, sitter.index, OUTFIT, 1)
    other = place(sitter.studio, rest, pose, outfit, float(np.clip(rng.normal(0, 30), -80, 80)))
    side = 1 if sitter.index % 2 else -1
    hips = [p.keypoints[list(HIPS)].mean(axis=0) for p in (sitter.placed, other)]
    floors = [min(part[:, 2].min() for part in p.dressed.vertices) for p in (sitter.placed, other)]
    shift = np.array([hips[0][0] - hips[1][0] + side * metres, BEHIND, floors[0] - floors[1]])
    other = moved(other, shift)
    value = abs(float(other.keypoints[list(HIPS), 0].mean() - hips[0][0]))
    return _render(sitter, [sitter.placed, other], sitter.camera(), value)


def noise(sitter: Sitter, strength: float, frame: int = 0) -> Shot:
    """More noise of the sensor. Value: its standard deviation, share of white."""
    picture = sitter.develop(sitter.shaded, noise=strength, frame=frame)
    return _shot(sitter, picture, sitter.seen, strength)


AXES = {
    "view": Axis("view", "degrees around the body", tuple(range(0, 360, 30)), 0, view, cyclic=True),
    "roll": Axis("roll", "degrees clockwise", tuple(range(0, 360, 30)), 0, roll, cyclic=True),
    "cut": Axis("cut by the frame", "share of the body", (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), 0, cut),
    "occluded": Axis("occluded", "share of the body", (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), 0, occluded),
    "size": Axis(
        "size of the person", "pixels, longer side", (0.07, 0.1, 0.14, 0.2, 0.3, 0.45, 0.7, 1), 1, size, log=True
    ),
    "hand": Axis("size of the hand", "pixels, longer side", (0.35, 0.6, 1, 1.5, 2, 3, 4.5), 1, hand, log=True),
    "blur": Axis("blur", "sigma, pixels", (0, 1, 2, 3, 4, 6, 8, 12), 0, blur),
    "jpeg": Axis("JPEG quality", "libjpeg's scale", (2, 5, 10, 20, 35, 60, QUALITY), QUALITY, jpeg, log=True),
    "darkness": Axis("darkness", "stops", (0, 1, 2, 3, 4, 5, 6), 0, darkness),
    "noise": Axis("noise", "share of white", (NOISE, 0.02, 0.04, 0.08, 0.16), NOISE, noise, log=True),
    "shift": Axis("shift of the box", "share of its size", (0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5), 0, box_shift),
    "scale": Axis(
        "scale of the box", "factor", (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.15, 1.35, 1.6, 2, 2.5), 1, box_scale, log=True
    ),
    "crowding": Axis(
        "a second person", "metres beside", (0.2, 0.3, 0.4, 0.5, 0.65, 0.85, 1.1, np.inf), np.inf, crowding, log=True
    ),
}


def shots(sitter: Sitter, axis: Axis) -> list[Shot]:
    """One shot per step; the neutral one is the reference picture, drawn once."""
    return [axis.shoot(sitter, step) for step in axis.steps]


def still(sitter: Sitter, strength: float) -> list[Shot]:
    """The frames of a motionless person: only their noise differs; frame 0 is the step of the axis `noise`."""
    return [noise(sitter, strength, frame) for frame in range(FRAMES)]


def _render(sitter: Sitter, people: Sequence[Placed], camera: Camera, value: float = 0.0, zoom: float = 1.0) -> Shot:
    """The picture of `people` by another camera; the first of them is judged."""
    shaded, seen = sitter.studio.shoot(people, camera, sitter.behind(), sitter.light)
    return _shot(sitter, sitter.develop(shaded), seen[0], value, zoom)


def _shot(sitter: Sitter, picture: np.ndarray, seen: RenderedPerson, value: float, zoom: float = 1.0) -> Shot:
    return Shot(to_jpeg(picture), seen.keypoints, seen.box, sitter.seen.area * zoom**2, value)
