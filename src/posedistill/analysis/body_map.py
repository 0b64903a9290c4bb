"""A value for each of the 133 keypoints, drawn at its place on a body, a face and two hands."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from posedistill.keypoints import FINGERS, NAMES, PARTS, SKELETON
from posedistill.reporting.tables import number

# The person faces the reader: its right side is on the left of the picture. x to the right, y down, in arbitrary units;
# of each pair of limbs only the person's left one is listed.
_LEFT = {
    "eye": (0.27, -0.30),
    "ear": (0.58, -0.12),
    "shoulder": (0.72, 0.75),
    "elbow": (1.12, 1.75),
    "wrist": (1.32, 2.72),
    "hip": (0.45, 2.75),
    "knee": (0.55, 4.2),
    "ankle": (0.55, 5.6),
    "heel": (0.38, 5.95),
    "big_toe": (0.68, 6.15),
    "small_toe": (0.98, 5.95),
}
# The 68 face points; of each pair the one on the reader's left (the person's right), with x = 0 in the middle.
_BROW = ((-0.80, -0.52), (-0.66, -0.66), (-0.49, -0.70), (-0.33, -0.66), (-0.18, -0.58))
_EYE = ((-0.64, -0.36), (-0.53, -0.45), (-0.38, -0.45), (-0.26, -0.34), (-0.38, -0.28), (-0.53, -0.28))
_NOSE = ((0, -0.36), (0, -0.20), (0, -0.04), (0, 0.12))
_NOSTRILS = ((-0.22, 0.24), (-0.11, 0.28), (0, 0.31), (0.11, 0.28), (0.22, 0.24))
_LIPS = (
    *((-0.42, 0.60), (-0.27, 0.52), (-0.10, 0.48), (0, 0.50), (0.10, 0.48), (0.27, 0.52), (0.42, 0.60)),
    *((0.27, 0.72), (0.10, 0.77), (0, 0.78), (-0.10, 0.77), (-0.27, 0.72)),
    *((-0.34, 0.60), (-0.11, 0.57), (0, 0.58), (0.11, 0.57), (0.34, 0.60), (0.11, 0.66), (0, 0.67), (-0.11, 0.66)),
)
_RIGHT_EYE_ORDER = (3, 2, 1, 0, 5, 4)  # mirrored points of an eye, in the order of the other
_FINGER_ANGLES = (52, 22, 4, -12, -28)  # degrees from straight up towards the thumb's side
_FINGER_LENGTHS = (0.95, 1.45, 1.55, 1.45, 1.2)
# What the four panels show, and their keypoints.
_PANELS: dict[str, tuple[str, ...]] = {
    "body and feet": ("body", "foot"),
    "face": ("face",),
    "right hand": ("righthand",),
    "left hand": ("lefthand",),
}


def layout() -> NDArray[np.float64]:
    """Places [133, 2] (x, y down) of the keypoints; each part has its own unit."""
    places = np.zeros((len(NAMES), 2))
    for k, name in enumerate(NAMES[: PARTS["face"].start]):
        side, _, joint = name.partition("_")
        if joint:
            x, y = _LEFT[joint]
            places[k] = (x if side == "left" else -x, y)
    places[PARTS["face"]] = _face()
    places[PARTS["lefthand"]] = _hand(1)
    places[PARTS["righthand"]] = _hand(-1)
    return places


def _face() -> NDArray[np.float64]:
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([np.cos(angle), 1.15 * np.sin(angle) - 0.25], axis=1)
    brow, eye = np.array(_BROW), np.array(_EYE)
    mirror = np.array([-1, 1])
    other_eye = (eye * mirror)[list(_RIGHT_EYE_ORDER)]
    return np.concatenate([jaw, brow, (brow * mirror)[::-1], _NOSE, _NOSTRILS, eye, other_eye, _LIPS])


def _hand(side: int) -> NDArray[np.float64]:
    """A hand with its fingers up, its palm to the reader; `side` 1: the person's left, whose thumb is on the left."""
    points = [(0.0, 0.0)]
    for angle, length in zip(np.radians(_FINGER_ANGLES), _FINGER_LENGTHS, strict=True):
        start = 0.35 if angle > 0.7 else 0.9  # the thumb begins near the wrist
        for share in (0, 0.4, 0.7, 1):
            reach = start + share * (length - 0.35)
            points.append((-side * reach * np.sin(angle), -reach * np.cos(angle)))
    assert len(points) == 1 + 4 * len(FINGERS)
    return np.array(points)


def body_map(
    values: Sequence[float] | NDArray, title: str, unit: str, *, signed: bool = False, limit: float | None = None
) -> Figure:
    """One value for each of the 133 keypoints as a colour; NaN is hollow. `unit` labels the scale.

    `signed`: differences, on a scale from brown (below 0) over white to green (above); otherwise light is small, dark
    large. Both are told apart in all common kinds of colour blindness and in print. `limit`: end of the scale.
    """
    values = np.asarray(values, np.float64)
    present = values[np.isfinite(values)]
    end = limit or (float(np.percentile(np.abs(present), 98)) if len(present) else 1.0) or 1.0
    norm = TwoSlopeNorm(0, -end, end) if signed else Normalize(0, end)
    figure, axes = plt.subplots(1, 4, figsize=(9, 4.2), gridspec_kw={"width_ratios": [3, 3, 2.2, 2.2]})
    places = layout()
    for axis, (name, parts) in zip(axes, _PANELS.items(), strict=True):
        which = np.concatenate([np.arange(PARTS[part].start, PARTS[part].stop) for part in parts])
        drawn = _draw(axis, places, values, which, norm, "BrBG" if signed else "cividis_r")
        mean = np.nanmean(values[which]) if np.isfinite(values[which]).any() else np.nan
        axis.set_title(f"{name}\nmean {number(mean, '+.1f' if signed else '.1f')}", fontsize=10, loc="center")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.colorbar(drawn, ax=axes, label=unit, extend="both" if signed else "max", aspect=30, pad=0.01)
    return figure


def _draw(axes: Axes, places: NDArray, values: NDArray, which: NDArray, norm: Normalize, colors: str):
    """One panel: links in grey, points coloured by their value."""
    inside = set(which.tolist())
    for a, b in SKELETON:
        if a in inside and b in inside:
            axes.plot(*places[[a, b]].T, color="#BDBDBD", lw=1.2, zorder=1)
    size = 70 if len(which) < 40 else 42
    known = which[np.isfinite(values[which])]
    unknown = np.setdiff1d(which, known)
    x, y = places.T
    axes.scatter(x[unknown], y[unknown], s=size, facecolors="none", edgecolors="#BDBDBD", zorder=2)
    style: dict[str, Any] = {"cmap": colors, "norm": norm, "edgecolors": "#444444", "linewidths": 0.6, "zorder": 3}
    drawn = axes.scatter(x[known], y[known], c=values[known], s=size, **style)
    axes.set_aspect("equal")
    axes.margins(0.12)
    axes.invert_yaxis()
    axes.set_axis_off()
    return drawn
