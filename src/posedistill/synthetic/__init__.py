"""People rendered from a parametric body, with exact labels for all 133 keypoints."""

from posedistill.synthetic.generate import render_dataset
from posedistill.synthetic.scene import SceneOptions

__all__ = ["SceneOptions", "render_dataset"]
