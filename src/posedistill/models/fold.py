"""BatchNorm folded into convolutions: for networks that only answer, such as a frozen teacher."""

import copy
from typing import TypeVar

import torch
from torch import nn

from posedistill.models.cspnext import ConvModule

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def fold_batch_norm(module: Module) -> Module:
    """A frozen copy of `module` in which every convolution has taken over the BatchNorm behind it.

    In eval mode BatchNorm is the fixed map y = (x − mean)·g + bias with g = weight/sqrt(var + eps), so the convolution
    can do it: weight·g and bias − mean·g. The answers are those of `module.eval()` up to rounding (folding is computed
    in float64), also after `train()`, since nothing is left that depends on the mode.
    """
    folded = copy.deepcopy(module)
    for part in folded.modules():
        if isinstance(part, ConvModule) and isinstance(part.bn, nn.modules.batchnorm._BatchNorm):
            part.conv = _folded(part.conv, part.bn)
            part.bn = nn.Identity()
    return folded.requires_grad_(False).eval()


def _folded(conv: nn.Conv2d, norm: nn.modules.batchnorm._BatchNorm) -> nn.Conv2d:
    assert norm.running_mean is not None and norm.running_var is not None
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * gain
    weight = conv.weight.double() * gain[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype))
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype))
    return conv
