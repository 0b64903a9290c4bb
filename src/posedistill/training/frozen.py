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


def inference_context() -> torch.no_grad | torch.inference_mode:
    """The context for calling frozen networks. torch.compile supports only `no_grad`."""
    return torch.no_grad() if torch.compiler.is_compiling() else torch.inference_mode()
