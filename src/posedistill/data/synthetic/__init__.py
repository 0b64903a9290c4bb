"""People rendered from a parametric body, with exact labels for all 133 keypoints."""

from posedistill.data.synthetic.generate import render_dataset
from posedistill.data.synthetic.scene import SceneOptions

__all__ = ["SceneOptions", "render_dataset"]
