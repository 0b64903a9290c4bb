"""Calibration in reports: reliability diagrams and expected calibration errors."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from posedistill.evaluation.calibrate import Reliability
from posedistill.evaluation.calibration import Calibration
from posedistill.keypoints import PART_NAMES
from posedistill.reporting.style import GREY, PART_COLORS
from posedistill.reporting.tables import Table

SHOWN = (0.25, 0.5, 0.75)  # confidences whose raw scores the table of a calibration gives


def reliability_figure(parts: Mapping[str, Reliability]) -> Figure:
    """Share of right points against confidence, one panel per part; a calibrated model lies on the diagonal."""
    figure, panels = plt.subplots(1, max(len(parts), 1), figsize=(11, 3.1), sharey=True, squeeze=False)
    for panel, (part, one) in zip(panels[0], parts.items()):
        panel.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1)
        panel.plot(100 * one.confidence, 100 * one.right, color=PART_COLORS[part], marker="o")
        panel.set(xlabel="confidence, %", xlim=(0, 100), ylim=(0, 100), aspect="equal")
        panel.set_title(f"{PART_NAMES[part]}: error {100 * one.error:.1f} %")
    panels[0, 0].set_ylabel("points that are right, %")
    return figure


def reliability_alt(parts: Mapping[str, Reliability]) -> str:
    """The figure in words."""
    errors = ", ".join(f"{PART_NAMES[part]} {100 * one.error:.1f} %" for part, one in parts.items())
    return f"Share of right points over the confidence, by part. Expected calibration error: {errors}"


def calibration_table(calibration: Calibration) -> Table:
    """Lowest raw score with each confidence of SHOWN, without and with flip test; – if no score reaches it."""
    rows = {}
    for name, curves in calibration.curves.items():
        for part, curve in curves.items():
            scores = np.linspace(curve.scores[0], curve.scores[-1], 1001)
            found = [scores[curve(scores) >= least] for least in SHOWN]
            key = f"{PART_NAMES[part]}, {'with' if name == 'flip_test' else 'without'} flip test"
            rows[key] = [float(one[0]) if len(one) else None for one in found]
    columns = [f"{100 * least:.0f} %" for least in SHOWN]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("raw score at a confidence of")
    return Table(frame, formats="{:.2f}", notes=f"Fitted on {calibration.persons} persons of {calibration.data}.")
