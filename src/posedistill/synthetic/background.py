"""Backgrounds (cloudy colours, a floor, flat shapes) and occluders.

Everything is 8-bit integer work of Pillow and OpenCV, which comes out the same on every machine.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw

from posedistill.synthetic.sampling import Rng, pick, random_colour


def clouds(rng: Rng, height: int, width: int, octaves: int) -> np.ndarray:
    """Smooth noise over the whole range, uint8 [height, width]; more octaves, finer grain."""
    field = rng.random((3, 3), np.float32)
    for octave in range(1, octaves):
        size = 2 ** (octave + 1) + 1
        coarse = np.asarray(_resize(field, size, size), np.float32) / 255
        field = coarse + (rng.random((size, size), np.float32) - 0.5) / 2**octave
        field = (field - field.min()) / (np.ptp(field) + 1e-6)
    return np.asarray(_resize(field, width, height))


def _resize(field: np.ndarray, width: int, height: int) -> Image.Image:
    return Image.fromarray((field.clip(0, 1) * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def _bytes(colours: np.ndarray) -> np.ndarray:
    return (colours.clip(0, 1) * 255).astype(np.uint8)


def _ramp(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Colour table uint8 [256, 3] from `low` to `high`."""
    return _bytes(low + (high - low) * np.linspace(0, 1, 256)[:, None])


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a uint8 picture; sigma in pixels, 0 = none."""
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image


def background(rng: Rng, height: int, width: int) -> np.ndarray:
    """A picture without people, float32 [height, width, 3] in [0, 1]."""
    table = _ramp(random_colour(rng, 0.1, 1), random_colour(rng, 0.1, 1))
    image = table[clouds(rng, height, width, int(rng.integers(1, 6)))]
    if rng.random() < 0.6:  # floor
        top = int(height * rng.uniform(0.45, 0.9))
        colour = random_colour(rng, 0.1, 0.9)
        image[top:] = _ramp(0.7 * colour, 1.2 * colour)[clouds(rng, height - top, width, 5)]
    picture = Image.fromarray(image)
    _draw_shapes(rng, ImageDraw.Draw(picture), width, height)
    sigma = pick(rng, (0.0, 0.5, 1.2, 2.4))
    return blurred(np.asarray(picture), sigma).astype(np.float32) / np.float32(255)


def _draw_shapes(rng: Rng, draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
    for _ in range(int(rng.integers(0, 14))):
        r, g, b = _bytes(random_colour(rng, 0.05, 1)).tolist()
        fill = (r, g, b)
        x, y = rng.uniform(-0.2, 1) * width, rng.uniform(-0.2, 1) * height
        w, h = rng.uniform(0.03, 0.5) * width, rng.uniform(0.03, 0.6) * height
        shape = int(rng.integers(5))
        if shape == 0:
            draw.rectangle([x, y, x + w, y + h], fill=fill)
        elif shape == 1:
            draw.ellipse([x, y, x + w, y + h], fill=fill)
        elif shape == 2:
            draw.line([x, y, x + w, y + rng.uniform(-1, 1) * h], fill=fill, width=int(rng.integers(1, 12)))
        elif shape == 3:
            corners = [(x + rng.uniform(0, w), y + rng.uniform(0, h)) for _ in range(int(rng.integers(3, 7)))]
            draw.polygon(corners, fill=fill)
        else:  # looks like a limb
            draw.rounded_rectangle([x, y, x + 0.15 * width, y + h], radius=10, fill=fill)


def occluder(rng: Rng, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A flat thing in front of somebody: mask bool [2·height, 2·width] and its picture float32 [height, width, 3]."""
    x, y = rng.uniform(-0.1, 0.9) * width * 2, rng.uniform(0.2, 0.95) * height * 2
    w, h = rng.uniform(0.1, 0.5) * width * 2, rng.uniform(0.1, 0.5) * height * 2
    mask = Image.new("L", (width * 2, height * 2))
    draw = ImageDraw.Draw(mask)
    (draw.rectangle if rng.random() < 0.6 else draw.ellipse)([x, y, x + w, y + h], fill=255)
    colour = random_colour(rng, 0.1, 1)
    picture = _ramp(0.6 * colour, 1.1 * colour)[clouds(rng, height, width, 4)]
    return np.asarray(mask) > 0, picture.astype(np.float32) / np.float32(255)
