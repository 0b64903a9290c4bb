"""Training samples, the device's part: colour jitter, blur, dropout and normalisation of a whole batch.

On a GPU everything is batched PyTorch without a synchronisation. On the CPU, where a batch gains nothing, OpenCV does
the pixels of one image after the other: several times faster, and the same arithmetic as the published pipeline.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from posedistill.data.feed.pixel_changes import BLUR, BLUR_SIDES, DROPOUT, HSV, apply

MEAN = (123.675, 116.28, 103.53)  # RGB, of ImageNet, as published
STD = (58.395, 57.12, 57.375)
OFFSETS = (5.0, 3.0, 1.0)  # of red, green and blue on the circle of hues, which has 6 sectors


def to_model_input(images: Tensor, changes: Tensor | None) -> Tensor:
    """uint8 [B, H, W, 3] RGB and pixel changes [B, 9] (None: no augmentation) → normalised float32 [B, 3, H, W].

    The result lies on the device of `images`. Memory is laid out channels-last on a GPU and contiguous on the CPU.
    """
    if images.device.type == "cpu":
        pixels = images if changes is None else torch.from_numpy(apply(images.numpy(), changes.numpy()))
        return _normalise_cpu(pixels)
    return normalise(images.permute(0, 3, 1, 2).float() if changes is None else apply_torch(images, changes))


def compiled_model_input(device: torch.device) -> Callable[[Tensor, Tensor | None], Tensor]:
    """`to_model_input` for images on a GPU, in a few kernels instead of a hundred."""
    for values in (MEAN, STD, OFFSETS):
        _channels(values, device)
    return torch.compile(to_model_input, dynamic=False)


def normalise(images: Tensor) -> Tensor:
    """Subtract the mean and divide by the standard deviation: [B, 3, H, W] in 0-255."""
    return (images - _channels(MEAN, images.device)) / _channels(STD, images.device)


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A constant [1, 3, 1, 1]; made once, since each copy to a GPU would wait for all that is queued there."""
    if (values, device) not in _constants:
        with torch.inference_mode(False):
            _constants[values, device] = torch.tensor(values, device=device).view(1, 3, 1, 1)
    return _constants[values, device]


# A dictionary instead of a cached function: torch.compile would look through the cache and make them in every call.
_constants: dict[tuple[tuple[float, ...], torch.device], Tensor] = {}


def _normalise_cpu(images: Tensor) -> Tensor:
    """`normalise` of uint8 [B, H, W, 3], one image after the other so that each stays in the cache: 3 times as fast."""
    mean, std = (_channels(values, images.device)[0] for values in (MEAN, STD))
    out = torch.empty(len(images), 3, *images.shape[1:3])
    for image, target in zip(images, out):
        target.copy_(image.permute(2, 0, 1)).sub_(mean).div_(std)
    return out


def apply_torch(images: Tensor, changes: Tensor) -> Tensor:
    """The pixel changes of uint8 [B, H, W, 3], batched on the device: float [B, 3, H, W] in 0-255.

    Median blurs are not among them: `TrainLoader(for_gpu=True)` has done them.
    """
    x = images.permute(0, 3, 1, 2).float()
    x = jitter_hsv(x, changes[:, HSV])
    plain = x
    for side in BLUR_SIDES:  # blurring all and choosing is cheaper than asking the GPU which rows need it
        x = torch.where((changes[:, BLUR] == side).view(-1, 1, 1, 1), box_blur(plain, side), x)
    return x * _kept(changes[:, DROPOUT], x.shape[-2], x.shape[-1])


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
    offsets = _channels(OFFSETS, x.device)
    k = (offsets + hue[:, None]).remainder(6)
    share = torch.minimum(k, 4 - k).clamp(0, 1)
    changed = value[:, None] * (1 - saturation[:, None] * share)
    return torch.where((gains != 0).any(dim=1).view(-1, 1, 1, 1), changed, x)


def box_blur(x: Tensor, side: int) -> Tensor:
    """Mean over side x side pixels; the border is mirrored without repeating the edge, as OpenCV's default."""
    return F.avg_pool2d(F.pad(x, [side // 2] * 4, mode="reflect"), side, stride=1)


def _kept(rectangles: Tensor, height: int, width: int) -> Tensor:
    """1 outside and 0 inside the rectangles [B, 4] (x0, y0, x1, y1): [B, 1, H, W]."""
    x0, y0, x1, y1 = (edge.view(-1, 1) for edge in rectangles.unbind(dim=1))
    columns = torch.arange(width, device=rectangles.device)
    rows = torch.arange(height, device=rectangles.device)
    across = (columns >= x0) & (columns < x1)  # [B, W]
    down = (rows >= y0) & (rows < y1)  # [B, H]
    return (~(down[:, None, :, None] & across[:, None, None, :])).float()
