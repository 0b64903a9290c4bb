"""Size of a model: parameters and multiply-accumulates."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from posedistill.models.head import GatedAttentionUnit
from posedistill.models.rtmpose import RTMPose


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trained or not; buffers do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: RTMPose) -> int:
    """Multiply-accumulates for one image [3, H, W] of the model's input size.

    Counts convolutions, linear layers and the two products of the gated attention; not norms, activations and sums.
    Published tables call the same number FLOPs.
    """
    total = 0

    def conv(module: nn.Conv2d, _: tuple, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()  # weight[0] is [inputs/groups, kernel, kernel]

    def linear(module: nn.Linear, _: tuple, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * module.in_features

    def attention(module: GatedAttentionUnit, inputs: tuple, _: Tensor) -> None:
        nonlocal total
        tokens = inputs[0].shape[1]
        total += tokens * tokens * (module.query + module.inner)

    hooks: dict[type, Callable] = {nn.Conv2d: conv, nn.Linear: linear, GatedAttentionUnit: attention}
    handles = [m.register_forward_hook(hook) for m in model.modules() for t, hook in hooks.items() if isinstance(m, t)]
    parameter = next(model.parameters())
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, *model.input_size, dtype=parameter.dtype, device=parameter.device))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return total
