"""CSPNeXt, the backbone of RTMPose (RTMDet, arXiv 2212.07784), with mmpose's state-dict keys.

Input: images [B, 3, H, W], normalised. Output: the last feature map [B, C, H/s, W/s] with s = `Size.stride`, 32 as
published.
"""

import torch
from torch import Tensor, nn

from posedistill.models.sizes import Size, Stage

# As RTMPose trains it; the backbone's own default elsewhere is (1e-3, 0.03).
BN_EPS, BN_MOMENTUM = 1e-5, 0.1


STEM_CHANNELS = 8  # of the stem's input on GPUs: tensor cores take bfloat16 channels in eights


class StemConv(nn.Conv2d):
    """The first convolution. On GPUs image and weight get channels of zeros: with 3 channels, the weight's gradient
    alone takes a tenth of a training step. Outputs, gradients and checkpoints are those of 3 channels."""

    def forward(self, images: Tensor) -> Tensor:
        return self.padded(images) if images.is_cuda else super().forward(images)

    def padded(self, images: Tensor) -> Tensor:
        """The convolution of STEM_CHANNELS channels."""
        zeros = (0, 0, 0, 0, 0, STEM_CHANNELS - self.in_channels)
        images, weight = nn.functional.pad(images, zeros), nn.functional.pad(self.weight, zeros)
        return nn.functional.conv2d(images, weight, self.bias, self.stride, self.padding)


class ConvModule(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        conv: type[nn.Conv2d] = nn.Conv2d,
    ) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.activate = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.bn(self.conv(x)))


class DepthwiseSeparable(nn.Module):
    """A convolution per channel, then a 1x1 convolution over the channels, each with norm and SiLU."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(channels, channels, kernel, groups=channels)
        self.pointwise_conv = ConvModule(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class CSPNeXtBlock(nn.Module):
    """3x3 convolution, then a 5x5 depthwise separable one; with the input added where `identity`."""

    def __init__(self, channels: int, identity: bool) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, 3)
        self.conv2 = DepthwiseSeparable(channels, 5)
        self.identity = identity

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.identity else y


class ChannelAttention(nn.Module):
    """Each channel scaled by a gate computed from the channel means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.act(self.fc(x.mean((2, 3), keepdim=True)))


class CSPLayer(nn.Module):
    """Half of the channels go through the blocks, half around them; then attention and a 1x1 convolution."""

    def __init__(self, channels: int, blocks: int, identity: bool) -> None:
        super().__init__()
        mid = channels // 2  # expand ratio 0.5
        self.main_conv = ConvModule(channels, mid, 1)
        self.short_conv = ConvModule(channels, mid, 1)
        self.final_conv = ConvModule(2 * mid, channels, 1)
        self.blocks = nn.Sequential(*(CSPNeXtBlock(mid, identity) for _ in range(blocks)))
        self.attention = ChannelAttention(2 * mid)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), dim=1)
        return self.final_conv(self.attention(x))


class SPPBottleneck(nn.Module):
    """Max pooling over 5, 9 and 13 cells beside the map itself: a wide receptive field at little cost."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        mid = channels // 2
        self.conv1 = ConvModule(channels, mid, 1)
        self.conv2 = ConvModule(4 * mid, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        # Pooling 5 after 5 covers 9 cells, and once more 13: the maxima of three pools of x at a third of the work.
        pool5 = nn.functional.max_pool2d(x, 5, 1, 2)
        pool9 = nn.functional.max_pool2d(pool5, 5, 1, 2)
        pool13 = nn.functional.max_pool2d(pool9, 5, 1, 2)
        return self.conv2(torch.cat((x, pool5, pool9, pool13), dim=1))


def block_counts(size: Size) -> list[int]:
    """Number of CSP blocks of each stage."""
    return [max(round(stage.blocks * size.deepen), 1) for stage in size.stages]


def _stage(stage: Stage, inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = [ConvModule(inputs, outputs, 3, stage.stride)]
    if stage.spp:
        layers.append(SPPBottleneck(outputs))
    layers.append(CSPLayer(outputs, blocks, stage.identity))
    return nn.Sequential(*layers)


class CSPNeXt(nn.Module):
    """The stem and the stages of a `Size`; only the last map is returned, as in RTMPose."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = int(64 * size.widen)
        self.stem = nn.Sequential(
            ConvModule(3, width // 2, 3, 2, conv=StemConv),
            ConvModule(width // 2, width // 2, 3),
            ConvModule(width // 2, width, 3),
        )
        self.stage_names: list[str] = []
        for number, (stage, blocks) in enumerate(zip(size.stages, block_counts(size)), 1):
            outputs = int(stage.out * size.widen)
            self.add_module(f"stage{number}", _stage(stage, width, outputs, blocks))
            self.stage_names.append(f"stage{number}")
            width = outputs

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)  # [B, C, H/2, W/2]
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        return x
