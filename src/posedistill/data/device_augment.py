"""Training samples, the device's part: colour jitter, blur, dropout and normalisation of a whole batch.

On a GPU everything is batched PyTorch. On the CPU, where a batch gains nothing, OpenCV does the pixels of one image
after the other, which is several times faster and the same arithmetic as the published pipeline.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from posedistill.data.augment import BLUR, DROPOUT, HSV, MEDIAN_BLUR

MEAN = (123.675, 116.28, 103.53)  # RGB, of ImageNet, as published
STD = (58.395, 57.12, 57.375)


def to_model_input(images: Tensor, recipe: Tensor | None) -> Tensor:
    """uint8 [B, H, W, 3] RGB and recipes [B, 9] (None: no augmentation) → normalised float32 [B, 3, H, W].

    The result lies on the device of `images`. Memory is laid out channels-last on a GPU and contiguous on the CPU.
    """
    if recipe is None:
        return normalise(images.permute(0, 3, 1, 2).float())
    if images.device.type == "cpu":
        return normalise(torch.from_numpy(apply_numpy(images.numpy(), recipe.numpy())).permute(0, 3, 1, 2).float())
    return normalise(apply_torch(images, recipe))


def normalise(images: Tensor) -> Tensor:
    """Subtract the mean and divide by the standard deviation: [B, 3, H, W] in 0-255."""
    mean, std = (torch.tensor(v, dtype=images.dtype, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    normalised = (images - mean) / std
    return normalised if images.is_cuda else normalised.contiguous()


def apply_numpy(images: np.ndarray, recipe: np.ndarray) -> np.ndarray:
    """The pixel augmentation of uint8 [B, H, W, 3] by OpenCV, image by image; returns new pixels, uint8."""
    out = np.empty_like(images)
    for image, row, target in zip(images, recipe, out):
        gains = row[HSV].astype(np.int16)
        if gains.any():
            image = _jitter(image, gains)
        if row[BLUR] > 0:
            image = cv2.blur(image, (int(row[BLUR]), int(row[BLUR])))
        if row[MEDIAN_BLUR] > 0:
            image = cv2.medianBlur(np.ascontiguousarray(image), int(row[MEDIAN_BLUR]))
        target[:] = image
        x0, y0, x1, y1 = row[DROPOUT].astype(int)
        target[y0:y1, x0:x1] = 0
    return out


def _jitter(image: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """OpenCV's 8-bit HSV with `gains` added: hue modulo 180, the others clipped."""
    levels = np.arange(256)
    table = np.empty((1, 256, 3), np.uint8)
    table[0, :, 0] = (levels + gains[0]) % 180
    table[0, :, 1] = np.clip(levels + gains[1], 0, 255)
    table[0, :, 2] = np.clip(levels + gains[2], 0, 255)
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)


def apply_torch(images: Tensor, recipe: Tensor) -> Tensor:
    """The pixel augmentation of uint8 [B, H, W, 3], batched on the device: float [B, 3, H, W] in 0-255."""
    x = images.permute(0, 3, 1, 2).float()
    x = jitter_hsv(x, recipe[:, HSV])
    for side in (3, 5, 7):
        x = _where(recipe[:, BLUR] == side, x, lambda rows, side=side: box_blur(rows, side))
    for side in (3, 5, 7):
        x = _where(recipe[:, MEDIAN_BLUR] == side, x, lambda rows, side=side: median_blur(rows, side))
    return x * _kept(recipe[:, DROPOUT], x.shape[-2], x.shape[-1])


def _where(chosen: Tensor, x: Tensor, change) -> Tensor:  # type: ignore[no-untyped-def]
    """Apply `change` to the chosen rows only.

    Which rows is known to the GPU alone; asking for it would stall the queue. So a fixed share of the batch is sorted
    to the front and changed, and written back where it was chosen: for the usual probability of 0.1 over three sizes a
    quarter of the batch is room for all but one batch in many millions; what does not fit stays unblurred.
    """
    room = max(1, -(-len(x) // 4)) if len(x) > 8 else len(x)
    rows = torch.argsort(chosen.to(torch.uint8), descending=True, stable=True)[:room]
    part = x[rows]
    changed = torch.where(chosen[rows].view(-1, 1, 1, 1), change(part), part)
    return x.index_copy(0, rows, changed)


def jitter_hsv(x: Tensor, gains: Tensor) -> Tensor:
    """Add gains [B, 3] (OpenCV units) to hue, saturation and value of RGB [B, 3, H, W] in 0-255."""
    value, _ = x.max(dim=1, keepdim=True)
    spread = value - x.amin(dim=1, keepdim=True)
    r, g, b = x.unbind(dim=1)
    v, c = value[:, 0], spread[:, 0]
    safe = c.clamp(min=1e-6)
    sector = torch.where(v == r, (g - b) / safe, torch.where(v == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    sector = torch.where(c > 0, sector, torch.zeros_like(sector))
    hue = (sector + gains[:, 0].view(-1, 1, 1) / 30).remainder(6)  # [B, H, W] in 0-6
    saturation = torch.where(v > 0, 255 * c / v.clamp(min=1e-6), torch.zeros_like(v))
    saturation = (saturation + gains[:, 1].view(-1, 1, 1)).clamp(0, 255) / 255
    value = (v + gains[:, 2].view(-1, 1, 1)).clamp(0, 255)
    offsets = torch.tensor((5.0, 3.0, 1.0), device=x.device).view(1, 3, 1, 1)
    k = (offsets + hue[:, None]).remainder(6)
    share = torch.minimum(k, 4 - k).clamp(0, 1)
    changed = value[:, None] * (1 - saturation[:, None] * share)
    return torch.where((gains != 0).any(dim=1).view(-1, 1, 1, 1), changed, x)


def box_blur(x: Tensor, side: int) -> Tensor:
    """Mean over side x side pixels; the border is mirrored without repeating the edge, as OpenCV's default."""
    return F.avg_pool2d(F.pad(x, [side // 2] * 4, mode="reflect"), side, stride=1)


def median_blur(x: Tensor, side: int) -> Tensor:
    """Median over side x side pixels; the edge is repeated at the border, as OpenCV does."""
    padded = F.pad(x, [side // 2] * 4, mode="replicate")
    windows = padded.unfold(2, side, 1).unfold(3, side, 1).flatten(-2)  # [B, 3, H, W, side²]
    return windows.median(dim=-1).values


def _kept(rectangles: Tensor, height: int, width: int) -> Tensor:
    """1 outside and 0 inside the rectangles [B, 4] (x0, y0, x1, y1): [B, 1, H, W]."""
    x0, y0, x1, y1 = (edge.view(-1, 1) for edge in rectangles.unbind(dim=1))
    columns = torch.arange(width, device=rectangles.device)
    rows = torch.arange(height, device=rectangles.device)
    across = (columns >= x0) & (columns < x1)  # [B, W]
    down = (rows >= y0) & (rows < y1)  # [B, H]
    return (~(down[:, None, :, None] & across[:, None, None, :])).float()
