"""Open reproduction of DWPose: whole-body pose estimation by two-stage distillation.

pose = posedistill.load("models/student.onnx")
found = pose(image, [[50, 20, 120, 300]])  # RGB uint8 [H, W, 3]; x, y, width, height in pixels
found.keypoints, found.scores, found.confidence  # [1, 133, 2], [1, 133], [1, 133]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from posedistill.evaluation.pose import Pose, Score

__version__ = "0.1.0"


def load(path: str | Path, device: str = "auto", *, flip_test: bool = False, score: Score = "min") -> Pose:
    """The whole-body model in a .safetensors, .pth or .onnx file, to be called with an image and boxes.

    device: auto (the GPU if there is one), cpu or cuda. flip_test: mean of the image and its mirror, better, half as
    fast. score: min or mean, see `posedistill.evaluation.pose.Pose`. Raises posedistill.errors.UserError if the file is
    missing, damaged or no whole-body model, or if there is no such device.
    """
    from posedistill.inference.pose import load  # imports torch, which `import posedistill` does not need

    return load(path, device, flip_test=flip_test, score=score)
