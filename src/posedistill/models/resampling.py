"""What a model says at one input size, in the terms of another.

Both see the same view, so a place in the picture is the same share of either input: bin j of n bins of one axis stands
where bin j·m/n of the other's m bins does.
"""

import torch
from torch import Tensor, nn

from posedistill.models.rtmpose import RTMPose, build_rtmpose


class ToBins(nn.Module):
    """Logits [..., source] over the bins of an axis → [..., target]: cubic interpolation at the target's bins.

    Logits are logarithms of a density, so the softmax over the target's bins is the teacher's density there, scaled
    to mass 1. Averaging probabilities instead would widen the narrow peaks of SimCC. Cubic (Catmull-Rom) because the
    peaks are close to parabolas, which it reproduces.
    """

    taps: Tensor
    weights: Tensor

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        place = torch.arange(target, dtype=torch.float64) * source / target
        first = place.floor()
        t = place - first
        weights = (
            -0.5 * t**3 + t**2 - 0.5 * t,
            1.5 * t**3 - 2.5 * t**2 + 1,
            -1.5 * t**3 + 2 * t**2 + 0.5 * t,
            0.5 * t**3 - 0.5 * t**2,
        )
        taps = first[:, None] + torch.arange(-1, 3)
        self.register_buffer("taps", taps.long().clamp(0, source - 1), persistent=False)  # [target, 4]
        self.register_buffer("weights", torch.stack(weights, dim=1).float(), persistent=False)  # [target, 4]

    def forward(self, logits: Tensor) -> Tensor:
        return (logits[..., self.taps] * self.weights.to(logits.dtype)).sum(-1)


class ToCells(nn.Module):
    """Maps [N, C, h, w] of the teacher → [N, C, h', w'] of the student: the mean over what each of its cells covers."""

    rows: Tensor
    columns: Tensor

    def __init__(self, teacher: RTMPose, student: RTMPose) -> None:
        super().__init__()
        for axis, name in enumerate(("rows", "columns")):
            theirs, own = (_edges(model.input_size[axis], model.size.stride) for model in (teacher, student))
            overlap = torch.minimum(own[1:, None], theirs[1:]) - torch.maximum(own[:-1, None], theirs[:-1])
            overlap = overlap.clamp(min=0)  # [student's cells, teacher's cells]
            self.register_buffer(name, (overlap / overlap.sum(1, keepdim=True)).float(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            rows, columns = self.rows.to(maps.dtype), self.columns.to(maps.dtype)
            return rows @ (maps @ columns.T)


def _edges(pixels: int, stride: int) -> Tensor:
    """Where the cells of an axis begin and end, as shares of the input; the last may reach beyond it."""
    return torch.arange(-(-pixels // stride) + 1, dtype=torch.float64) * stride / pixels


@torch.no_grad()
def resized(model: RTMPose, input_size: tuple[int, int]) -> RTMPose:
    """A copy of `model` for another input size (height, width), in eval mode.

    Three tensors of the head depend on the size. Those of the bins are interpolated, as logits are; a token's weights
    over the cells become those that give the same for the mean over what each former cell covers.
    """
    other = build_rtmpose(model.size.name, input_size, model.keypoints)
    state = model.state_dict()
    for name in ("head.cls_x.weight", "head.cls_y.weight"):
        bins = len(other.state_dict()[name])
        state[name] = ToBins(len(state[name]), bins)(state[name].T).T  # [bins, hidden]
    cells = ToCells(other, model)
    maps = state["head.mlp.1.weight"].unflatten(1, (len(cells.rows), len(cells.columns)))  # [hidden, h, w]
    state["head.mlp.1.weight"] = (cells.rows.T @ maps @ cells.columns).flatten(1)
    other.load_state_dict(state)
    return other.eval()
