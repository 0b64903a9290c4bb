"""The files of an evaluation: equal runs write equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posedistill.evaluation.evaluate import DIGITS
from posedistill.evaluation.mean_oks import PersonOks
from posedistill.evaluation.records import ALL_PARTS, load_json
from posedistill.files import dumps_json, write_atomic
from posedistill.keypoints import MAIN_PARTS

PREDICTIONS = Path("predictions")
METRICS = Path("reports/metrics")


def predictions_file(model: str, other_set: str | None = None, folder: Path = PREDICTIONS) -> Path:
    """COCO results of a model: predictions/<model>.json on the first validation set (by name), which the summary shows,
    and predictions/<model>/<set>.json on a further one."""
    return folder / f"{model}.json" if other_set is None else folder / model / f"{other_set}.json"


def person_oks_file(model: str, val_set: str, folder: Path = PREDICTIONS) -> Path:
    """OKS of each person of a validation set, also of the first one: predictions/<model>/<set>-oks.json."""
    return folder / model / f"{val_set}-oks.json"


def write_json(path: str | Path, content: Any, *, pretty: bool = True) -> None:
    """Write `content` as JSON, indented unless not `pretty`, with a final newline."""
    write_atomic(path, dumps_json(content, pretty=pretty))


def write_person_oks(path: str | Path, persons: PersonOks) -> None:
    """One row a person: annotation_id, image_id and the OKS of each part (null where it has no labelled keypoint)."""
    rows = [
        {
            "annotation_id": annotation,
            "image_id": image,
            "oks": [None if np.isnan(x) else round(x, DIGITS) for x in oks],
        }
        for annotation, image, oks in zip(
            persons.annotation_id.tolist(), persons.image_id.tolist(), persons.oks.tolist()
        )
    ]
    write_json(path, {"parts": list(ALL_PARTS), "persons": rows}, pretty=False)


def read_person_oks(path: str | Path) -> PersonOks:
    """Read a file of write_person_oks. UserError if it is missing or broken."""
    rows = load_json(path, "OKS of persons")[0]["persons"]
    oks = np.array([[np.nan if x is None else x for x in row["oks"]] for row in rows], dtype=np.float64)
    return PersonOks(
        np.array([row["annotation_id"] for row in rows], dtype=np.int64),
        np.array([row["image_id"] for row in rows]),
        oks.reshape(-1, len(ALL_PARTS)),
    )


def summarise(
    metric_files: Sequence[str | Path] | Mapping[str, str | Path], path: str | Path = METRICS / "summary.json"
) -> dict:
    """Write model → AP of the whole body, body, feet, face and hands, and their `mean_oks`, from files of metrics.

    Models are named after their files, or as the mapping says. Returns what was written.
    """
    named = metric_files if isinstance(metric_files, Mapping) else {Path(file).stem: file for file in metric_files}
    summary: dict[str, dict[str, Any]] = {}
    for model, file in named.items():
        metrics = load_json(file, "metrics")[0]
        summary[model] = {part: metrics[part]["AP"] for part in MAIN_PARTS}
        if "mean_oks" in metrics:
            summary[model]["mean_oks"] = {part: metrics["mean_oks"][part] for part in MAIN_PARTS}
    write_json(path, summary)
    return summary
