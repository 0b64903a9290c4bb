"""SimCC (arXiv 2107.03332): a coordinate is a distribution over the bins of its axis, half a pixel each.

`encode` makes the Gaussian labels, `decode` reads coordinates from logits. `input_size` is (height, width) in pixels.
"""

from functools import lru_cache

import torch
from torch import Tensor

from posedistill.data.geometry import label_range, label_sigma
from posedistill.models.head import SPLIT_RATIO


def bins(keypoints: Tensor) -> Tensor:
    """Nearest bin of coordinates in input pixels, int64; halves go to the even bin, as in the published code."""
    return (keypoints * SPLIT_RATIO).round().long()


def label_weight(keypoints: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Weight of each keypoint [..., K, 3] (x, y in input pixels, visibility) → [..., K].

    The visibility, or 0 where the label's three-sigma neighbourhood lies outside the input. A point a little outside
    still counts: part of its Gaussian is inside.
    """
    inside = torch.ones(keypoints.shape[:-1], dtype=torch.bool, device=keypoints.device)
    for axis, (low, high) in enumerate(label_range(input_size, SPLIT_RATIO)):
        centre = bins(keypoints[..., axis])
        inside &= (centre >= low) & (centre < high)
    return torch.where(inside, keypoints[..., 2], torch.zeros((), dtype=keypoints.dtype, device=keypoints.device))


def _gaussians(length: int, deviation: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The labels of every bin that a weighted keypoint can fall into, and 0 as the last row."""
    reach = _reach(deviation)
    centre = torch.arange(-reach, length + reach, dtype=torch.float64, device=device)
    bin_ = torch.arange(length, dtype=torch.float64, device=device)
    table = torch.exp(-((bin_ - centre[:, None]) ** 2) / (2 * deviation**2))
    return torch.cat((table, table.new_zeros(1, length))).to(dtype)


_kept_gaussians = lru_cache(maxsize=16)(_gaussians)


def _reach(deviation: float) -> int:
    return int(3 * deviation) + 2


def encode(keypoints: Tensor, input_size: tuple[int, int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Gaussian labels (x [B, K, 2·width], y [B, K, 2·height]) with peak 1, of keypoints in input pixels.

    `keypoints` is [B, K, 2] or [B, K, 3]. Rows that no loss counts are 0: those far outside the input, and with a third
    column those whose visibility is below 0.5. Centres are whole bins, so the labels are looked up, not computed.
    """
    visible = torch.ones_like(keypoints[..., 0]) if keypoints.shape[-1] == 2 else keypoints[..., 2]
    counts = label_weight(torch.cat((keypoints[..., :2], visible[..., None]), dim=-1), input_size) >= 0.5
    labels = []
    for axis, (deviation, size) in enumerate(zip(label_sigma(input_size), input_size[::-1])):
        gaussians = _gaussians if torch.compiler.is_compiling() else _kept_gaussians  # torch.compile sees no cache
        table = gaussians(size * SPLIT_RATIO, deviation, dtype, keypoints.device)
        row = bins(keypoints[..., axis]) + _reach(deviation)
        labels.append(table[torch.where(counts, row, len(table) - 1)])
    return labels[0], labels[1]


def decode(simcc_x: Tensor, simcc_y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (x [B, K, 2·width], y [B, K, 2·height]) → keypoints [B, K, 2] in input pixels, scores [B, K].

    A coordinate is the arg-max; the score is the smaller of the two maxima, a raw logit. Where the score is not
    positive, both coordinates are −0.5, as in the published code.
    """
    (score_x, best_x), (score_y, best_y) = simcc_x.max(dim=-1), simcc_y.max(dim=-1)
    scores = torch.minimum(score_x, score_y)
    best = torch.where((scores > 0)[..., None], torch.stack((best_x, best_y), dim=-1), -1)
    return best.to(simcc_x.dtype) / SPLIT_RATIO, scores
