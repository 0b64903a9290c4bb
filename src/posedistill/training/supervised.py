"""Training from labels alone: the teacher, and the baseline that distillation must beat."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from posedistill.devices import Device
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.losses import Pair, label_loss
from posedistill.models.checkpoint import load_backbone, load_checkpoint, model_from_checkpoint
from posedistill.models.keypoint_table import check_table
from posedistill.models.onnx_model import OnnxModel
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.models.resampling import resized
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.params import Params, Weights
from posedistill.training.checkpoints import say
from posedistill.training.objective import Objective, detached, full_pair, labels_of
from posedistill.training.runs import Paths, Trained, Training, take_model, take_onnx, train


class Supervised(Objective):
    """L = L_ori × `reference_batch` (see `posedistill.losses.label_loss`) of `student`."""

    def __init__(self, student: RTMPose, reference_batch: int) -> None:
        super().__init__()
        self.student = student
        self.reference_batch = reference_batch

    @property
    def averaged(self) -> RTMPose:
        return self.student

    def forward(
        self, images: Tensor, keypoints: Tensor, teacher_images: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Pair, Pair | None]:
        prediction = full_pair(self.student(images))  # x [B, K, 2W], y [B, K, 2H]
        labels, weight = labels_of(keypoints, self.student.input_size, prediction[0].dtype)
        label = self.fused(label_loss)(prediction, labels, weight) * self.reference_batch
        return {"label": label, "total": label}, detached(prediction), None


def new_student(size: str, input_size: tuple[int, int], seed: int, backbone: Weights | None, key: str) -> RTMPose:
    """A model with fresh weights drawn from `seed`, and its backbone from the file `backbone` if there is one (`key`
    names the setting in error messages)."""
    torch.manual_seed(seed)
    model = build_rtmpose(size, input_size)
    if backbone is not None:
        load_backbone(model, backbone.verified(key))
    return model


def train_supervised(params: Params, role: str, paths: Paths | None = None) -> Trained:
    """Train the teacher or the baseline (`role`) on prepared/train and write models/<role>.safetensors.

    The teacher has the input `teacher.input`; with `teacher.checkpoint` it is taken from that file instead. An
    interrupted training is continued; a finished one is read back.
    """
    if role not in ("teacher", "baseline"):
        raise ValueError(f"role {role!r}: teacher or baseline")
    paths = paths or Paths()
    if role == "teacher" and params.teacher.checkpoint is not None:
        return _take_teacher(params, params.teacher.checkpoint, paths)
    section: Literal["teacher", "student"] = "teacher" if role == "teacher" else "student"
    model = params.teacher if role == "teacher" else params.student
    init = params.teacher.init if role == "teacher" else None
    inputs = {"backbone": model.backbone, "init": init}

    def build(device: Device) -> Supervised:
        size = params.input_for(role).size
        student = new_student(model.size, size, model.seed, model.backbone, f"{section}.backbone")
        if init is not None:
            _start_from(student, init.verified("teacher.init"))
        return Supervised(student, params.loss.reference_batch)

    return train(
        Training(
            stage=role,
            params=params,
            paths=paths,
            entry="training.supervised:train_supervised",
            build=build,
            own={"size": model.size, "reference_batch": params.loss.reference_batch},
            inputs={name: Path(weights.path) for name, weights in inputs.items() if weights},
            size=model.size,
            section=section,
            clip_norm=(f"{section}.clip_norm", model.clip_norm),
        )
    )


def _start_from(model: RTMPose, path: Path) -> None:
    """Give `model` the whole weights of a file; of one for another input size, the head is resized."""
    found = model_from_checkpoint(path)
    same = (found.size.name, found.keypoints) == (model.size.name, model.keypoints)
    if same and found.input_size != model.input_size:
        say(f"teacher: {path} is made for input {found.input_size}, resized to {model.input_size} (height, width)")
        model.load_state_dict(resized(found, model.input_size).state_dict())
    else:
        load_checkpoint(model, path, complete=True)


def _take_teacher(params: Params, checkpoint: Weights, paths: Paths) -> Trained:
    """Write the given teacher as models/teacher.safetensors, with all keypoints that it has."""
    path = checkpoint.verified("teacher.checkpoint")
    size, table = params.input_for("teacher").size, params.teacher.keypoints
    if is_onnx(path):
        check_table(table, OnnxModel(path).keypoints)
        return take_onnx(path, size, "teacher", paths)
    keypoints = model_from_checkpoint(path).keypoints if table else NUM_KEYPOINTS
    check_table(table, keypoints)
    teacher = build_rtmpose(params.teacher.size, size, keypoints)
    load_checkpoint(teacher, path, complete=True)
    return take_model(teacher, "teacher", paths)
