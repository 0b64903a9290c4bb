"""Evaluate one trained model on the validation sets, as the pipeline's `evaluate` stage does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from posedistill.data.store.arrow import ValStore
from posedistill.devices import device_type
from posedistill.errors import UserError
from posedistill.evaluation.evaluate import Evaluation, evaluate_store
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.models.checkpoint import model_from_checkpoint
from posedistill.models.keypoint_table import Reordered, Table
from posedistill.models.macs import parameters_and_macs
from posedistill.models.onnx_model import OnnxModel, PoseModel
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.models.rtmpose import RTMPose
from posedistill.params import Params
from posedistill.pipeline import evaluation_files as files
from posedistill.training.runs import load_model

PREPARED = Path("prepared")
MODELS = Path("models")


def load_trained(params: Params, name: str) -> RTMPose:
    """The trained model `name` (teacher, baseline, stage1, stage2) from models/<name>.safetensors, in eval mode.

    UserError if it is missing or not of the settings' size.
    """
    path = MODELS / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(f"evaluate {name}: there is no {path}; train it first (dvc repro {name})")
    section = "teacher" if name == "teacher" else "student"
    keypoints = model_from_checkpoint(path).keypoints if _table(params, name) else NUM_KEYPOINTS
    size = params.input_for(name).size
    return load_model(path, getattr(params, section).size, size, f"{section}.size", keypoints)


def _table(params: Params, name: str) -> Table:
    """Where model `name` has each keypoint: only a given teacher may have others."""
    return params.teacher.keypoints if name == "teacher" else None


def val_sets(prepared: Path = PREPARED) -> list[str]:
    """Names of the prepared validation sets, sorted; the first is the one of the summary."""
    found = sorted(folder.name.removeprefix("val-") for folder in prepared.glob("val-*") if folder.is_dir())
    if not found:
        raise UserError(f"{prepared} has no validation set val-…: run the stage prepare first (dvc repro prepare)")
    return found


def evaluate_model(params: Params, name: str) -> Evaluation:
    """Predict and score all validation sets with model `name`, and write the files of the stage.

    reports/metrics/<name>.json, with further sets under `other_sets`; predictions/<name>.json, the COCO results of the
    first set after OKS-NMS; and in predictions/<name>/ those of further sets, <set>.json, and of all sets the OKS of
    each person from its own box, <set>-oks.json.
    """
    torch.set_num_threads(params.runtime.threads)
    sets, device, path = val_sets(), device_type(params.runtime), MODELS / f"{name}.safetensors"
    model: PoseModel  # a given teacher may be an ONNX file
    model = OnnxModel(path, params.runtime.threads, device).eval() if is_onnx(path) else load_trained(params, name)
    size = parameters_and_macs(model)
    if table := _table(params, name):
        model = cast(PoseModel, Reordered(model, table))
    model.to(device)
    params = params.replaced(input=params.input_for(name))  # the crops are of the model's own size
    first, *others = (
        evaluate_store(params, model, ValStore(PREPARED / f"val-{val_set}"), name, val_set, size) for val_set in sets
    )
    evaluation = replace(first, others=tuple(others))
    _write(evaluation)
    return evaluation


def _write(evaluation: Evaluation) -> None:
    name = evaluation.model
    shutil.rmtree(files.PREDICTIONS / name, ignore_errors=True)  # files of sets that no longer exist
    for one in (evaluation, *evaluation.others):
        other_set = None if one is evaluation else one.val_set
        files.write_json(files.predictions_file(name, other_set), one.results, pretty=False)
        files.write_person_oks(files.person_oks_file(name, one.val_set), one.person_oks)
    files.write_json(files.METRICS / f"{name}.json", evaluation.content())
