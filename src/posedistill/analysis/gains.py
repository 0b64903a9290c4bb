"""Where a gain comes from: points that were labelled in training, and points that mostly were not."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from posedistill.analysis.body_map import body_map
from posedistill.analysis.weaknesses import Paired
from posedistill.data.store.arrow import TrainStore
from posedistill.evaluation.bootstrap import draws
from posedistill.keypoints import PART_NAMES, PARTS
from posedistill.reporting.comparison import Difference
from posedistill.reporting.curves import panels
from posedistill.reporting.style import MODEL_NAMES, PART_COLORS
from posedistill.reporting.tables import Table, row_table

COVERED = 2 / 3  # of a point's share of labels in validation: below it, training mostly went without
MARKERS = dict(zip(PARTS, "osD<>", strict=True))
STUDENTS = ("stage1", "stage2")


def label_rates(train: str | Path = "prepared/train") -> NDArray[np.float64]:
    """Share of the training persons in whom each keypoint is labelled: [133] in [0, 1]."""
    return (TrainStore(train).column("keypoints")[..., 2] > 0).mean(axis=0)


def train_persons(train: str | Path = "prepared/train") -> int:
    """How many persons the models were trained on."""
    return len(TrainStore(train))


def point_gains(paired: Mapping[str, Paired], model: str, baseline: str = "baseline") -> NDArray[np.float64]:
    """Gain of a model over the baseline in mean similarity of each keypoint, in points: [133]; NaN without labels."""
    with np.errstate(invalid="ignore"):
        difference = paired[model].similarity - paired[baseline].similarity
        count = np.isfinite(difference).sum(axis=0)
        return np.where(count > 0, 100 * np.nansum(difference, axis=0) / np.maximum(count, 1), np.nan)


def gain_maps(paired: Mapping[str, Paired], models: Sequence[str] = STUDENTS) -> dict[str, Figure]:
    """Each model's gain over the baseline drawn on the body, all on one scale: model → figure."""
    values = {model: point_gains(paired, model) for model in models}
    present = np.abs(np.concatenate(list(values.values())))
    present = present[np.isfinite(present)]
    limit = float(np.percentile(present, 98)) if len(present) else None
    return {
        model: body_map(one, f"{MODEL_NAMES[model]} − baseline: gain in similarity", "points", signed=True, limit=limit)
        for model, one in values.items()
    }


def gain_table(
    paired: Mapping[str, Paired],
    image: NDArray,
    rates: NDArray,
    samples: int,
    seed: int,
    models: Sequence[str] = STUDENTS,
) -> Table:
    """Similarity of the baseline, and gains over it: a row for each part, then for all points that are labelled in
    training about as often as in validation, and for those that mostly are not.

    image: [N], the image of each pair. rates: [133], from `label_rates`.

    Intervals: 95 %, paired bootstrap over the images.
    """
    base = paired["baseline"].similarity
    seen = np.isfinite(base)
    covered = rates / np.maximum(seen.mean(axis=0), 1e-9)
    groups = {PART_NAMES[part]: np.arange(where.start, where.stop) for part, where in PARTS.items()}
    groups["all points labelled in training"] = np.flatnonzero(covered >= COVERED)
    groups["all points mostly not labelled"] = np.flatnonzero(covered < COVERED)
    rows = {}
    for name, which in groups.items():
        if len(which) and seen[:, which].any():
            row = {
                "points": str(len(which)),
                "labelled in training, %": f"{100 * rates[which].mean():.0f}",
                "in validation, %": f"{100 * seen[:, which].mean():.0f}",
                "baseline": f"{100 * base[:, which][seen[:, which]].mean():.1f}",
            }
            for model in models:
                difference = paired[model].similarity[:, which] - base[:, which]
                row[f"{MODEL_NAMES[model]} [95 %]"] = str(_gain(difference, image, samples, seed))
            rows[name] = row
    notes = (
        f"Similarity: what a point contributes to OKS, mean over the labelled validation points of n = {len(base):,} "
        f"persons, in %; the last columns are gains over the baseline in points, one training seed. A point counts as "
        f"labelled in training where its share there is at least {100 * COVERED:.0f} % of that in validation."
    )
    return row_table(rows, "where", notes=notes)


def _gain(difference: NDArray, image: NDArray, samples: int, seed: int) -> Difference:
    """Mean of the difference [N, k] over its finite entries, with its interval over the images."""
    images, place = np.unique(image, return_inverse=True)
    sums, counts = np.zeros(len(images)), np.zeros(len(images))
    np.add.at(sums, place, np.nansum(difference, axis=1))
    np.add.at(counts, place, np.isfinite(difference).sum(axis=1))
    weights = draws(len(images), max(samples, 1), seed).astype(np.float64)
    drawn = (weights @ sums) / np.maximum(weights @ counts, 1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Difference.of((float(sums.sum() / max(counts.sum(), 1)), float(low), float(high)))


def gain_figure(paired: Mapping[str, Paired], rates: NDArray, models: Sequence[str] = STUDENTS) -> Figure:
    """Each keypoint's gain over the baseline against the share of training persons in whom it was labelled."""
    figure, axes = panels(len(models), 3.6)
    values = {model: point_gains(paired, model) for model in models}
    present = np.concatenate([one[np.isfinite(one)] for one in values.values()])
    low, high = (min(0.0, present.min()), max(0.0, present.max())) if len(present) else (0.0, 1.0)
    margin = 0.08 * (high - low) or 1.0
    for axis, (model, gains) in zip(axes, values.items()):
        for part, where in PARTS.items():
            axis.scatter(
                100 * rates[where], gains[where], s=22, marker=MARKERS[part], color=PART_COLORS[part],
                edgecolors="white", linewidths=0.4, label=PART_NAMES[part],
            )  # fmt: skip
        axis.axhline(0, color="#000000", lw=1)
        axis.set(title=f"{MODEL_NAMES[model]} − baseline", xlabel="labelled in training, % of persons", xlim=(-3, 103))
        axis.set_ylim(low - margin, high + margin)
    axes[0].set_ylabel("gain in similarity, points")
    axes[-1].legend(loc="best", fontsize=8, handletextpad=0.2)
    return figure
