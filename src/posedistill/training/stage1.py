"""Stage 1: a student learns from the labels, and from a frozen teacher's features and logits."""

from pathlib import Path

import torch
from torch import Tensor, nn

from posedistill.devices import Device, device_type
from posedistill.errors import UserError
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.losses import decay
from posedistill.models.checkpoint import load_checkpoint
from posedistill.models.onnx_model import OnnxModel, is_onnx
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.params import Loss, Params
from posedistill.training.checkpoints import say
from posedistill.training.frozen import asking, frozen
from posedistill.training.objective import Objective, Pair, detached, full, full_pair, labels_of
from posedistill.training.objectives import stage1_losses
from posedistill.training.runs import Recipe, Run, Where, plain, run_recipe
from posedistill.training.supervised import new_student


class Stage1(Objective):
    """L = L_ori + r(t)·α·L_fea + r(t)·β·L_logit (see `stage1_losses`).

    `teacher` is frozen already. Where its maps have other channels than the student's, a 1×1 convolution is trained
    with the student; it is no part of the model that is written. A teacher that is an ONNX file teaches by its logits
    alone: it has no features, and that term is 0.
    """

    epoch: Tensor

    def __init__(self, student: RTMPose, teacher: RTMPose | OnnxModel, loss: Loss) -> None:
        super().__init__()
        self.student = student
        self.loss = loss
        self._teacher = (teacher,)  # in a tuple: see Objective
        self.asked = loss.alpha > 0 and not isinstance(teacher, OnnxModel)  # for features
        channels = (
            student.size.channels,
            student.size.channels if isinstance(teacher, OnnxModel) else teacher.size.channels,
        )
        # PyTorch's own initialisation, as in the published code.
        self.align = nn.Conv2d(*channels, 1) if channels[0] != channels[1] and self.asked else None
        self.epochs = 1
        # A tensor, so that a compiled step stays the same in the next epoch.
        self.register_buffer("epoch", torch.zeros(()), persistent=False)

    @property
    def averaged(self) -> RTMPose:
        return self.student

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.epoch.fill_(epoch)
        self.epochs = epochs

    def forward(self, images: Tensor, keypoints: Tensor) -> tuple[dict[str, Tensor], Pair, Pair | None]:
        (teacher,) = self._teacher
        with asking():
            if isinstance(teacher, OnnxModel):
                teacher_features, answer = None, full_pair(teacher(images))
            else:
                teacher_features = teacher.backbone(images.to(next(teacher.parameters()).dtype))  # [B, C_t, h, w]
                answer = full_pair(teacher.head(teacher_features))
        features = self.student.backbone(images)  # [B, C, h, w]
        prediction = full_pair(self.student.head(features))  # x [B, K, 2W], y [B, K, 2H]
        labels, weight = labels_of(keypoints, self.student.input_size, prediction[0].dtype)
        aligned = full(features if self.align is None else self.align(features)) if self.asked else None
        terms = stage1_losses(
            prediction,
            answer,
            aligned,
            full(teacher_features) if self.asked and teacher_features is not None else None,
            labels,
            weight,
            loss=self.loss,
            epoch=self.epoch,
            epochs=self.epochs,
        )
        return terms, detached(prediction), answer

    def facts(self) -> dict[str, float]:
        return {"decay": decay(self.epoch.item(), self.epochs) if self.loss.decay else 1.0}


def load_model(size: str, P: Params, path: str | Path) -> RTMPose:
    """A model of `size` and the settings' input size with the weights of a file."""
    model = build_rtmpose(size, P.input.size)
    load_checkpoint(model, path, complete=True)
    return model


def load_teacher(P: Params, path: str | Path) -> RTMPose | OnnxModel:
    """The teacher in a file: a model of the settings' size, or an ONNX model of any size."""
    if not is_onnx(path):
        return load_model(P.teacher.size, P, path)
    teacher = OnnxModel(path, P.runtime.threads, device_type(P.runtime))
    if (teacher.input_size, teacher.keypoints) != (P.input.size, NUM_KEYPOINTS):
        raise UserError(
            f"{path}: expected a teacher for {NUM_KEYPOINTS} keypoints and input {P.input.size} (height, width), found "
            f"{teacher.keypoints} and {teacher.input_size}"
        )
    if P.loss.alpha > 0:
        say(f"stage1: {path} is an ONNX file, it teaches by its logits alone; the feature term is 0")
    return teacher


def distill_stage1(P: Params, where: Where | None = None) -> Run:
    """Train the student under the teacher (models/teacher.safetensors) and write models/stage1.safetensors.

    It starts as the baseline does: same seed, same backbone, same epochs and learning rate. A training that was
    interrupted goes on; one that is finished is read back.
    """
    where = where or Where()

    def build(device: Device) -> Stage1:
        teacher = load_teacher(P, where.teacher)
        student = new_student(P.student.size, P.input.size, P.student.seed, P.student.backbone, "student.backbone")
        return Stage1(student, frozen(teacher, device), P.loss)

    student = P.student
    loss = {name: value for name, value in plain(P.loss).items() if name != "gamma"}
    own = {"teacher": P.teacher.size, "loss": loss, "seed": student.seed, "size": student.size}
    own |= {"epochs": student.epochs, "lr": student.lr}
    inputs = {"teacher": Path(where.teacher)}
    if student.backbone:
        inputs["backbone"] = Path(student.backbone.path)
    return run_recipe(
        P,
        Recipe(
            stage="stage1",
            module="training.stage1",
            build=build,
            settings=own,
            inputs=inputs,
            augment=P.augment_for("stage1"),
            seed=student.seed,
            epochs=student.epochs,
            lr=student.lr,
            clip_norm=P.loss.clip_norm,
        ),
        where,
    )
