"""One person's steps before all models: OKS of each part at each step, and the jitter of the still person."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posedistill.errors import UserError
from posedistill.evaluation.mean_oks import own_box_oks
from posedistill.evaluation.oks import part_sums
from posedistill.evaluation.records import ALL_PARTS, GroundTruth, Predictions, body_extent
from posedistill.files import printable, sha256_file, write_atomic
from posedistill.fingerprint import code_hash
from posedistill.inference.pose import Crops, Pose, load
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.stress.shots import AXES, Shot, shots, still
from posedistill.stress.sitters import make_sitter
from posedistill.synthetic.body import ASSET
from posedistill.synthetic.scene import Studio

BATCH = 32
ENTRIES = ("stress.judge:judge", "stress.shots", "stress.sitters")  # the code that results depend on


@dataclass(frozen=True)
class Setting:
    """What the persons and their judgement depend on, apart from the models."""

    body: str  # folder of the body's data
    seed: int
    axes: tuple[str, ...]
    flip_test: bool
    device: str

    def key(self) -> str:
        """Sixteen hex digits: a hash of the settings and of the code behind the results."""
        body = sha256_file(Path(self.body) / ASSET)
        content = [self.seed, self.axes, self.flip_test, self.device, body, code_hash(*ENTRIES)]
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Task:
    """One person for some models: path of the model → file of the result."""

    setting: Setting
    index: int
    files: tuple[tuple[str, str], ...]


def judge(task: Task) -> int:
    """Render the person's steps, run the models, write the results; → the person's number.

    A file holds, for each axis A with S steps: `A.oks` [S, 6] of each of ALL_PARTS, NaN where no point of the part is
    in the picture; `A.value` [S], measured on the truth; `A.seen` [S, 6], the share of the part's points that are seen;
    and with the axis noise `jitter` [L, 6], see `jitter_of`. UserError if a model's answers are not finite.
    """
    torch.set_num_threads(1)  # the number of threads changes the last bits
    setting = task.setting
    sitter = make_sitter(_studio(setting.body), setting.seed, task.index)
    taken = {name: shots(sitter, AXES[name]) for name in setting.axes}
    frames = [still(sitter, level) for level in AXES["noise"].steps] if "noise" in setting.axes else []
    unique: dict[tuple[Any, ...], int] = {}  # the reference picture is in every axis and is predicted once
    every = [shot for row in [*taken.values(), *frames] for shot in row]
    places = np.array([unique.setdefault((shot.jpeg, shot.box), len(unique)) for shot in every])
    firsts = [every[i] for i in np.unique(places, return_index=True)[1]]
    truth = {f"{name}.value": np.array([shot.value for shot in row]) for name, row in taken.items()}
    truth |= {f"{name}.seen": _seen(row) for name, row in taken.items()}
    cropped: dict[tuple[Any, ...], Crops] = {}  # most models take the same
    for model, file in task.files:
        pose = _model(model, setting.device, setting.flip_test)
        if (pose.input_size, pose.padding) not in cropped:
            cropped[pose.input_size, pose.padding] = _crops(pose, firsts)
        points = pose.predict(cropped[pose.input_size, pose.padding], BATCH)[places]
        if not np.isfinite(points).all():
            raise UserError(f"{printable(model)}: predicts values that are not finite: damaged, or it diverged")
        content, start = dict(truth), 0
        for name, row in taken.items():
            content[f"{name}.oks"] = oks_of(row, points[start : start + len(row)])
            start += len(row)
        if frames:
            content["jitter"] = jitter_of(points[start:].reshape(len(frames), -1, NUM_KEYPOINTS, 3), frames[0][0])
        buffer = io.BytesIO()
        np.savez(buffer, **content)  # type: ignore[arg-type]
        write_atomic(file, buffer.getvalue())
    return task.index


def oks_of(row: list[Shot], points: np.ndarray) -> np.ndarray:
    """OKS [S, 6] of predictions [S, 133, 3] on shots; NaN where a part has no point in the picture."""
    number = np.arange(len(row))
    keypoints, box = np.stack([shot.keypoints for shot in row]), np.array([shot.box for shot in row])
    area, nobody = np.array([shot.area for shot in row]), np.zeros(len(row), dtype=bool)
    truth = GroundTruth(number, number, number, keypoints, box, area, nobody)
    score = np.ones((len(row), len(ALL_PARTS)))
    found = own_box_oks(truth, Predictions(number, points, score, body_extent(points), number))
    oks = np.full((len(row), len(ALL_PARTS)), np.nan)
    oks[found.annotation_id] = found.oks
    return oks


def jitter_of(points: np.ndarray, shot: Shot) -> np.ndarray:
    """Jitter [L, 6] of predictions [L, F, 133, 3] over F frames at L strengths of noise, for each of ALL_PARTS: root of
    the mean squared distance from the frames' mean, over the longer side of the person's box."""
    around = points[..., :2] - points[..., :2].mean(axis=1, keepdims=True)
    spread = (around**2).sum(axis=-1).mean(axis=1)  # [L, 133]
    count = part_sums(np.ones((1, NUM_KEYPOINTS)))
    return np.sqrt(part_sums(spread) / count) / max(shot.box[2:])


def _seen(row: list[Shot]) -> np.ndarray:
    visible = np.stack([shot.keypoints[:, 2] == 2 for shot in row]).astype(np.float64)
    return part_sums(visible) / part_sums(np.ones((1, NUM_KEYPOINTS)))


def _crops(pose: Pose, wanted: list[Shot]) -> Crops:
    return Crops.join([pose.crop(shot.picture(), np.array([shot.box])) for shot in wanted])


@lru_cache(maxsize=1)
def _studio(folder: str) -> Studio:
    return Studio(folder)


@lru_cache(maxsize=16)
def _model(path: str, device: str, flip_test: bool) -> Pose:
    return load(Path(path), device, flip_test=flip_test, threads=1)
