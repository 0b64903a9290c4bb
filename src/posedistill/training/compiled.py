"""torch.compile by region: each block of the networks, and the loss, by itself.

Blocks of the same shapes share their compiled code, so a network of 24 blocks compiles as fast as one of four; the
whole step in one graph takes three times as long. The code is kept beside the checkpoints: a later training of the
same sizes only loads it.
"""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from posedistill import project
from posedistill.models.cspnext import ChannelAttention, ConvModule, CSPNeXtBlock, SPPBottleneck
from posedistill.models.head import RTMCCHead

REGIONS = (CSPNeXtBlock, SPPBottleneck, ConvModule, ChannelAttention, RTMCCHead)
VERSIONS = 256  # of a region: four stages with their channels, two networks, a last micro-batch of another size


def regions(network: nn.Module) -> Iterator[nn.Module]:
    """The parts of a network that are compiled, the largest where one lies within another."""
    if isinstance(network, REGIONS):
        yield network
    else:
        for part in network.children():
            yield from regions(part)


def compile_regions(network: nn.Module, **options: Any) -> None:
    """Compile the regions in place, for torch.compile's `options`; names in the state dict stay."""
    for region in regions(network):
        region.compile(**options)


def prepare_compiler() -> None:
    """Keep compiled code beside the checkpoints, and allow as many versions of it as there are shapes of blocks."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(project.checkpoints() / "compiled"))
    torch._dynamo.config.recompile_limit = VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = 4 * VERSIONS
