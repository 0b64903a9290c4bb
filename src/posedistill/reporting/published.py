"""Published results on COCO-WholeBody validation (arXiv 2303.07399, 2307.15880): AP in %, detector boxes, flip test.

They stand beside our results for orientation. They are another data set (photographs), other input sizes and far
longer training: not comparable with numbers on rendered people.
"""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Published:
    """One row: `wholebody_ar` may be unknown; `gmacs` as the sources count (they write GFLOPs)."""

    name: str
    input: str
    gmacs: float
    body: float
    foot: float
    face: float
    hand: float
    wholebody: float
    wholebody_ar: float


ROWS = (
    Published("RTMPose-m", "256×192", 2.2, 67.3, 61.5, 81.3, 47.5, 58.2, 67.4),
    Published("RTMPose-l", "256×192", 4.5, 69.5, 65.8, 83.3, 51.9, 61.1, 70.0),
    Published("RTMPose-l", "384×288", 10.1, 71.2, 69.3, 88.2, 57.9, 64.8, 73.0),
    Published("RTMPose-x", "384×288", 18.1, 71.4, 69.2, 88.9, 59.0, 65.3, 73.3),
    Published("DWPose-t", "256×192", 0.5, 58.5, 46.5, 73.5, 35.7, 48.5, 58.4),
    Published("DWPose-s", "256×192", 0.9, 63.3, 53.3, 77.6, 42.7, 53.8, 63.2),
    Published("DWPose-m", "256×192", 2.22, 68.5, 63.6, 82.8, 52.7, 60.6, 69.5),
    Published("DWPose-l", "256×192", 4.52, 70.4, 66.2, 84.3, 56.6, 63.1, 71.7),
    Published("DWPose-l", "384×288", 10.07, 72.2, 70.4, 88.7, 62.1, 66.5, 74.3),
)

# The single published ablation of the distillation (whole-body AP, stage 1 of RTMPose-l): labels alone against the
# teacher's logits alone, without any label.
ABLATION = {"labels only": 60.4, "teacher's logits only, no label": 60.9}

NOTE = (
    "Grey rows: published, on COCO-WholeBody val (photographs), detector boxes. Another data set: "
    "compare differences between rows of one source, never a grey row with one of ours."
)


def frame() -> pd.DataFrame:
    """The rows as a table: index "model input", columns body, foot, face, hand, wholebody, AR, GMACs."""
    return pd.DataFrame(
        {
            "body": [row.body for row in ROWS],
            "foot": [row.foot for row in ROWS],
            "face": [row.face for row in ROWS],
            "hand": [row.hand for row in ROWS],
            "wholebody": [row.wholebody for row in ROWS],
            "wholebody AR": [row.wholebody_ar for row in ROWS],
            "GMACs": [row.gmacs for row in ROWS],
        },
        index=[f"{row.name} {row.input}, published" for row in ROWS],
    )
