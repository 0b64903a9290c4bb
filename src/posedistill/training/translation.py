"""What a teacher of another input size, or with other keypoints, says about the student's bins and cells.

Both see the same view, so a place in the picture is the same share of either input: bin j of n bins of the teacher's
axis stands where bin j·m/n of the student's m bins does.
"""

import torch
from torch import Tensor, nn

from posedistill.losses import Pair
from posedistill.models.head import SPLIT_RATIO
from posedistill.models.keypoint_table import Table, check_table
from posedistill.models.onnx_model import PoseModel
from posedistill.models.rtmpose import RTMPose


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


class Translation(nn.Module):
    """A teacher's map and logits → the same at the student's cells, bins and keypoints. Without a difference, the very
    tensors.

    `table` [133] says where the teacher has each keypoint. UserError where it has fewer.
    """

    order: Tensor | None

    def __init__(self, teacher: PoseModel, student: RTMPose, table: Table = None) -> None:
        super().__init__()
        check_table(table, teacher.keypoints)
        order = None if table is None else torch.tensor(table)
        self.register_buffer("order", order, persistent=False)
        self.x = self.y = self.cells = None
        if teacher.input_size != student.input_size:
            (height, width), (h, w) = teacher.input_size, student.input_size
            self.x = ToBins(width * SPLIT_RATIO, w * SPLIT_RATIO)
            self.y = ToBins(height * SPLIT_RATIO, h * SPLIT_RATIO)
        if isinstance(teacher, RTMPose):
            grids = {(model.input_size, model.size.stride) for model in (teacher, student)}
            self.cells = ToCells(teacher, student) if len(grids) > 1 else None

    def forward(self, maps: Tensor | None, logits: Pair) -> tuple[Tensor | None, Pair]:
        x, y = logits
        if self.order is not None:
            x, y = x[:, self.order], y[:, self.order]
        if self.x is not None and self.y is not None:
            x, y = self.x(x), self.y(y)
        if maps is not None and self.cells is not None:
            maps = self.cells(maps)
        return maps, (x, y)
