"""Published results on COCO-WholeBody validation (arXiv 2303.07399, 2307.15880): AP in %, detector boxes, flip test.

They stand beside our results for orientation. They are another data set (photographs), other input sizes and far
longer training: not comparable with numbers on rendered people.
"""

import pandas as pd

COLUMNS = ("GMACs", "body", "foot", "face", "hand", "wholebody", "wholebody AR")  # the sources write GFLOPs for GMACs
ROWS = {
    "RTMPose-m 256×192": (2.2, 67.3, 61.5, 81.3, 47.5, 58.2, 67.4),
    "RTMPose-l 256×192": (4.5, 69.5, 65.8, 83.3, 51.9, 61.1, 70.0),
    "RTMPose-l 384×288": (10.1, 71.2, 69.3, 88.2, 57.9, 64.8, 73.0),
    "RTMPose-x 384×288": (18.1, 71.4, 69.2, 88.9, 59.0, 65.3, 73.3),
    "DWPose-t 256×192": (0.5, 58.5, 46.5, 73.5, 35.7, 48.5, 58.4),
    "DWPose-s 256×192": (0.9, 63.3, 53.3, 77.6, 42.7, 53.8, 63.2),
    "DWPose-m 256×192": (2.22, 68.5, 63.6, 82.8, 52.7, 60.6, 69.5),
    "DWPose-l 256×192": (4.52, 70.4, 66.2, 84.3, 56.6, 63.1, 71.7),
    "DWPose-l 384×288": (10.07, 72.2, 70.4, 88.7, 62.1, 66.5, 74.3),
}

# The single published ablation of the distillation (whole-body AP, stage 1 of RTMPose-l): labels alone against the
# teacher's logits alone, without any label.
ABLATION = {"labels only": 60.4, "teacher's logits only, no label": 60.9}

NOTE = (
    "Grey rows: published, on COCO-WholeBody val (photographs), detector boxes. Another data set: "
    "compare differences between rows of one source, never a grey row with one of ours."
)


def frame() -> pd.DataFrame:
    """The rows as a table: index "model input, published", columns COLUMNS."""
    return pd.DataFrame.from_dict(ROWS, orient="index", columns=list(COLUMNS)).rename(index="{}, published".format)
