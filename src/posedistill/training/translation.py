"""What a teacher of another input size, or with other keypoints, says about the student's bins and cells."""

import torch
from torch import Tensor, nn

from posedistill.losses import Pair
from posedistill.models.head import SPLIT_RATIO
from posedistill.models.keypoint_table import Table, check_table
from posedistill.models.onnx_model import PoseModel
from posedistill.models.resampling import ToBins, ToCells
from posedistill.models.rtmpose import RTMPose


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
