"""Tables of a model's weaknesses, from one matched evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from posedistill.evaluation.accumulate import curves
from posedistill.evaluation.matching import match_parts
from posedistill.evaluation.oks import keypoint_similarity, pair_oks
from posedistill.evaluation.wholebody import Matched
from posedistill.keypoints import NAMES, PARTS

SIZE_EDGES = (0, 32, 64, 96, 160, 256)  # square root of a person's area in pixels
PCK = (0.02, 0.05, 0.1)  # of the longer side of the person's box


@dataclass(frozen=True)
class Paired:
    """N labelled persons, each with the prediction assigned to it."""

    person: np.ndarray  # [N] position in the truth
    predicted: np.ndarray  # [N] position in the predictions
    oks: np.ndarray  # [N] whole-body OKS
    similarity: np.ndarray  # [N, 133] in [0, 1]; NaN where not labelled
    distance: np.ndarray  # [N, 133] pixels / longer side of the person's box; NaN where not labelled


def pair_persons(matched: Matched) -> Paired:
    """Each labelled person with the prediction from its own box, or else with the one of highest whole-body OKS.

    Persons in images without predictions are left out.
    """
    truth, predictions = matched.truth, matched.predictions
    labelled = truth.keypoints[:, :, 2] > 0
    persons = np.flatnonzero(labelled.any(axis=1) & ~truth.crowd)
    if (predictions.annotation_id >= 0).any():
        place = {annotation: d for d, annotation in enumerate(predictions.annotation_id.tolist())}
        predicted = np.array([place.get(one, -1) for one in truth.annotation_id[persons].tolist()], dtype=np.int64)
    else:
        predicted = _nearest(matched, persons)
    persons, predicted = persons[predicted >= 0], predicted[predicted >= 0]
    points = predictions.keypoints[predicted]
    missing = ~labelled[persons]
    similarity = keypoint_similarity(truth, persons, points)
    distance = np.linalg.norm(points[:, :, :2] - truth.keypoints[persons, :, :2], axis=2)
    distance /= np.maximum(truth.box[persons, 2:].max(axis=1), 1)[:, None]
    similarity[missing] = distance[missing] = np.nan
    return Paired(
        persons, predicted, np.nanmean(similarity, axis=1) if len(persons) else np.empty(0), similarity, distance
    )


def _nearest(matched: Matched, persons: np.ndarray) -> np.ndarray:
    truth, predictions = matched.truth, matched.predictions
    order = np.argsort(predictions.image, kind="stable")
    first = np.searchsorted(predictions.image[order], truth.image[persons], side="left")
    count = np.searchsorted(predictions.image[order], truth.image[persons], side="right") - first
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    candidate = order[np.repeat(first, count) + within]
    owner = np.repeat(np.arange(len(persons)), count)
    oks = pair_oks(truth, persons[owner], predictions.keypoints, candidate)[:, -1]
    best = np.full(len(persons), -1, dtype=np.int64)
    rising = np.lexsort((oks, owner))
    best[owner[rising]] = candidate[rising]  # the last one written, that with the highest OKS, stays
    return best


def keypoint_table(paired: Paired) -> pd.DataFrame:
    """Per keypoint: number of labels, mean similarity, median normalised error, and PCK at shares of the box."""
    return pd.DataFrame(
        [
            {"keypoint": NAMES[k], "part": part, **_errors(paired, slice(k, k + 1))}
            for part, where in PARTS.items()
            for k in range(where.start, where.stop)
        ]
    )


def part_table(paired: Paired) -> pd.DataFrame:
    """The same per part, over all its labelled keypoints."""
    return pd.DataFrame([{"part": part, **_errors(paired, where)} for part, where in PARTS.items()])


def _errors(paired: Paired, where: slice) -> dict[str, float]:
    error = paired.distance[:, where]
    error = error[~np.isnan(error)]
    return {
        "labelled": len(error),
        "similarity": _mean(paired.similarity[:, where]),
        "error": float(np.median(error)) if len(error) else np.nan,
        **{f"PCK@{share:g}": float((error <= share).mean()) if len(error) else np.nan for share in PCK},
    }


def lost_oks_table(paired: Paired) -> pd.DataFrame:
    """How much of the whole-body OKS each part loses: mean over persons of Σ (1 − similarity) / labelled keypoints.

    The column `lost` adds up to 1 − mean OKS, the column `share` to 1.
    """
    labelled = ~np.isnan(paired.similarity)
    lost = np.where(labelled, 1 - paired.similarity, 0) / np.maximum(labelled.sum(axis=1, keepdims=True), 1)
    by_part = {part: _mean(lost[:, where].sum(axis=1)) for part, where in PARTS.items()}
    total = sum(by_part.values())
    rows = [
        {
            "part": part,
            "lost": value,
            "share": value / total if total else 0.0,
            "keypoints": int(labelled[:, PARTS[part]].sum()),
        }
        for part, value in by_part.items()
    ]
    return pd.DataFrame(rows)


def size_table(matched: Matched) -> pd.DataFrame:
    """AP by the size of the person (square root of its area, SIZE_EDGES): a row for each range; NaN where empty."""
    edges = [*(float(edge) ** 2 for edge in SIZE_EDGES), 1e10]
    ranges = [(low, np.nextafter(high, 0)) for low, high in pairwise(edges)]
    found = match_parts(matched.truth, matched.predictions, ranges)
    precision = {part: curves(found[part]).precision for part in ("wholebody", *PARTS)}
    rows = []
    for i, low in enumerate(SIZE_EDGES):
        high = SIZE_EDGES[i + 1] if i + 1 < len(SIZE_EDGES) else None
        row: dict = {"size": f"{low}–{high} px" if high else f"> {low} px"}
        row["persons"] = int(found["wholebody"].persons[i].sum())
        for part, values in precision.items():
            row[part] = float(values[i].mean()) if values[i].mean() > -1 else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def worst_persons(matched: Matched, paired: Paired, count: int = 16) -> pd.DataFrame:
    """The persons with the lowest whole-body OKS: ids, OKS, position in truth and predictions, most lost part."""
    order = np.argsort(paired.oks, kind="stable")[:count]
    labelled = ~np.isnan(paired.similarity)
    lost = np.where(labelled, 1 - paired.similarity, 0)
    by_part = np.stack([lost[:, where].sum(axis=1) for where in PARTS.values()], axis=1)
    truth = matched.truth
    return pd.DataFrame(
        {
            "image_id": truth.image_ids[truth.image[paired.person[order]]],
            "annotation_id": truth.annotation_id[paired.person[order]],
            "oks": paired.oks[order],
            "lost_most": [list(PARTS)[i] for i in by_part[order].argmax(axis=1)] if len(order) else [],
            "person": paired.person[order],
            "predicted": paired.predicted[order],
        }
    )


def _mean(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
