"""Evaluate a model on a prepared validation store: metrics with intervals, and the predictions behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from posedistill.data.store.arrow import ValPersons, ValStore
from posedistill.devices import device_type
from posedistill.evaluation import bootstrap
from posedistill.evaluation.calibrate import Reliability, ScoredPoints, cross_fitted, reliabilities, scored_points
from posedistill.evaluation.mean_oks import PersonOks, mean_of, mean_oks_intervals, own_box_oks
from posedistill.evaluation.predict import Poses, predict_poses
from posedistill.evaluation.records import GroundTruth, read_ground_truth
from posedistill.evaluation.wholebody import Matched, match_wholebody, metrics_of
from posedistill.models.onnx_model import PoseModel
from posedistill.params import Params

DIGITS = 6  # of figures in files: sums of many floats differ in the last bits from machine to machine


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
    points: ScoredPoints  # of all labelled persons, each from its own box
    results: list[dict[str, Any]]  # COCO results after OKS-NMS
    others: tuple[Evaluation, ...] = ()

    def reliability(self) -> dict[str, Reliability]:
        """Part → how far the scores can be calibrated: each half of the images is judged by the other's curves."""
        return reliabilities(self.points, cross_fitted(self.points))

    def content(self) -> dict[str, Any]:
        """All figures as plain values, as the pipeline keeps them in JSON."""
        content = {
            **self.metrics,
            "mean_oks": self.mean_oks,
            "intervals": self.intervals,
            "mean_oks_intervals": self.mean_oks_intervals,
            "calibration_error": {part: one.error for part, one in self.reliability().items()},
            "parameters": self.parameters,
            "macs": self.macs,
            "images": self.images,
            "persons": self.persons,
            "val_set": self.val_set,
        }
        if self.others:
            content["other_sets"] = {other.val_set: other.content() for other in self.others}
        return rounded(content)


def evaluate_store(
    params: Params, model: PoseModel, store: ValStore, name: str, val_set: str, size: tuple[int, int]
) -> Evaluation:
    """Predict and score one validation set with the settings of `params.evaluate`; `size` is (parameters, MACs)."""
    truth = read_ground_truth(store.ground_truth)
    poses = predict_poses(model, store, params, device_type(params.runtime))
    kept = poses.without_duplicates(params.evaluate.nms)
    matched = match_wholebody(truth, kept.predictions(truth))  # the rounded numbers that the file will hold
    missing = own_boxes(store, truth, poses.annotation_id)
    more = [predict_poses(model, store, params, device_type(params.runtime), missing)] if len(missing) else []
    own = Poses.join([poses, *more]).predictions(truth)
    person_oks = own_box_oks(truth, own)
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
        points=scored_points(truth, own),
        results=kept.results(),
    )


def own_boxes(store: ValStore, truth: GroundTruth, known: np.ndarray) -> ValPersons:
    """The own boxes of the labelled persons that `known` [N] (annotation_id) lacks: all if boxes are detections."""
    labelled = (truth.keypoints[:, :, 2] > 0).any(axis=1) & ~truth.crowd & (truth.box[:, 2:] > 0).all(axis=1)
    rows = np.flatnonzero(labelled & ~np.isin(truth.annotation_id, known))
    rows = rows[np.argsort(truth.image[rows], kind="stable")]  # the persons of an image together: it is decoded once
    image_id = truth.image_ids[truth.image[rows]]
    place = {one: i for i, one in enumerate(store.image_ids.tolist())}
    stored = np.array([one in place for one in image_id.tolist()], dtype=bool)
    rows, image_id = rows[stored], image_id[stored]
    return ValPersons(
        image=np.array([place[one] for one in image_id.tolist()], dtype=np.int64),
        image_id=image_id,
        annotation_id=truth.annotation_id[rows],
        box=truth.box[rows].astype(np.float32),
        score=np.ones(len(rows)),
    )


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """The same structure with every float rounded."""
    if isinstance(value, Mapping):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    return round(float(value), digits) + 0.0 if isinstance(value, (float, np.floating)) else value  # + 0.0: no −0
