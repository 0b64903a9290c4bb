"""The same metrics by pycocotools' own COCOeval: slow, the oracle for ours (`--reference`)."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from posedistill.errors import UserError
from posedistill.evaluation.accumulate import METRICS
from posedistill.evaluation.records import ALL_PARTS, PART_SLICES, read_ground_truth, read_predictions
from posedistill.keypoints import SIGMAS


def evaluate_with_pycocotools(gt: Any, dt: Any, *, use_area: bool = True) -> dict[str, dict[str, float]]:
    """Each of ALL_PARTS as a plain COCO keypoint task for COCOeval → part → ten metrics."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise UserError("the reference evaluation needs pycocotools: pip install pycocotools") from None
    truth = read_ground_truth(gt, use_area=use_area)
    predictions = read_predictions(dt, truth)
    images = [{"id": image_id} for image_id in truth.image_ids.tolist()]
    result = {}
    for i, part in enumerate(ALL_PARTS):
        keypoints = truth.keypoints[:, PART_SLICES[part]]
        persons = [
            {
                "id": g + 1,  # not the annotation's: COCOeval reads a match with id 0 as none (cocoapi#332)
                "image_id": images[truth.image[g]]["id"],
                "category_id": 1,
                "bbox": truth.box[g].tolist(),
                "area": float(truth.area[g]),
                "iscrowd": int(truth.crowd[g]),
                "keypoints": keypoints[g].ravel().tolist(),
                "num_keypoints": int((keypoints[g, :, 2] > 0).sum()),
            }
            for g in range(len(truth.image))
        ]
        guesses = [
            {
                "id": d + 1,
                "image_id": images[predictions.image[d]]["id"],
                "category_id": 1,
                "keypoints": predictions.keypoints[d, PART_SLICES[part]].ravel().tolist(),
                "score": float(predictions.score[d, i]),
                "area": float(predictions.area[d]),
            }
            for d in range(len(predictions.image))
            if (predictions.keypoints[d, PART_SLICES[part], 2] > 0).any()
        ]
        with contextlib.redirect_stdout(io.StringIO()):  # COCOeval prints its results
            judge = COCOeval(_coco(COCO, images, persons), _coco(COCO, images, guesses), "keypoints")
            judge.params.kpt_oks_sigmas = np.asarray(SIGMAS[PART_SLICES[part]])
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        result[part] = dict(zip(METRICS, map(float, judge.stats)))
    return result


def _coco(kind: Any, images: list[dict], entries: list[dict]) -> Any:
    # not loadRes: it would take the prediction's area from the part, and cannot take an empty list
    coco = kind()
    coco.dataset = {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "person"}]}
    coco.createIndex()
    return coco
