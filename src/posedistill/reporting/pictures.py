"""Pictures of persons with their 133 keypoints: overlays, contact sheets, prediction beside truth."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from posedistill.keypoints import KEYPOINT_COLORS, PARTS, SKELETON, SKELETON_COLORS

FINE = 3  # lines are drawn this many times larger and scaled down, which smooths them
GAP = 6  # pixels between tiles
TITLE = 18  # height of a tile's title


def draw_skeleton(
    image: Image.Image, keypoints: NDArray, threshold: float = 0.0, zoom: float = 1.0, width: float = 1.4
) -> Image.Image:
    """Draw keypoints [133, 3] (x, y in pixels of `image`, score or visibility) that exceed `threshold`.

    The image comes back enlarged by `zoom`. Points are drawn last, face and hand points smaller than those of the body.
    """
    size = (round(image.width * zoom), round(image.height * zoom))
    canvas = image.convert("RGB").resize((size[0] * FINE, size[1] * FINE), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(canvas)
    points = (np.asarray(keypoints, np.float64)[:, :2] + 0.5) * zoom * FINE
    shown = np.asarray(keypoints)[:, 2] > threshold
    for (a, b), color in zip(SKELETON, SKELETON_COLORS):
        if shown[a] and shown[b]:
            fine = width if a < PARTS["face"].start else width * 0.7
            draw.line([*map(float, points[a]), *map(float, points[b])], fill=color, width=max(1, round(fine * FINE)))
    for k in np.flatnonzero(shown):
        radius = FINE * width * (1.1 if k < PARTS["face"].start else 0.6)
        x, y = points[k]
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=KEYPOINT_COLORS[k])
    return canvas.resize(size, Image.Resampling.LANCZOS)


def crop_person(
    image: Image.Image, box: Sequence[float], keypoints: NDArray, size: tuple[int, int], padding: float = 1.25
) -> tuple[Image.Image, NDArray]:
    """Cut the box (x, y, width, height), enlarged by `padding`, to `size` (width, height) with grey beyond the image.

    Returns the cut and the keypoints [133, 3] in its pixels. Width and height keep their proportion.
    """
    x, y, w, h = map(float, box)
    scale = min(size[0] / max(w * padding, 1.0), size[1] / max(h * padding, 1.0))
    left, top = x + w / 2 - size[0] / 2 / scale, y + h / 2 - size[1] / 2 / scale
    cut = image.convert("RGB").transform(
        size,
        Image.Transform.AFFINE,
        (1 / scale, 0, left, 0, 1 / scale, top),
        Image.Resampling.BILINEAR,
        fillcolor=(128, 128, 128),
    )
    moved = np.array(keypoints, np.float64)
    # Pixel centres lie at half positions: +0.5 before scaling, -0.5 after.
    moved[:, :2] = (moved[:, :2] + 0.5 - (left, top)) * scale - 0.5
    return cut, moved


def contact_sheet(tiles: Sequence[Image.Image], columns: int, titles: Sequence[str] | None = None) -> Image.Image:
    """Tiles of one size in rows of `columns`, with a title above each."""
    if not tiles:
        return Image.new("RGB", (320, 40), "white")
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    head = TITLE if titles is not None else 0
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + head + GAP) - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    letters = font(12)
    for i, tile in enumerate(tiles):
        x, y = i % columns * (width + GAP), i // columns * (height + head + GAP)
        if titles is not None:
            draw.text((x + 2, y + 1), titles[i], fill="black", font=letters)
        sheet.paste(tile, (x, y + head))
    return sheet


def flow_sheet(tiles: Sequence[Image.Image], titles: Sequence[str], width: int = 1000) -> Image.Image:
    """Tiles of one height and different widths in rows of at most `width` pixels, with a title above each."""
    rows: list[list[int]] = [[]]
    used = 0
    for i, tile in enumerate(tiles):
        if rows[-1] and used + tile.width > width:
            rows.append([])
            used = 0
        rows[-1].append(i)
        used += tile.width + GAP
    height = max((tile.height for tile in tiles), default=20)
    sheet = Image.new("RGB", (width, len(rows) * (height + TITLE + GAP) - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    letters = font(12)
    for row, members in enumerate(rows):
        x, y = 0, row * (height + TITLE + GAP)
        for i in members:
            draw.text((x + 2, y + 1), titles[i], fill="black", font=letters)
            sheet.paste(tiles[i], (x, y + TITLE))
            x += tiles[i].width + GAP
    return sheet


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one height side by side."""
    pair = Image.new("RGB", (left.width + 2 + right.width, max(left.height, right.height)), "white")
    pair.paste(left, (0, 0))
    pair.paste(right, (left.width + 2, 0))
    return pair


def prediction_beside_truth(
    image: Image.Image,
    box: Sequence[float],
    truth: NDArray,
    prediction: NDArray,
    size: tuple[int, int] = (150, 200),
    threshold: float = 0.2,
) -> Image.Image:
    """The person twice: truth on the left, prediction on the right (keypoints [133, 3] in pixels of the image).

    Predicted points are drawn where a label exists, whatever their score, and elsewhere above `threshold`.
    """
    cut, true_points = crop_person(image, box, truth, size)
    _, predicted_points = crop_person(image, box, prediction, size)
    predicted_points[:, 2] = (predicted_points[:, 2] > threshold) | (true_points[:, 2] > 0)
    return beside(draw_skeleton(cut, true_points), draw_skeleton(cut, predicted_points))


def font(size: int) -> ImageFont.FreeTypeFont:
    """The letters of all figures."""
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)  # ships with matplotlib
