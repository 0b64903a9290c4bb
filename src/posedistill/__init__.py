"""Open reproduction of DWPose: whole-body pose estimation by two-stage distillation.

pose = posedistill.load("models/student.onnx")
result = pose(image, [[50, 20, 120, 300]])  # x, y, width, height → keypoints [1, 133, 2], scores [1, 133]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from posedistill.inference.pose import Pose

__version__ = "0.1.0"


def load(path: str | Path, device: str = "auto") -> Pose:
    """The whole-body model in a .safetensors, .pth or .onnx file: see `posedistill.inference.pose.load`."""
    from posedistill.inference.pose import load  # imports torch, which `import posedistill` does not need

    return load(path, device)
