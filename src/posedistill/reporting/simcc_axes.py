"""Decoding of one keypoint: the crop with its two SimCC axes."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from posedistill.keypoints import NAMES, PART_NAMES, PARTS
from posedistill.models.simcc import SPLIT_RATIO

_LINE, _MARK = "#0072B2", "#D55E00"


def axes_figure(crop: NDArray[np.uint8], simcc_x: NDArray, simcc_y: NDArray, keypoint: str | int) -> Figure:
    """The crop [H, W, 3] with one keypoint marked, its logits over x below and over y on the right.

    `simcc_x` [133, 2W] and `simcc_y` [133, 2H] are the person's logits; ValueError for an unknown keypoint.
    """
    index = NAMES.index(keypoint) if isinstance(keypoint, str) else int(keypoint)
    height, width = crop.shape[:2]
    along_x, along_y = simcc_x[index], simcc_y[index]
    x, y = along_x.argmax() / SPLIT_RATIO, along_y.argmax() / SPLIT_RATIO
    figure, panels = plt.subplots(
        *(2, 2),
        figsize=(6.4, 6.4 * (height + 0.5 * width) / (1.5 * width)),
        gridspec_kw={"width_ratios": [2, 1], "height_ratios": [2 * height / width, 1]},
    )
    (picture, right), (below, corner) = panels
    corner.axis("off")
    picture.imshow(crop)
    picture.scatter([x], [y], s=60, facecolors="none", edgecolors=_MARK, linewidths=2)
    picture.set(title=f"{NAMES[index]}: score {min(along_x.max(), along_y.max()):.2f}", xticks=[], yticks=[])
    picture.grid(False)
    below.plot(np.arange(len(along_x)) / SPLIT_RATIO, along_x, color=_LINE)
    below.axvline(x, color=_MARK, linestyle="--", linewidth=1)
    below.set(xlim=(0, width), xlabel="x, pixels of the input", ylabel="logit")
    right.plot(along_y, np.arange(len(along_y)) / SPLIT_RATIO, color=_LINE)
    right.axhline(y, color=_MARK, linestyle="--", linewidth=1)
    right.set(ylim=(height, 0), ylabel="y, pixels of the input", xlabel="logit")
    return figure


def figure_image(figure: Figure) -> Image.Image:
    """A figure as a picture, which a notebook shows whatever its plotting backend is; closes the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return Image.open(buffer).convert("RGB")


def score_table(scores: NDArray, confidence: NDArray) -> pd.DataFrame:
    """Scores and confidence [133] of one person: one row per part, with lowest, mean and highest score, and the share
    of its points that is expected to be right (NaN without calibration)."""
    rows = {
        PART_NAMES[part]: {
            "points": where.stop - where.start,
            "lowest": scores[where].min(),
            "mean": scores[where].mean(),
            "highest": scores[where].max(),
            "mean confidence": confidence[where].mean(),
        }
        for part, where in PARTS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("part")
