"""What stands behind people: cloudy colours, a floor, flat shapes; and an occluder in front of them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from posedistill.data.synthetic.sampling import Rng, pick, random_colour


def fractal(rng: Rng, height: int, width: int, octaves: int) -> np.ndarray:
    """Smooth noise in [0, 1], float32 [height, width]; Pillow's 8-bit resampling is the same on every machine."""
    field = rng.random((3, 3), np.float32)
    for octave in range(1, octaves):
        size = 2 ** (octave + 1) + 1
        coarse = np.asarray(_resize(field, size, size), np.float32) / 255
        field = coarse + (rng.random((size, size), np.float32) - 0.5) / 2**octave
        field = (field - field.min()) / (np.ptp(field) + 1e-6)
    return np.asarray(_resize(field, width, height), np.float32) / 255


def _resize(field: np.ndarray, width: int, height: int) -> Image.Image:
    return Image.fromarray((field.clip(0, 1) * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def _bytes(colour: np.ndarray) -> tuple[int, int, int]:
    r, g, b = (int(255 * min(1.0, c)) for c in colour)
    return r, g, b


def background(rng: Rng, height: int, width: int) -> np.ndarray:
    """A picture without people, float32 [height, width, 3] in [0, 1]."""
    near, far = random_colour(rng, 0.1, 1).astype(np.float32), random_colour(rng, 0.1, 1).astype(np.float32)
    mix = fractal(rng, height, width, int(rng.integers(1, 6)))[..., None]
    image = near + (far - near) * mix
    if rng.random() < 0.6:  # floor
        top = int(height * rng.uniform(0.45, 0.9))
        colour = random_colour(rng, 0.1, 0.9).astype(np.float32)
        image[top:] = colour * (0.7 + 0.5 * fractal(rng, height - top, width, 5)[..., None])
    picture = Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 14))):
        fill = _bytes(random_colour(rng, 0.05, 1))
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
    blur = pick(rng, (0.0, 0.5, 1.2, 2.4))
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(picture, np.float32) / 255


def occluder(rng: Rng, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A flat thing in front of somebody: mask bool [2·height, 2·width] and its picture float32 [height, width, 3]."""
    x, y = rng.uniform(-0.1, 0.9) * width * 2, rng.uniform(0.2, 0.95) * height * 2
    w, h = rng.uniform(0.1, 0.5) * width * 2, rng.uniform(0.1, 0.5) * height * 2
    mask = Image.new("L", (width * 2, height * 2))
    draw = ImageDraw.Draw(mask)
    (draw.rectangle if rng.random() < 0.6 else draw.ellipse)([x, y, x + w, y + h], fill=255)
    colour = random_colour(rng, 0.1, 1).astype(np.float32)
    return np.asarray(mask) > 0, colour * (0.6 + 0.5 * fractal(rng, height, width, 4)[..., None])
