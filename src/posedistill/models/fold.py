"""BatchNorm folded into convolutions, for networks that only predict, such as a frozen teacher."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from posedistill.models.cspnext import ConvModule

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def fold_batch_norm(module: Module) -> Module:
    """A frozen copy of `module` in eval mode, in which every convolution has absorbed the BatchNorm behind it.

    Its outputs are those of `module.eval()` up to rounding, also after `train()`. Folded in float64: in float32, the
    rounding of small variances would change the teacher.
    """
    folded = copy.deepcopy(module).eval()
    for part in folded.modules():
        if isinstance(part, ConvModule) and isinstance(part.bn, nn.BatchNorm2d):
            dtype = part.conv.weight.dtype
            part.conv = fuse_conv_bn_eval(part.conv.double(), part.bn.double()).to(dtype)
            part.bn = nn.Identity()
    return folded.eval().requires_grad_(False)
