"""Open reproduction of DWPose: whole-body pose estimation by two-stage distillation.

pose = posedistill.load("models/student.onnx")
result = pose(image, [[50, 20, 120, 300]])  # x, y, width, height → keypoints [1, 133, 2], scores [1, 133]
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from posedistill.inference.pose import Pose

__version__ = "0.1.0"

# How long a thread of PyTorch on the CPU waits actively for the others before it sleeps; read when torch is loaded.
# Without a limit, two threads on a machine whose cores are busy trained 12 times slower than one; with this one 1.8
# times faster.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def load(path: str | Path, device: str = "auto") -> Pose:
    """The whole-body model in a .safetensors, .pth or .onnx file: see `posedistill.inference.pose.load`."""
    from posedistill.inference.pose import load  # imports torch, which `import posedistill` does not need

    return load(path, device)
