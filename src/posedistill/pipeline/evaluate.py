"""Evaluate one trained model on the validation sets, as the pipeline's `evaluate` stage does."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posedistill.data.store.arrow import ValPersons, ValStore
from posedistill.devices import device_type
from posedistill.errors import UserError
from posedistill.evaluation import bootstrap
from posedistill.evaluation.mean_oks import PersonOks, mean_of, mean_oks_intervals, own_box_oks
from posedistill.evaluation.predict import Poses, predict_poses
from posedistill.evaluation.records import GroundTruth, read_ground_truth
from posedistill.evaluation.wholebody import Matched, match_wholebody, metrics_of
from posedistill.models.checkpoint import load_checkpoint
from posedistill.models.macs import parameters_and_macs
from posedistill.models.onnx_model import OnnxModel, PoseModel
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.params import Params
from posedistill.pipeline import evaluation_files as files
from posedistill.reporting.weaknesses import Paired, pair_persons

PREPARED = Path("prepared")
MODELS = Path("models")


@dataclass(frozen=True)
class Evaluation:
    """One model on one validation set; `others` are the further sets, never pooled with this one."""

    model: str
    val_set: str
    metrics: dict[str, dict[str, float]]  # what evaluate_wholebody returns
    intervals: bootstrap.Intervals  # part → metric → (low, high), 95 %; empty without bootstrap
    mean_oks: dict[str, float]
    mean_oks_intervals: dict[str, tuple[float, float]]
    parameters: int
    macs: int
    images: int
    persons: int  # labelled, not crowd
    matched: Matched  # from which the tables are made
    person_oks: PersonOks
    results: list[dict[str, Any]]  # what predictions/<model>.json holds
    others: tuple[Evaluation, ...] = ()

    def paired(self) -> Paired:
        """Each labelled person with its prediction, for posedistill.reporting.weaknesses."""
        return pair_persons(self.matched)

    def content(self) -> dict[str, Any]:
        """What reports/metrics/<model>.json holds."""
        content = {
            **self.metrics,
            "mean_oks": self.mean_oks,
            "intervals": self.intervals,
            "mean_oks_intervals": self.mean_oks_intervals,
            "parameters": self.parameters,
            "macs": self.macs,
            "images": self.images,
            "persons": self.persons,
            "val_set": self.val_set,
        }
        if self.others:
            content["other_sets"] = {other.val_set: other.content() for other in self.others}
        return files.rounded(content)


def load_model(params: Params, name: str) -> RTMPose:
    """The trained model `name` (teacher, baseline, stage1, stage2) from models/<name>.safetensors, in eval mode."""
    path = MODELS / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(f"evaluate {name}: there is no {path}; train it first (dvc repro {name})")
    model = build_rtmpose(params.teacher.size if name == "teacher" else params.student.size, params.input.size)
    load_checkpoint(model, path, complete=True)
    return model.eval()


def val_sets(prepared: Path = PREPARED) -> list[str]:
    """Names of the prepared validation sets, sorted; the first is the one of the summary."""
    found = sorted(folder.name.removeprefix("val-") for folder in prepared.glob("val-*") if folder.is_dir())
    if not found:
        raise UserError(f"{prepared} has no validation set val-…: run the stage prepare first (dvc repro prepare)")
    return found


def evaluate_model(params: Params, name: str) -> Evaluation:
    """Predict all validation sets with model `name`, judge them, and write the files of the stage.

    reports/metrics/<name>.json, with further sets under `other_sets`; predictions/<name>.json, the COCO results of the
    first set after OKS-NMS; and in predictions/<name>/ those of further sets, <set>.json, and of all sets the OKS of
    each person from its own box, <set>-oks.json.
    """
    torch.set_num_threads(params.runtime.threads)
    sets = val_sets()
    model, size = _load(params, name)
    model.to(device_type(params.runtime))
    found = []
    for val_set in sets:
        found.append(judge(params, model, ValStore(PREPARED / f"val-{val_set}"), name, val_set, size))
    evaluation = replace(found[0], others=tuple(found[1:]))
    _write(evaluation)
    return evaluation


def _load(params: Params, name: str) -> tuple[PoseModel, tuple[int, int]]:
    """The model, also a teacher that is an ONNX file, and its (parameters, MACs)."""
    path = MODELS / f"{name}.safetensors"
    model: PoseModel
    if is_onnx(path):
        model = OnnxModel(path, params.runtime.threads, device_type(params.runtime)).eval()
    else:
        model = load_model(params, name)
    return model, parameters_and_macs(model)


def judge(
    params: Params, model: PoseModel, store: ValStore, name: str, val_set: str, size: tuple[int, int]
) -> Evaluation:
    """Predict and judge one validation set; `size` is (parameters, MACs) of the model. Writes nothing."""
    truth = read_ground_truth(store.ground_truth)
    poses = predict_poses(model, store, params, device_type(params.runtime))
    kept = poses.without_duplicates(params.evaluate.nms)
    matched = match_wholebody(truth, kept.predictions(truth))  # the rounded numbers that the file will hold
    own = Poses.join([poses, _missing_own_poses(params, model, store, truth, poses)])
    person_oks = own_box_oks(truth, own.predictions(truth))
    samples, seed = params.evaluate.bootstrap, params.evaluate.seed
    drawn = bootstrap.resampled_metrics(matched, samples, seed, progress=True) if samples else None
    return Evaluation(
        model=name,
        val_set=val_set,
        metrics=metrics_of(matched),
        intervals={} if drawn is None else bootstrap.intervals(drawn),
        mean_oks=mean_of(person_oks),
        mean_oks_intervals=mean_oks_intervals(person_oks, samples, seed) if samples else {},
        parameters=size[0],
        macs=size[1],
        images=len(truth.image_ids),
        persons=len(person_oks.annotation_id),
        matched=matched,
        person_oks=person_oks,
        results=kept.results(),
    )


def _missing_own_poses(params: Params, model: PoseModel, store: ValStore, truth: GroundTruth, poses: Poses) -> Poses:
    """Predictions for the labelled persons whose own box is not in the store: all of them where it holds detections."""
    labelled = (truth.keypoints[:, :, 2] > 0).any(axis=1) & ~truth.crowd & (truth.box[:, 2:] > 0).all(axis=1)
    rows = np.flatnonzero(labelled & ~np.isin(truth.annotation_id, poses.annotation_id))
    rows = rows[np.argsort(truth.image[rows], kind="stable")]  # the persons of an image together: it is decoded once
    image_id = truth.image_ids[truth.image[rows]]
    place = {one: i for i, one in enumerate(store.image_ids.tolist())}
    stored = np.array([one in place for one in image_id.tolist()], dtype=bool)
    rows, image_id = rows[stored], image_id[stored]
    if not len(rows):
        return Poses.join([])
    persons = ValPersons(
        image=np.array([place[one] for one in image_id.tolist()], dtype=np.int64),
        image_id=image_id,
        annotation_id=truth.annotation_id[rows],
        box=truth.box[rows].astype(np.float32),
        score=np.ones(len(rows)),
    )
    return predict_poses(model, store, params, device_type(params.runtime), persons)


def _write(evaluation: Evaluation) -> None:
    name = evaluation.model
    shutil.rmtree(files.PREDICTIONS / name, ignore_errors=True)  # of a set that is no longer there
    for one in (evaluation, *evaluation.others):
        other_set = None if one is evaluation else one.val_set
        files.write_json(files.predictions_file(name, other_set), one.results, pretty=False)
        files.write_person_oks(files.person_oks_file(name, one.val_set), one.person_oks)
    files.write_json(files.METRICS / f"{name}.json", evaluation.content())
