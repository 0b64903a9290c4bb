"""The RTMPose head: feature map → one token per keypoint → gated attention → SimCC logits (arXiv 2303.07399)."""

import math

import torch
from torch import Tensor, nn

from posedistill.models.sizes import Size

EXPANSION = 2  # of the gated unit
SPLIT_RATIO = 2  # bins per input pixel


class ScaleNorm(nn.Module):
    """Vectors scaled to a learnt length (arXiv 1910.05895)."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.scale = dim**-0.5
        self.eps = eps
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(dim=-1, keepdim=True) * self.scale
        return x / norm.clamp(min=self.eps) * self.g


class Scale(nn.Module):
    """A learnt factor per channel, on the residual branch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class GatedAttentionUnit(nn.Module):
    """Gated attention over the keypoint tokens (arXiv 2202.10447), with squared ReLU instead of softmax."""

    def __init__(self, dim: int, query: int) -> None:
        super().__init__()
        self.query = query
        self.inner = dim * EXPANSION
        self.gamma = nn.Parameter(torch.rand(2, query))
        self.beta = nn.Parameter(torch.rand(2, query))
        self.o = nn.Linear(self.inner, dim, bias=False)
        self.uv = nn.Linear(dim, 2 * self.inner + query, bias=False)
        self.ln = ScaleNorm(dim)
        self.res_scale = Scale(dim)

    def forward(self, x: Tensor) -> Tensor:  # [B, K, dim] → [B, K, dim]
        gate, value, base = nn.functional.silu(self.uv(self.ln(x))).split([self.inner, self.inner, self.query], dim=-1)
        query, key = base * self.gamma[0] + self.beta[0], base * self.gamma[1] + self.beta[1]  # [B, K, query] each
        attention = nn.functional.relu(query @ key.transpose(1, 2) / math.sqrt(self.query)).square()  # [B, K, K]
        return self.res_scale(x) + self.o(gate * (attention @ value))


class KeypointConv(nn.Conv2d):
    """The convolution from a feature map of `map_size` cells to one map of the same size per keypoint.

    On a map of fewer than 4 cells a side, the outer rows and columns of a 7×7 kernel only meet padding. Without them
    the output is the same, 1.7 (4×3 cells) to 9 times (2×2) as fast.
    """

    def __init__(self, channels: int, keypoints: int, kernel: int, map_size: tuple[int, int]) -> None:
        super().__init__(channels, keypoints, kernel, padding=kernel // 2)
        self.centre = kernel // 2
        rows, columns = (min(self.centre, side - 1) for side in map_size)
        self.reach = rows, columns  # cells on either side within the map

    def forward(self, x: Tensor) -> Tensor:
        centre, (rows, columns) = self.centre, self.reach
        if rows == columns == centre:
            return super().forward(x)
        weight = self.weight[:, :, centre - rows : centre + rows + 1, centre - columns : centre + columns + 1]
        return nn.functional.conv2d(x, weight, self.bias, padding=self.reach)


class RTMCCHead(nn.Module):
    """Feature map [B, C, h, w] → SimCC logits x [B, K, 2W] and y [B, K, 2H] of the input's W and H pixels."""

    def __init__(self, size: Size, input_size: tuple[int, int], keypoints: int) -> None:
        super().__init__()
        height, width = input_size
        map_size = math.ceil(height / size.stride), math.ceil(width / size.stride)  # the last cell may be cut
        cells = map_size[0] * map_size[1]
        self.final_layer = KeypointConv(size.channels, keypoints, size.final_kernel, map_size)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, size.hidden, bias=False))
        self.gau = GatedAttentionUnit(size.hidden, size.query)
        self.cls_x = nn.Linear(size.hidden, width * SPLIT_RATIO, bias=False)
        self.cls_y = nn.Linear(size.hidden, height * SPLIT_RATIO, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Published initialisation: normal, std 0.001 for the convolution and 0.01 for all linear layers."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.final_layer(features).flatten(2)  # [B, K, h·w]
        tokens = self.gau(self.mlp(tokens))  # [B, K, hidden]
        return self.cls_x(tokens), self.cls_y(tokens)
