"""Cost of a model: parameters and multiply-accumulates. Published tables call the latter FLOPs."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from posedistill.models.onnx_costs import onnx_costs
from posedistill.models.onnx_model import OnnxModel, PoseModel
from posedistill.models.rtmpose import RTMPose


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trained or not; buffers do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: RTMPose) -> int:
    """Multiply-accumulates for one image [3, H, W] of the model's input size.

    Counts convolutions and matrix products; not norms, activations and sums.
    """
    with torch.device("meta"):  # shapes alone: nothing is computed
        twin = RTMPose(model.size, model.input_size, model.keypoints).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            twin(torch.zeros(1, 3, *model.input_size))
    return counter.get_total_flops() // 2  # PyTorch counts a product and its sum as two


def parameters_and_macs(model: PoseModel) -> tuple[int, int]:
    """Both numbers, also of an ONNX model."""
    if isinstance(model, OnnxModel):
        return onnx_costs(model.path)
    return count_parameters(model), count_macs(model)
