"""The pipeline's `export` stage: the student as ONNX, checked against the model."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posedistill.data.feed.device_augment import to_model_input
from posedistill.data.feed.loader import val_batches
from posedistill.data.store.arrow import ValStore
from posedistill.devices import worker_processes
from posedistill.evaluation.predict import Poses, predict_batches
from posedistill.evaluation.records import load_json
from posedistill.evaluation.wholebody import evaluate_wholebody
from posedistill.export.exported import Exported
from posedistill.export.onnx_file import export_onnx
from posedistill.export.parity import AP_DIFFERENCE, compare
from posedistill.models.macs import parameters_and_macs
from posedistill.models.onnx_model import OnnxModel, PoseModel
from posedistill.params import Params
from posedistill.pipeline.evaluate import PREPARED, load_trained, val_sets

STUDENT = "stage2"
PATH = Path("models/student.onnx")
# Both run on the CPU to be compared, where a large validation set would take hours and show nothing more.
MOST_PERSONS = 4096


def export_student(params: Params) -> Exported:
    """Write models/student.onnx from models/stage2.safetensors and check it on the first validation set.

    Raises:
        RuntimeError: the file does not compute what the model computes; it is then removed.
    """
    torch.set_num_threads(params.runtime.threads)
    model = load_trained(params, STUDENT)
    store = ValStore(PREPARED / f"val-{val_sets()[0]}")
    size = export_onnx(model, PATH, params.export.opset, params.augment.box_padding)
    onnx_model = OnnxModel(PATH, threads=params.runtime.threads)
    parity = compare(model, onnx_model, first_crops(params, store, params.export.crops), params.evaluate.batch)
    (ours, our_poses), (theirs, their_poses) = (average_precision(params, one, store) for one in (model, onnx_model))
    parameters, macs = parameters_and_macs(model)
    exported = Exported(
        path=PATH,
        file_bytes=size,
        model=model,
        store=store,
        parity=parity,
        ap={part: (ours[part], theirs[part]) for part in ours},
        poses=(our_poses, their_poses),
        parameters=parameters,
        macs=macs,
    )
    if not parity.good or exported.ap_difference > AP_DIFFERENCE:
        PATH.unlink()
        raise RuntimeError(
            f"{PATH} differs from the model: logits by up to {parity.max_difference:.2g}, the same arg-max on "
            f"{parity.same_argmax:.2%} of the points, AP by up to {exported.ap_difference:.4f}"
        )
    return exported


def first_crops(params: Params, store: ValStore, count: int) -> Tensor:
    """Model inputs of the first `count` persons of a store (fewer, if it has fewer), normalised [B, 3, H, W]."""
    batch = params.evaluate.batch
    batches = _batches(params, store, -(-count // batch))
    return torch.cat([to_model_input(one.images, None) for one in batches])[:count]


def average_precision(params: Params, model: PoseModel, store: ValStore) -> tuple[dict[str, float], Poses]:
    """AP of each part, and the predictions, of a store's first MOST_PERSONS persons, on the CPU."""
    most = -(-MOST_PERSONS // params.evaluate.batch)
    poses = predict_batches(
        model,
        _batches(params, store, most),
        flip_test=params.evaluate.flip_test,
        score_threshold=params.evaluate.score_threshold,
    )
    truth, _ = load_json(store.ground_truth, "ground truth")
    if len(poses.score) < len(store.persons):
        truth = _only(truth, poses.image_id)
    metrics = evaluate_wholebody(truth, poses.without_duplicates(params.evaluate.nms).results())
    return {part: values["AP"] for part, values in metrics.items()}, poses


def _batches(params: Params, store: ValStore, most: int) -> islice:
    size, batch, padding = params.input.size, params.evaluate.batch, params.augment.box_padding
    workers = worker_processes(params.runtime)
    return islice(val_batches(store, size, batch, workers=workers, padding=padding), most)


def _only(truth: dict[str, Any], image_ids: np.ndarray) -> dict[str, Any]:
    """The ground truth of some images."""
    wanted = set(image_ids.tolist())
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in wanted],
        "annotations": [annotation for annotation in truth["annotations"] if annotation["image_id"] in wanted],
    }
