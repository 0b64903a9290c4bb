"""The persons of the card: each one posed, dressed, lit and photographed once; every step starts from that picture.

World, camera and keypoints as in `synthetic`. The reference picture shows the whole person, who faces the camera, in
the middle of a square; a sphere around the person fits into it, so that any turn and roll leaves the person in frame.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from PIL import Image

from posedistill.synthetic.background import background, blurred
from posedistill.synthetic.body import Rest
from posedistill.synthetic.camera import Camera
from posedistill.synthetic.generate import QUALITY
from posedistill.synthetic.poses import Pose, sample_pose, turn_about_vertical
from posedistill.synthetic.sampling import Rng, pick, rotation
from posedistill.synthetic.scene import Placed, RenderedPerson, Studio, sample_light
from posedistill.synthetic.shapes import sample_expression, sample_phenotype

PICTURE = 320  # pixels, both sides
WIDE = 456  # the background's side: its middle fills the picture at any roll
VIEW = 34.0  # degrees, the camera's field of view
FILL = 0.9  # share of the picture that the sphere around a person fills
NOISE = 0.009  # standard deviation of the sensor's noise, share of white: the middle of the training pictures' range
MODES = {"stand": 0.2, "gesture": 0.3, "arms_up": 0.15, "walk": 0.15, "hands_face": 0.12, "free": 0.08}
LEVEL = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # world → camera: looks along +y at the person's face

# what a stream of random numbers is for; training pictures use none of them
PERSON, OUTFIT, SCENE, DIRECTION, THING, NEIGHBOUR, SENSOR = range(1, 8)


def stream(seed: int, person: int, purpose: int, number: int = 0) -> Rng:
    """The random numbers for one purpose: the same in all steps and for all models."""
    return np.random.default_rng([seed, person, purpose, number])


@dataclass(frozen=True)
class Sitter:
    """One person of the card and the reference picture."""

    studio: Studio
    seed: int
    index: int
    rest: Rest
    pose: Pose
    placed: Placed  # facing the camera, the body's middle at the origin
    radius: float  # of the sphere around the person, metres
    distance: float  # of the camera, metres
    pitch: float  # of the camera, degrees
    light: np.ndarray
    wide: np.ndarray  # background, float32 [WIDE, WIDE, 3]
    shaded: np.ndarray  # reference picture, linear colours [PICTURE, PICTURE, 3]
    seen: RenderedPerson  # its labels

    @cached_property
    def picture(self) -> np.ndarray:
        """The reference picture, uint8 [PICTURE, PICTURE, 3]."""
        return self.develop(self.shaded)

    def camera(self, roll: float = 0.0, zoom: float = 1.0, fixed: np.ndarray | None = None) -> Camera:
        """The reference's camera, rolled by `roll` degrees (the person turns clockwise in the picture), with `zoom`
        times the focal length; the pixel `fixed` (default: the middle) stays where it is."""
        return camera_at(self.distance, self.pitch, roll, zoom, fixed)

    def behind(self, roll: float = 0.0) -> np.ndarray:
        """The background, float32 [PICTURE, PICTURE, 3], rolled with the camera."""
        if not roll:
            return middle_of(self.wide)
        centre = ((WIDE - 1) / 2, (WIDE - 1) / 2)
        return middle_of(cv2.warpAffine(self.wide, cv2.getRotationMatrix2D(centre, -roll, 1.0), (WIDE, WIDE)))

    def turned(self, degrees: float) -> Placed:
        """The person turned about the vertical axis through the body's middle, in the same clothes."""
        return place(self.studio, self.rest, self.pose, stream(self.seed, self.index, OUTFIT), degrees)

    def develop(
        self, shaded: np.ndarray, *, exposure: float = 1.0, blur: float = 0.0, noise: float = NOISE, frame: int = 0
    ) -> np.ndarray:
        """Linear colours [H, W, 3] → a photograph, uint8: exposure, blur (sigma in pixels), the sensor's noise.

        The noise of a frame is the same in all pictures, so it does not tell steps apart.
        """
        light = ((shaded * exposure).clip(0, 1) * 65535 + 0.5).astype(np.uint16)
        picture = blurred(light, blur).astype(np.float32) / np.float32(65535)
        rng = stream(self.seed, self.index, SENSOR, frame)
        picture += np.float32(noise) * rng.standard_normal((*picture.shape[:2], 1), np.float32)
        return (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def make_sitter(studio: Studio, seed: int, index: int) -> Sitter:
    """Person number `index`: drawn like those of the training pictures, but upright, whole, and facing the camera."""
    rest, pose = sample_person(studio, stream(seed, index, PERSON))
    placed = place(studio, rest, pose, stream(seed, index, OUTFIT))
    radius = float(np.sqrt((np.concatenate(placed.dressed.vertices) ** 2).sum(axis=1).max()))
    reach = FILL / 2 * PICTURE / _focal()  # the sphere's radius over the length of its tangent
    distance = round(radius * float(np.sqrt(1 + 1 / reach**2)), 6)
    rng = stream(seed, index, SCENE)
    pitch = round(float(np.clip(rng.normal(6, 8), -15, 30)), 6)
    camera = camera_at(distance, pitch)
    light, wide = sample_light(rng, camera), background(rng, WIDE, WIDE)
    shaded, (seen,) = studio.shoot([placed], camera, middle_of(wide), light)
    return Sitter(studio, seed, index, rest, pose, placed, radius, distance, pitch, light, wide, shaded, seen)


def camera_at(
    distance: float, pitch: float, roll: float = 0.0, zoom: float = 1.0, fixed: np.ndarray | None = None
) -> Camera:
    """A camera that looks at the origin; see `Sitter.camera`."""
    middle = np.full(2, PICTURE / 2)
    fixed = middle if fixed is None else fixed
    matrix = rotation([0, 0, 1], roll) @ rotation([1, 0, 0], pitch) @ LEVEL
    x, y = (fixed + zoom * (middle - fixed)).tolist()
    return Camera(matrix.round(9), np.array([0, 0, distance]), zoom * _focal(), (x, y))


def middle_of(wide: np.ndarray) -> np.ndarray:
    """The part of a wide background that the picture shows."""
    edge = (WIDE - PICTURE) // 2
    return np.ascontiguousarray(wide[edge : edge + PICTURE, edge : edge + PICTURE])


def sample_person(studio: Studio, rng: Rng) -> tuple[Rest, Pose]:
    """A body and a pose."""
    phenotype = sample_phenotype(rng)
    rest = studio.body.rest(phenotype, sample_expression(rng))
    mode = pick(rng, list(MODES), list(MODES.values()))
    return rest, sample_pose(rng, studio.body, rest, studio.penetration, phenotype["weight"], mode, upright=True)


def place(studio: Studio, rest: Rest, pose: Pose, outfit: Rng, yaw: float = 0.0) -> Placed:
    """A person turned by `yaw` degrees, the body's middle at the origin."""
    posed = studio.body.skin(rest, turn_about_vertical(pose.transforms, yaw))
    skin = posed[: studio.body.skin_count]
    x, y, _ = skin.mean(axis=0).round(6)
    posed -= np.array([x, y, round(float(skin[:, 2].max() + skin[:, 2].min()) / 2, 6)])
    dressed = studio.tailor.dress(outfit, posed, pose.mode)
    return Placed(dressed, studio.body.keypoints(posed), rest.height, pose.mode, pose.depth)


def moved(placed: Placed, shift: np.ndarray) -> Placed:
    """The person at another place; shift [3] in metres."""
    dressed = replace(placed.dressed, vertices=[part + shift for part in placed.dressed.vertices])
    return replace(placed, dressed=dressed, keypoints=placed.keypoints + shift)


def to_jpeg(picture: np.ndarray, quality: int = QUALITY) -> bytes:
    """uint8 [H, W, 3] as JPEG without chroma subsampling; by default as training pictures are kept."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _focal() -> float:
    return round(PICTURE / (2 * float(np.tan(np.deg2rad(VIEW) / 2))), 6)
