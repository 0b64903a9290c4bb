"""Models with more keypoints than the 133, or in another order, and the table that says where they have each."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from posedistill.errors import UserError
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.models.onnx_model import PoseModel

Table = Sequence[int] | None  # None: the keypoints are those wanted, in their order


def check_table(table: Table, found: int) -> None:
    """UserError if a model of `found` keypoints does not have those of the `table` (None: the 133)."""
    if table is None and found != NUM_KEYPOINTS:
        raise UserError(
            f"the teacher has {found} keypoints, expected {NUM_KEYPOINTS}; teacher.keypoints can say where it has them"
        )
    if table is not None and max(table) >= found:
        raise UserError(f"teacher.keypoints: found {max(table)}, allowed: 0 to {found - 1}, the teacher's keypoints")


class Reordered(nn.Module):
    """`model` with the keypoints of `table`: images → (simcc_x [B, 133, 2W], simcc_y [B, 133, 2H])."""

    order: Tensor

    def __init__(self, model: PoseModel, table: Sequence[int]) -> None:
        super().__init__()
        check_table(table, model.keypoints)
        self.model = model
        self.input_size = model.input_size
        self.keypoints = len(table)
        self.register_buffer("order", torch.tensor(table))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.model(images)
        return x[:, self.order], y[:, self.order]
