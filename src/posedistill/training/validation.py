"""A quick validation during training."""

import math
from dataclasses import fields
from typing import Any

import numpy as np

from posedistill.data.feed.loader import val_batches
from posedistill.data.store.arrow import ValPersons, ValStore
from posedistill.devices import Device
from posedistill.evaluation.mean_oks import mean_oks
from posedistill.evaluation.predict import predict_batches
from posedistill.evaluation.records import load_json
from posedistill.evaluation.wholebody import evaluate_wholebody
from posedistill.models.rtmpose import RTMPose

BATCH = 64
NMS = 0.9  # OKS-NMS, as published
PART = 100  # images of a validation that comes more often than once an epoch


def validation(
    model: RTMPose, store: ValStore, input_size: tuple[int, int], device: Device, *, whole: bool = True
) -> dict[str, float]:
    """Whole-body AP (`val_ap`) and mean OKS (`val_oks`, where boxes are the persons' own) in [0, 1] of `model` on a
    validation store, or unless `whole` on PART images evenly spread over it. NaN if a prediction is not finite.

    Without flip test: half the time, and models keep their order. The stage `evaluate` gives the numbers to report.
    """
    truth, persons = load_json(store.ground_truth, "ground truth")[0], store.persons
    if not whole and len(store.images) > PART:
        images = store.image_ids[np.linspace(0, len(store.images) - 1, PART).astype(np.int64)]
        truth, persons = _only(truth, images), _taken(persons, np.isin(persons.image_id, images))
    with device.autocast():
        workers = device.workers if whole else 0  # starting them takes longer than a part
        batches = val_batches(store, input_size, BATCH, persons=persons, workers=workers)
        poses = predict_batches(model, batches, device=device.device, flip_test=False)
    if not all(np.isfinite(values).all() for values in (poses.keypoints, poses.keypoint_scores, poses.score)):
        return {"val_ap": math.nan}
    found = evaluate_wholebody(truth, poses.without_duplicates(NMS).results())
    values = {"val_ap": max(0.0, found["wholebody"]["AP"])}
    if (poses.annotation_id >= 0).any():
        values["val_oks"] = max(0.0, mean_oks(truth, poses.results())["wholebody"])
    return values


def _taken(persons: ValPersons, rows: np.ndarray) -> ValPersons:
    """Some of the boxes."""
    return ValPersons(**{column.name: getattr(persons, column.name)[rows] for column in fields(persons)})


def _only(truth: dict[str, Any], images: np.ndarray) -> dict[str, Any]:
    """Ground truth of some images."""
    kept = set(images.tolist())
    return truth | {
        "images": [image for image in truth["images"] if image["id"] in kept],
        "annotations": [one for one in truth["annotations"] if one["image_id"] in kept],
    }
