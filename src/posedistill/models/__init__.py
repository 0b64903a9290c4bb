"""CSPNeXt, the RTMPose head, the SimCC codec and checkpoints."""

from posedistill.models.checkpoint import load_backbone, load_checkpoint, model_from_checkpoint, save_checkpoint
from posedistill.models.rtmpose import RTMPose, build_rtmpose

__all__ = [
    "RTMPose",
    "build_rtmpose",
    "load_backbone",
    "load_checkpoint",
    "model_from_checkpoint",
    "save_checkpoint",
]
