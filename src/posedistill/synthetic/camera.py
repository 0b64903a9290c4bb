"""A camera that frames its subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posedistill.synthetic.sampling import Rng, rotation

NEAR = 0.05  # metres; nothing nearer is drawn


@dataclass(frozen=True)
class Camera:
    """Pinhole camera; its axes are x = right, y = down, z = forward."""

    rotation: np.ndarray  # [3, 3], world → camera
    shift: np.ndarray  # [3], metres, after the rotation
    focal: float  # pixels
    centre: tuple[float, float]  # pixels

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points [N, 3] in camera axes; term by term, so that every machine rounds alike."""
        x, y, z = points.T
        r, t = self.rotation, self.shift
        return np.stack([r[i, 0] * x + r[i, 1] * y + r[i, 2] * z + t[i] for i in range(3)], axis=1)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels float64 [N, 2] and 1/depth [N] (−1 nearer than 5 cm or behind) of world points [N, 3]."""
        q = self.to_camera(points)
        inverse = np.where(q[:, 2] > NEAR, 1 / np.maximum(q[:, 2], NEAR), -1.0)
        scale = inverse * self.focal
        return np.stack([q[:, 0] * scale + self.centre[0], q[:, 1] * scale + self.centre[1]], axis=1), inverse


def frame_subject(rng: Rng, subject: np.ndarray, width: int, height: int) -> Camera:
    """A slightly tilted camera whose picture the subject's points [N, 3] fill to 60–97 %, placed anywhere in it."""
    pitch, roll = float(np.clip(rng.normal(6, 11), -25, 45)), float(rng.normal(0, 4))
    focal = max(width, height) / (2 * np.tan(np.deg2rad(rng.uniform(22, 52)) / 2))
    # rows = camera axes in the world for a camera looking backwards along +y, at the person's face
    level = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    matrix = rotation([0, 0, 1], roll) @ rotation([1, 0, 0], pitch) @ level
    middle = (subject.max(axis=0) + subject.min(axis=0)) / 2
    q = ((subject - middle) @ matrix.T).round(6)
    fill, distance = rng.uniform(0.6, 0.97), 1.0
    for _ in range(8):  # nearest distance at which the subject fills its share of the picture
        z = q[:, 2] + distance
        excess = max(np.ptp(q[:, 0] / z) / width, np.ptp(q[:, 1] / z) / height) * focal / fill
        distance = max(distance * excess, 0.25 - q[:, 2].min())
    z = q[:, 2] + distance
    u, v = q[:, 0] / z * focal, q[:, 1] / z * focal
    centre = []
    for values, size in ((u, width), (v, height)):
        room = max(0.0, size - np.ptp(values))
        centre.append(round(float(size / 2 - (values.max() + values.min()) / 2 + rng.uniform(-0.5, 0.5) * room), 6))
    shift = -matrix @ middle + np.array([0, 0, distance])
    return Camera(matrix.round(9), shift.round(6), round(float(focal), 6), (centre[0], centre[1]))
