"""Training from labels alone: the teacher, and the baseline that distillation must beat."""

from pathlib import Path

import torch
from torch import Tensor

from posedistill.devices import Device
from posedistill.losses import label_loss
from posedistill.models.checkpoint import load_backbone, load_checkpoint
from posedistill.models.onnx_model import is_onnx
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.params import Params, Weights
from posedistill.training.objective import Objective, Pair, detached, full_pair, labels_of
from posedistill.training.runs import Recipe, Run, Where, plain, run_recipe, take_model, take_onnx


class Supervised(Objective):
    """L = L_ori × `reference_batch` (see `posedistill.losses.label_loss`) of `student`."""

    def __init__(self, student: RTMPose, reference_batch: int) -> None:
        super().__init__()
        self.student = student
        self.reference_batch = reference_batch

    @property
    def averaged(self) -> RTMPose:
        return self.student

    def forward(self, images: Tensor, keypoints: Tensor) -> tuple[dict[str, Tensor], Pair, Pair | None]:
        prediction = full_pair(self.student(images))  # x [B, K, 2W], y [B, K, 2H]
        labels, weight = labels_of(keypoints, self.student.input_size, prediction[0].dtype)
        label = label_loss(prediction, labels, weight) * self.reference_batch
        return {"label": label, "total": label}, detached(prediction), None


def new_student(size: str, input_size: tuple[int, int], seed: int, backbone: Weights | None, key: str) -> RTMPose:
    """A model with fresh weights drawn from `seed`, and its backbone from the file `backbone` if there is one (`key`
    names the setting in error messages)."""
    torch.manual_seed(seed)
    model = build_rtmpose(size, input_size)
    if backbone is not None:
        load_backbone(model, backbone.verified(key))
    return model


def train_supervised(P: Params, role: str, where: Where | None = None) -> Run:
    """Train the teacher or the baseline (`role`) on prepared/train and write models/<role>.safetensors.

    With `teacher.checkpoint` the teacher is taken from that file instead. A training that was interrupted goes on; one
    that is finished is read back.
    """
    if role not in ("teacher", "baseline"):
        raise ValueError(f"role {role!r}: teacher or baseline")
    where = where or Where()
    model = P.teacher if role == "teacher" else P.student
    section = "teacher" if role == "teacher" else "student"
    if role == "teacher" and P.teacher.checkpoint is not None:
        if is_onnx(P.teacher.checkpoint.path):
            return take_onnx(P.teacher.checkpoint.verified("teacher.checkpoint"), P, role, where)
        teacher = build_rtmpose(model.size, P.input.size)
        load_checkpoint(teacher, P.teacher.checkpoint.verified("teacher.checkpoint"), complete=True)
        return take_model(teacher, role, where)

    def build(device: Device) -> Supervised:
        student = new_student(model.size, P.input.size, model.seed, model.backbone, f"{section}.backbone")
        return Supervised(student, P.loss.reference_batch)

    return run_recipe(
        P,
        Recipe(
            stage=role,
            module="training.supervised",
            build=build,
            settings={"model": plain(model), "reference_batch": P.loss.reference_batch},
            inputs={"backbone": Path(model.backbone.path)} if model.backbone else {},
            augment=P.augment_for(role),
            seed=model.seed,
            epochs=model.epochs,
            lr=model.lr,
            clip_norm=model.clip_norm,
        ),
        where,
    )
