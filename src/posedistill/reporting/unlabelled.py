"""Tables and figures of the distillation without labels, from the results of `make unlabelled`."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from posedistill.reporting import ablation, published, seeds
from posedistill.reporting.style import BLUE, GREEN, ORANGE, SKY
from posedistill.reporting.tables import Table, row_table

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
    """Mean OKS or AP in %: one row per student, one column per part."""
    return seeds.spread_table(results, metric, results.get("texts", {}))


def students_figure(results: Mapping[str, Any]) -> Figure:
    """Whole-body mean OKS: each student's seeds and their mean; the one trained on labels alone as a line."""
    title = "Whole-body mean OKS, %: each seed, and the mean"
    names = results.get("texts", {})
    return ablation.variants_figure(seeds.by_seed(results), title, names, COLORS, "labels")


def published_table(results: Mapping[str, Any]) -> Table:
    """The two students of the paper's comparison beside its figures."""
    labels, logits = published.ABLATION["labels only"], published.ABLATION["teacher's logits only, no label"]
    rows = {
        "labels alone": {"here": seeds.mean_ap(results, "labels"), "published": labels},
        "the teacher's logits alone, no label": {"here": seeds.mean_ap(results, "logits"), "published": logits},
    }
    notes = (
        "Published: RTMPose-l on COCO-WholeBody val, 256×192, one run each. Here: rendered people, mean over "
        "the seeds. Compare the rows of a column, never the columns."
    )
    return row_table(rows, "whole-body AP, %", "{:.1f}", notes)
