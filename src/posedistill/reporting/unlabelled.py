"""Tables and figures of the distillation without labels, from the results of `make unlabelled`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from posedistill.reporting import ablation, published, seeds
from posedistill.reporting.style import BLUE, GREEN, ORANGE, SKY
from posedistill.reporting.tables import Table

COLORS = {"labels": BLUE, "logits": SKY, "features-logits": GREEN, "all": ORANGE}


def data_table(results: Mapping[str, Any]) -> Table:
    """What the students saw: persons, and keypoints with a label, of the training set with labels and without."""
    frame = pd.DataFrame.from_dict(results.get("data", {}), orient="index", columns=["persons", "labelled keypoints"])
    frame.index.name = "training set"
    loss = results.get("label_loss", 0.0)
    return Table(
        frame,
        formats="{:,.0f}",
        notes=f"The same pictures and boxes. Largest label loss in a training without labels: {loss:g}.",
    )


def spread_table(results: Mapping[str, Any], metric: str) -> Table:
    """Mean OKS or AP in %: a row a student, a column a part."""
    return seeds.spread_table(results, metric, results.get("texts", {}))


def students_figure(results: Mapping[str, Any], metric: str = "mean_oks") -> Figure:
    """Whole body: each student's seeds and their mean; the one taught by labels alone as a line throughout."""
    title = f"Whole-body {'mean OKS' if metric == 'mean_oks' else metric}, %: each seed, and the mean"
    names = results.get("texts", {})
    return ablation.variants_figure(seeds.by_seed(results, metric), title, names, COLORS, "labels")


def published_table(results: Mapping[str, Any]) -> Table:
    """The two students of the paper's comparison beside its figures."""

    def ours(variant: str) -> float | None:
        found = results["models"].get(variant, {}).values()
        return 100 * float(np.mean([seed["AP"]["wholebody"] for seed in found])) if found else None

    rows = {
        "labels alone": (ours("labels"), published.ABLATION["labels only"]),
        "the teacher's logits alone, no label": (
            ours("logits"),
            published.ABLATION["teacher's logits only, no label"],
        ),
    }
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["here", "published"])
    frame.index.name = "whole-body AP, %"
    return Table(
        frame,
        formats="{:.1f}",
        notes="Published: RTMPose-l on COCO-WholeBody val, 256×192, one run each. Here: rendered people, mean over the "
        "seeds. Compare the rows of a column, never the columns.",
    )
