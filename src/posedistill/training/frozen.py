"""Networks that teach and are not trained."""

import torch

from posedistill.devices import Device, Module
from posedistill.models.fold import fold_batch_norm
from posedistill.models.onnx_model import OnnxModel


def frozen(module: Module, device: Device) -> Module:
    """Inference-only copy of `module`: on the device, in its precision, in eval mode, BatchNorm folded into the
    convolutions. In bfloat16 it needs half the memory traffic of autocast, which converts the weights in every step."""
    if isinstance(module, OnnxModel):
        return module
    copy = device.place(fold_batch_norm(module))
    return copy.to(device.precision) if device.precision != torch.float32 else copy
