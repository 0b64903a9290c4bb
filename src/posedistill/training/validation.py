"""A quick look at the validation set during training."""

from posedistill.data.feed.loader import val_batches
from posedistill.data.store.arrow import ValStore
from posedistill.devices import Device
from posedistill.evaluation.predict import predict_batches
from posedistill.evaluation.wholebody import evaluate_wholebody
from posedistill.models.rtmpose import RTMPose
from posedistill.params import Params

BATCH = 64
NMS = 0.9  # OKS-NMS, as published


def validation_ap(model: RTMPose, store: ValStore, P: Params, device: Device) -> float:
    """Whole-body AP in [0, 1] of `model` on a validation store, without flip test: half the time, and the order of
    models is the same. The stage `evaluate` gives the numbers to report."""
    with device.autocast():
        batches = val_batches(store, P.input.size, BATCH, workers=device.workers)
        poses = predict_batches(model, batches, device=device.device, flip_test=False)
    found = evaluate_wholebody(store.ground_truth, poses.without_duplicates(NMS).results())
    return max(0.0, found["wholebody"]["AP"])
