"""A quick validation during training."""

import math

import numpy as np

from posedistill.data.feed.loader import val_batches
from posedistill.data.store.arrow import ValStore
from posedistill.devices import Device
from posedistill.evaluation.predict import predict_batches
from posedistill.evaluation.wholebody import evaluate_wholebody
from posedistill.models.rtmpose import RTMPose

BATCH = 64
NMS = 0.9  # OKS-NMS, as published


def validation_ap(model: RTMPose, store: ValStore, input_size: tuple[int, int], device: Device) -> float:
    """Whole-body AP in [0, 1] of `model` on a validation store; NaN if a prediction is not finite.

    Without flip test: half the time, and models keep their order. The stage `evaluate` gives the numbers to report.
    """
    with device.autocast():
        batches = val_batches(store, input_size, BATCH, workers=device.workers)
        poses = predict_batches(model, batches, device=device.device, flip_test=False)
    if not all(np.isfinite(values).all() for values in (poses.keypoints, poses.keypoint_scores, poses.score)):
        return math.nan
    found = evaluate_wholebody(store.ground_truth, poses.without_duplicates(NMS).results())
    return max(0.0, found["wholebody"]["AP"])
