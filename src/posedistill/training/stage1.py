"""Stage 1: a student learns from the labels, and from a frozen teacher's features and logits."""

from pathlib import Path

import torch
from torch import Tensor, nn

from posedistill.devices import Device, device_type
from posedistill.errors import UserError
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.losses import Epoch, Pair, decay, feature_loss, label_loss, logit_loss
from posedistill.models.onnx_model import OnnxModel
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.models.rtmpose import RTMPose
from posedistill.params import Loss, Params
from posedistill.training.checkpoints import say
from posedistill.training.frozen import frozen, inference_context
from posedistill.training.objective import Objective, detached, full, full_pair, labels_of
from posedistill.training.runs import Paths, Trained, Training, load_model, train
from posedistill.training.supervised import new_student


def stage1_losses(
    student_out: Pair,
    teacher_out: Pair,
    student_features: Tensor | None,
    teacher_features: Tensor | None,
    labels: Pair,
    weight: Tensor,
    *,
    loss: Loss,
    epoch: Epoch,
    epochs: int,
    align: nn.Module | None = None,
) -> dict[str, Tensor]:
    """L = L_ori + r(t)·α·L_fea + r(t)·β·L_logit.

    Args:
        student_out, teacher_out: SimCC logits (x [N, K, Wx], y [N, K, Wy]).
        student_features, teacher_features: last backbone maps [N, C, H, W]; None where there is none (a teacher that
            is only an ONNX file): the feature term is then 0.
        labels: Gaussian labels of the shapes of the logits (`simcc.encode`).
        weight: [N, K], 1 where a keypoint is labelled.
        loss: alpha, beta, decay, logit_on, feature_reduction, reference_batch.
        epoch, epochs: the epoch from 0, and how many there are, for r(t).
        align: f, a 1×1 convolution to the teacher's channels; None where they are the student's already.

    Returns:
        0-d tensors label, feature, logit with weights and decay applied, and total, their sum. With N equal to
        `loss.reference_batch` they are those of the published step; any other N keeps their balance.
    """
    r = decay(epoch, epochs) if loss.decay else 1.0
    label = label_loss(student_out, labels, weight) * loss.reference_batch
    if student_features is None or teacher_features is None:
        feature = label.new_zeros(())
    else:
        aligned = student_features if align is None else align(student_features)
        feature = feature_loss(aligned, teacher_features, loss.feature_reduction) * (loss.alpha * r)
    logit_weight = weight if loss.logit_on == "labelled" else None
    logit = logit_loss(student_out, teacher_out, logit_weight) * (loss.beta * r)
    return {"label": label, "feature": feature, "logit": logit, "total": label + feature + logit}


class Stage1(Objective):
    """`stage1_losses` of `student` under `teacher`, which is frozen already.

    Where the teacher's maps have other channels than the student's, a 1×1 convolution is trained with the student; it
    is not part of the model that is written. A teacher that is an ONNX file teaches by its logits alone: it has no
    features, and that term is 0.
    """

    epoch: Tensor

    def __init__(self, student: RTMPose, teacher: RTMPose | OnnxModel, loss: Loss) -> None:
        super().__init__()
        self.student = student
        self.loss = loss
        self._teacher = (teacher,)  # in a tuple: see Objective
        channels = teacher.feature_channels
        self.use_features = loss.alpha > 0 and channels is not None
        self.align = None
        if self.use_features and channels is not None and channels != student.feature_channels:
            # PyTorch's own initialisation, as in the published code.
            self.align = nn.Conv2d(student.feature_channels, channels, 1)
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
        with inference_context():
            # features [B, C_t, h, w]
            teacher_features, teacher_logits = teacher.features_and_logits(_in_dtype_of(teacher, images))
            teacher_logits = full_pair(teacher_logits)
        features = self.student.backbone(images)  # [B, C, h, w]
        prediction = full_pair(self.student.head(features))  # x [B, K, 2W], y [B, K, 2H]
        labels, weight = labels_of(keypoints, self.student.input_size, prediction[0].dtype)
        aligned = None
        if self.use_features:
            aligned = full(features if self.align is None else self.align(features))
        terms = stage1_losses(
            prediction,
            teacher_logits,
            aligned,
            None if teacher_features is None else full(teacher_features),
            labels,
            weight,
            loss=self.loss,
            epoch=self.epoch,
            epochs=self.epochs,
        )
        return terms, detached(prediction), teacher_logits

    def facts(self) -> dict[str, float]:
        return {"decay": decay(self.epoch.item(), self.epochs) if self.loss.decay else 1.0}


def _in_dtype_of(teacher: nn.Module, images: Tensor) -> Tensor:
    parameter = next(teacher.parameters(), images)  # an ONNX file has none
    return images.to(parameter.dtype)


def load_teacher(params: Params, path: str | Path) -> RTMPose | OnnxModel:
    """The teacher in a file: a model of the settings' size, or an ONNX model of any size."""
    if not is_onnx(path):
        return load_model(path, params.teacher.size, params.input.size, "teacher.size")
    teacher = OnnxModel(path, params.runtime.threads, device_type(params.runtime))
    if (teacher.input_size, teacher.keypoints) != (params.input.size, NUM_KEYPOINTS):
        raise UserError(
            f"{path}: expected a teacher for {NUM_KEYPOINTS} keypoints and input {params.input.size} (height, width), "
            f"found {teacher.keypoints} and {teacher.input_size}"
        )
    if params.loss.alpha > 0:
        say(f"stage1: {path} is an ONNX file, it teaches by its logits alone; the feature term is 0")
    return teacher


def distill_stage1(params: Params, paths: Paths | None = None) -> Trained:
    """Train the student under the teacher (models/teacher.safetensors) and write models/stage1.safetensors.

    It starts as the baseline does: same seed, backbone, epochs and learning rate. An interrupted training is continued;
    a finished one is read back.
    """
    paths = paths or Paths()
    student, loss = params.student, params.loss

    def build(device: Device) -> Stage1:
        teacher = load_teacher(params, paths.teacher)
        model = new_student(student.size, params.input.size, student.seed, student.backbone, "student.backbone")
        return Stage1(model, frozen(teacher, device), loss)

    inputs = {"teacher": Path(paths.teacher)}
    if student.backbone:
        inputs["backbone"] = Path(student.backbone.path)
    used = ("alpha", "beta", "decay", "logit_on", "feature_reduction", "reference_batch", "clip_norm")
    return train(
        Training(
            stage="stage1",
            params=params,
            paths=paths,
            entry="training.stage1:distill_stage1",
            build=build,
            own={
                "teacher": params.teacher.size,
                "size": student.size,
                "loss": {name: value for name, value in loss.dump().items() if name in used},
            },
            inputs=inputs,
            size=student.size,
            section="student",
            clip_norm=("loss.clip_norm", loss.clip_norm),
        )
    )
