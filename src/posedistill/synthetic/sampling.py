"""Random draws used everywhere in this room, and rotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Rng = np.random.Generator


def pick(rng: Rng, items: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of `items`, with the given relative weights (`Generator.choice` takes twenty times longer)."""
    if weights is None:
        return items[int(rng.integers(len(items)))]
    at, total = rng.random() * sum(weights), 0.0
    for item, weight in zip(items, weights):
        total += weight
        if at < total:
            return item
    return items[-1]


def random_colour(rng: Rng, low: float = 0.03, high: float = 0.9) -> np.ndarray:
    """RGB in [0, 1], any hue, brightness (HSV value) between `low` and `high`."""
    hue, saturation, value = 6 * rng.random(), rng.beta(1.2, 1.6), rng.uniform(low, high)
    ramp = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - ramp))


def rotations(axes: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] about axes [..., 3] (any length), by Rodrigues' formula; rounded to 9 decimals."""
    axes = axes / np.sqrt((axes * axes).sum(axis=-1, keepdims=True))
    angle = np.deg2rad(degrees)[..., None, None]
    k = np.zeros((*axes.shape[:-1], 3, 3))
    x, y, z = axes[..., 0], axes[..., 1], axes[..., 2]
    k[..., 0, 1], k[..., 0, 2], k[..., 1, 2] = -z, y, -x
    k[..., 1, 0], k[..., 2, 0], k[..., 2, 1] = z, -y, x
    return (np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)).round(9)


def rotation(axis: Sequence[float] | np.ndarray, degrees: float) -> np.ndarray:
    """One rotation matrix [3, 3]."""
    return rotations(np.asarray(axis, float), np.asarray(degrees, float))


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of two 3-vectors (`np.cross` takes ten times longer)."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
