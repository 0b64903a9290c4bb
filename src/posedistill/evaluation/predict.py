"""Top-down prediction for evaluation: crops → SimCC logits (with flip test) → keypoints in the image → COCO results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posedistill.data.feed.loader import ValBatch, val_batches
from posedistill.data.store.arrow import ValPersons, ValStore
from posedistill.devices import worker_processes
from posedistill.errors import UserError
from posedistill.evaluation.pose import Crops, Decoded, Pose, forward_both
from posedistill.evaluation.records import ALL_PARTS, FIELDS, GroundTruth, Predictions, body_extent
from posedistill.evaluation.scoring import keep_best, person_scores
from posedistill.keypoints import PARTS
from posedistill.models.onnx_model import PoseModel
from posedistill.params import Params
from posedistill.progress import progress

LAG = 4  # batches
PIXEL_DIGITS, SCORE_DIGITS = 3, 6  # what prediction files keep: beyond it is noise of the order of summation


@dataclass(frozen=True)
class Poses:
    """N predicted persons, before NMS."""

    image_id: np.ndarray  # [N]
    annotation_id: np.ndarray  # [N] int64; −1 where the box is a detection
    keypoints: np.ndarray  # [N, 133, 2] float64, pixels of the image
    keypoint_scores: np.ndarray  # [N, 133] raw logits
    score: np.ndarray  # [N]
    area: np.ndarray  # [N] width × height of the padded, aspect-fixed box

    @classmethod
    def join(cls, parts: Sequence[Poses]) -> Poses:
        """Several, one after the other."""
        if not parts:
            none, no_id = np.empty(0), np.empty(0, dtype=np.int64)
            return cls(no_id, no_id, np.empty((0, 133, 2)), np.empty((0, 133)), none, none)
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def take(self, rows: np.ndarray) -> Poses:
        """Some of the persons."""
        return Poses(*(getattr(self, field.name)[rows] for field in fields(self)))

    def without_duplicates(self, threshold: float) -> Poses:
        """What OKS-NMS keeps in each image."""
        _, image = np.unique(self.image_id, return_inverse=True)
        return self.take(keep_best(image, self.keypoints, self.score, self.area, threshold))

    def results(self) -> list[dict[str, Any]]:
        """COCO results with mmpose's split keypoint fields; `annotation_id` where the box is the person's own.

        No `bbox`: evaluators would take a prediction's size from it; for published numbers keypoints give the size.
        """
        values, score = self._rounded()
        parts = {FIELDS[part]: values[:, where].reshape(len(values), -1).tolist() for part, where in PARTS.items()}
        scores = score.tolist()
        entries = []
        for i, (image_id, annotation_id) in enumerate(zip(self.image_id.tolist(), self.annotation_id.tolist())):
            entry: dict[str, Any] = {"image_id": image_id, "category_id": 1, "score": scores[i]}
            if annotation_id >= 0:
                entry["annotation_id"] = annotation_id
            entries.append(entry | {field: lists[i] for field, lists in parts.items()})
        return entries

    def predictions(self, truth: GroundTruth) -> Predictions:
        """What read_predictions returns for `results()`, without building them. UserError if values are not finite
        or an image is not one of `truth`."""
        keypoints, score = self._rounded()
        if not (np.isfinite(keypoints).all() and np.isfinite(score).all()):
            raise UserError("the model predicts values that are not finite: its training diverged, or it is damaged")
        image = np.searchsorted(truth.image_ids, self.image_id)
        if not np.isin(self.image_id, truth.image_ids).all():
            raise UserError("predictions on images that the ground truth does not list")
        scores = np.repeat(score[:, None], len(ALL_PARTS), axis=1)
        return Predictions(image, keypoints, scores, body_extent(keypoints), self.annotation_id)

    def _rounded(self) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints [N, 133, 3] (x, y, score) and scores [N] as files keep them; + 0.0 turns −0 into 0."""
        scores = np.round(self.keypoint_scores, SCORE_DIGITS)[..., None]
        keypoints = np.concatenate((np.round(self.keypoints, PIXEL_DIGITS), scores), axis=2)
        return keypoints + 0.0, np.round(self.score, SCORE_DIGITS) + 0.0


def predict_batches(
    model: PoseModel,
    batches: Iterable[ValBatch],
    *,
    device: torch.device | str = "cpu",
    flip_test: bool = True,
    score_threshold: float = 0.2,
) -> Poses:
    """Predict the persons of validation batches, in their order.

    The model must be on `device`; it is put in eval mode for it, and back to what it was.
    """

    def start(pose: Pose, images: Tensor) -> list[Decoded]:
        return [pose.start(images)]

    return _predict(model, batches, device, flip_test, score_threshold, start)[0]


def predict_both(
    model: PoseModel,
    batches: Iterable[ValBatch],
    *,
    device: torch.device | str = "cpu",
    score_threshold: float = 0.2,
) -> tuple[Poses, Poses]:
    """The same without and with flip test, from one call of the model for each batch."""

    def start(pose: Pose, images: Tensor) -> list[Decoded]:
        return [pose.decode(*logits) for logits in forward_both(model, pose.inputs(images))]

    plain, flip_test = _predict(model, batches, device, True, score_threshold, start)
    return plain, flip_test


@torch.inference_mode()
def _predict(
    model: PoseModel,
    batches: Iterable[ValBatch],
    device: torch.device | str,
    flip_test: bool,
    score_threshold: float,
    start: Callable[[Pose, Tensor], list[Decoded]],
) -> list[Poses]:
    """The poses of each result that `start` gives for a batch of images.

    They are read LAG batches later: a card never waits for the host, nor the host for the batch at hand.
    """
    mode = model.training
    pose = Pose(model, device, flip_test)
    under_way: deque[tuple[ValBatch, list[Decoded]]] = deque()
    found = [_Rows(), _Rows()]

    def finish_first() -> None:
        for rows, poses in zip(found, _finish(pose, *under_way.popleft(), score_threshold)):
            rows.add(poses)

    try:
        for batch in batches:
            under_way.append((batch, start(pose, batch.images)))
            if len(under_way) > LAG:
                finish_first()
        while under_way:
            finish_first()
    finally:
        model.train(mode)
    return [rows.poses() for rows in found]


class _Rows:
    """Poses that grow in a few large arrays: small ones, allocated between the large temporary ones of each batch,
    would leave the C library's memory full of holes (10 GB for 100,000 persons)."""

    def __init__(self) -> None:
        self.count = 0
        self.arrays: list[np.ndarray] = []

    def add(self, poses: Poses) -> None:
        given = [getattr(poses, field.name) for field in fields(Poses)]
        end = self.count + len(poses.score)
        if not self.arrays or end > len(self.arrays[0]):
            larger = [np.empty((max(4096, 2 * end), *one.shape[1:]), one.dtype) for one in given]
            for new, old in zip(larger, self.arrays):
                new[: self.count] = old[: self.count]
            self.arrays = larger
        for array, one in zip(self.arrays, given):
            array[self.count : end] = one
        self.count = end

    def poses(self) -> Poses:
        return Poses(*(array[: self.count] for array in self.arrays)) if self.arrays else Poses.join([])


def _finish(pose: Pose, batch: ValBatch, results: list[Decoded], score_threshold: float) -> list[Poses]:
    poses = []
    for decoded in results:
        result = pose.finish([decoded], Crops(batch.images, batch.center, batch.scale))
        score = person_scores(batch.score, result.scores, score_threshold)
        area = batch.scale.prod(axis=1)
        poses.append(Poses(batch.image_id, batch.annotation_id, result.keypoints, result.scores, score, area))
    return poses


def predict_poses(
    model: PoseModel,
    store: ValStore,
    params: Params,
    device: torch.device | str = "cpu",
    persons: ValPersons | None = None,
) -> Poses:
    """Boxes of a validation store (default: all of it), before NMS, with the settings of `params.evaluate`.

    UserError if the model's input size differs from the settings.
    """
    if model.input_size != params.input.size:
        raise UserError(f"the model takes {model.input_size} pixels (height, width), the settings {params.input.size}")
    persons = store.persons if persons is None else persons
    batches = val_batches(
        store,
        params.input.size,
        params.evaluate.batch,
        persons=persons,
        workers=worker_processes(params.runtime),
        padding=params.augment.box_padding,
    )
    total = -(-len(persons) // params.evaluate.batch)
    bar = progress(batches, desc="predict", unit="batches", total=total)
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=params.runtime.precision == "bfloat16"):  # only if set
        return predict_batches(
            model,
            bar,
            device=device,
            flip_test=params.evaluate.flip_test,
            score_threshold=params.evaluate.score_threshold,
        )
