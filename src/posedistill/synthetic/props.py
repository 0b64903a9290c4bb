"""Seats for people who sit: a box, sometimes with a backrest."""

from __future__ import annotations

import numpy as np

from posedistill.synthetic.dress import PLAIN, Dressed
from posedistill.synthetic.sampling import Rng, pick, random_colour
from posedistill.synthetic.wardrobe import CLOTH

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
# the six sides of a box as corner indices, counter-clockwise from outside, each with its outward axis
SIDES = (
    ((0, 1, 3, 2), (-1, 0, 0)),
    ((4, 6, 7, 5), (1, 0, 0)),
    ((0, 4, 5, 1), (0, -1, 0)),
    ((2, 3, 7, 6), (0, 1, 0)),
    ((0, 2, 6, 4), (0, 0, -1)),
    ((1, 5, 7, 3), (0, 0, 1)),
)


def _add_box(
    out: Dressed, surface: int, frame: np.ndarray, low: np.ndarray, high: np.ndarray, origin: np.ndarray
) -> None:
    """A box from `low` to `high` [3] in the axes `frame` [3, 3] (rows: right, back, up) about `origin`, metres."""
    local = (low + high) / 2 + CORNERS * (high - low) / 2
    for side, axis in SIDES:
        start = out.count
        corners = local[list(side)]
        normal = np.tile(np.array(axis, float) @ frame, (4, 1)).astype(np.float32)
        out.add_vertices(corners @ frame + origin, corners.astype(np.float32), normal, np.ones(4, np.float32))
        faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32) + np.int32(start)
        out.add_faces(faces, surface, False)


def seat(rng: Rng, keypoints: np.ndarray, height: float) -> Dressed | None:
    """Something to sit on below the hips of posed keypoints [133, 3]; None for somebody who lies on the floor."""
    left, right = keypoints[11], keypoints[12]
    hips = (left + right) / 2
    top = hips[2] - 0.055 * height
    across = np.array([left[0] - right[0], left[1] - right[1], 0.0])
    length = float(np.sqrt(across @ across))
    upright = keypoints[5:7, 2].mean() - hips[2] > 0.15 * height
    if top < 0.1 * height or length < 0.05 or not upright:
        return None
    across /= length
    frame = np.stack([across, [-across[1], across[0], 0.0], [0.0, 0.0, 1.0]]).round(6)
    origin = np.array([hips[0], hips[1], 0.0])
    half, front, back = (height * rng.uniform(*r) for r in ((0.11, 0.20), (0.12, 0.22), (0.07, 0.13)))
    out = Dressed(garments=[0, 0, 0])
    pattern = pick(rng, (PLAIN, (int(rng.integers(1, 6)), rng.uniform(4, 20), rng.random())), (0.7, 0.3))
    surface = out.add_surface(CLOTH, random_colour(rng), random_colour(rng), pattern, 0.03, True)
    thick = top if rng.random() < 0.5 else 0.06 * height
    _add_box(out, surface, frame, np.array([-half, -front, top - thick]), np.array([half, back, top]), origin)
    if thick < top:  # legs instead of a block
        w = 0.02 * height
        for x in (-half, half - w):
            for y in (-front, back - w):
                _add_box(out, surface, frame, np.array([x, y, 0.0]), np.array([x + w, y + w, top]), origin)
    if rng.random() < 0.5:
        high = np.array([half, back + 0.03 * height, top + height * rng.uniform(0.15, 0.35)])
        _add_box(out, surface, frame, np.array([-half, back, top - thick]), high, origin)
    out.cover.append(np.full((out.count, 3), -1, np.float32))
    return out
