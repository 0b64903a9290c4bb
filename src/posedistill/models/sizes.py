"""The table of model sizes: CSPNeXt-P5 backbones and the RTMPose head that goes with each."""

from dataclasses import dataclass

from posedistill.params import SizeName


@dataclass(frozen=True)
class Stage:
    """One backbone stage before scaling: `out` channels, `blocks` CSP blocks, residual `identity`, `spp` pooling."""

    out: int
    blocks: int
    identity: bool = True
    spp: bool = False
    stride: int = 2


@dataclass(frozen=True)
class Size:
    """A model size. `deepen` scales the number of blocks, `widen` the channels; `source` says where it comes from."""

    name: SizeName  # the names that settings allow
    deepen: float
    widen: float
    stages: tuple[Stage, ...]
    final_kernel: int
    source: str
    hidden: int = 256  # width of a keypoint's token in the head
    query: int = 128  # width of query and key in its gated attention

    @property
    def channels(self) -> int:
        """Channels of the last feature map."""
        return int(self.stages[-1].out * self.widen)

    @property
    def stride(self) -> int:
        """Input pixels per cell of the last feature map."""
        stride = 2  # the stem
        for stage in self.stages:
            stride *= stage.stride
        return stride


# CSPNeXt-P5 (RTMDet, arXiv 2212.07784): the stem and four stages, each halving the resolution.
P5 = (Stage(128, 3), Stage(256, 6), Stage(512, 6), Stage(1024, 3, identity=False, spp=True))

# Three stages, the third at stride 1: the map keeps 1/8 of the input (16x12 cells at 128x96). With the published
# 1/32 only 4x3 cells would be left at that input, from which the mean pose is all that is learnt in minutes.
NANO = (Stage(128, 3), Stage(256, 6), Stage(512, 3, spp=True, stride=1))

_RTMPOSE = "RTMPose, arXiv 2303.07399; CSPNeXt-P5"
_OURS = "this project: for the embedded default, see README"

SIZES: dict[str, Size] = {
    size.name: size
    for size in (
        Size("n", 0.167, 0.25, NANO, 1, _OURS, hidden=128, query=64),
        Size("nw", 0.167, 0.5, NANO, 1, _OURS, hidden=128, query=64),
        Size("t", 0.167, 0.375, P5, 7, _RTMPOSE),
        Size("s", 0.33, 0.5, P5, 7, _RTMPOSE),
        Size("m", 0.67, 0.75, P5, 7, _RTMPOSE),
        Size("l", 1.0, 1.0, P5, 7, _RTMPOSE),
        Size("x", 1.33, 1.25, P5, 7, _RTMPOSE),
    )
}
