"""RTMPose: CSPNeXt and the SimCC head, put together by size and input."""

from torch import Tensor, nn

from posedistill.errors import UserError
from posedistill.keypoints import NAMES
from posedistill.models.cspnext import CSPNeXt
from posedistill.models.head import RTMCCHead
from posedistill.models.sizes import SIZES, Size

INPUT_MULTIPLE = 16  # pixels; the published sizes are multiples of 32, the stride of their backbone


class RTMPose(nn.Module):
    """Images [B, 3, H, W], normalised → SimCC logits (x [B, K, 2W], y [B, K, 2H]).

    Attributes: `backbone`, `head`, `size` (a row of the size table), `input_size` (height, width), `keypoints` K, and
    `feature_channels` C of the backbone's map.
    """

    def __init__(self, size: Size, input_size: tuple[int, int], keypoints: int) -> None:
        super().__init__()
        self.size = size
        self.input_size = input_size
        self.keypoints = keypoints
        self.feature_channels = size.channels
        self.backbone = CSPNeXt(size)
        self.head = RTMCCHead(size, input_size, keypoints)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.features_and_logits(images)[1]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Both that a teacher can show: its map [B, C, h, w] and the SimCC logits."""
        features = self.backbone(images)
        return features, self.head(features)


def build_rtmpose(size: str, input_size: tuple[int, int] = (256, 192), keypoints: int = len(NAMES)) -> RTMPose:
    """A model with fresh weights, drawn from torch's generator.

    Args:
        size: n, nw, t, s, m, l or x (`posedistill.models.sizes`).
        input_size: (height, width) in pixels, each a multiple of 16.
        keypoints: number of keypoints.

    Raises:
        UserError: an unknown size, or an input size that 16 does not divide.
    """
    if size not in SIZES:
        raise UserError(f"model size {size!r}: unknown, allowed: {', '.join(SIZES)}")
    height, width = (int(side) for side in input_size)
    if height < INPUT_MULTIPLE or width < INPUT_MULTIPLE or height % INPUT_MULTIPLE or width % INPUT_MULTIPLE:
        raise UserError(f"input size {height}×{width}: height and width must be multiples of {INPUT_MULTIPLE}")
    return RTMPose(SIZES[size], (height, width), keypoints)
