"""Stage 1: a student learns from the labels, and from a frozen teacher's features and logits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from posedistill.devices import Device, device_type
from posedistill.errors import UserError, shorten
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.losses import EXTRA_TERMS, Epoch, Pair, decay, feature_loss, label_loss, logit_loss, mean_teacher
from posedistill.models.checkpoint import model_from_checkpoint
from posedistill.models.keypoint_table import Table, check_table
from posedistill.models.onnx_model import OnnxModel, PoseModel
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.models.rtmpose import RTMPose
from posedistill.params import Loss, Params
from posedistill.training.checkpoints import say
from posedistill.training.frozen import frozen
from posedistill.training.objective import Objective, detached, full, full_pair, labels_of
from posedistill.training.runs import Paths, Trained, Training, load_model, train
from posedistill.training.supervised import new_student
from posedistill.training.translation import Translation


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
    """L = L_ori + r(t)·(α·L_fea + β·L_logit + the extra terms).

    Args:
        student_out, teacher_out: SimCC logits (x [N, K, Wx], y [N, K, Wy]).
        student_features, teacher_features: last backbone maps [N, C, H, W]; None where there is none (a teacher that
            is only an ONNX file): the feature term is then 0.
        labels: Gaussian labels of the shapes of the logits (`simcc.encode`).
        weight: [N, K], 1 where a keypoint is labelled.
        loss: alpha, beta, decay, logit_on, feature_reduction, extra, reference_batch.
        epoch, epochs: the epoch from 0, and how many there are, for r(t).
        align: f, a 1×1 convolution to the teacher's channels; None where they are the student's already.

    Returns:
        0-d tensors label, feature, logit and the extra terms by name, with weights and decay applied, and total, their
        sum. With N equal to `loss.reference_batch` they are those of the published step; any other N keeps their
        balance.
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
    terms = {"label": label, "feature": feature, "logit": logit}
    total = label + feature + logit
    for name, factor in (loss.extra or {}).items():
        terms[name] = EXTRA_TERMS[name].loss(student_out, teacher_out, logit_weight) * (factor * r)
        total = total + terms[name]
    return {**terms, "total": total}


class Stage1(Objective):
    """`stage1_losses` of `student` under `teacher`, which is frozen already.

    Where the teacher's maps have other channels than the student's, a 1×1 convolution is trained with the student; it
    is not part of the model that is written. A teacher that is an ONNX file teaches by its logits alone: it has no
    features, and that term is 0. `keypoints` says where the teacher has each keypoint (None: in their order). `more`
    are further teachers of the same input: the student learns from the mean of all distributions, and from the
    features of the first.
    """

    epoch: Tensor

    def __init__(
        self,
        student: RTMPose,
        teacher: PoseModel,
        loss: Loss,
        keypoints: Table = None,
        more: Sequence[PoseModel] = (),
    ) -> None:
        super().__init__()
        check_extra(loss.extra)
        self.student = student
        self.loss = loss
        self._teacher = (teacher, *more)  # in a tuple: see Objective
        tables = (keypoints, *[None] * len(more))
        self.translations = nn.ModuleList(
            Translation(one, student, table) for one, table in zip(self._teacher, tables, strict=True)
        )
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

    def forward(
        self, images: Tensor, keypoints: Tensor, teacher_images: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Pair, Pair | None]:
        with torch.no_grad():
            seen = images if teacher_images is None else teacher_images
            # maps [B, C_t, h, w] and logits at the student's cells and bins
            answers = [self._answer(number, seen) for number in range(len(self._teacher))]
            teacher_features = answers[0][0]
            teacher_logits = mean_teacher([logits for _, logits in answers])
        features = self.student.backbone(images)  # [B, C, h, w]
        prediction = full_pair(self.student.head(features))  # x [B, K, 2W], y [B, K, 2H]
        labels, weight = labels_of(keypoints, self.student.input_size, prediction[0].dtype)
        aligned = None
        if self.use_features:
            aligned = full(features if self.align is None else self.align(features))
        terms = self.fused(stage1_losses)(
            prediction,
            teacher_logits,
            aligned,
            teacher_features,
            labels,
            weight,
            loss=self.loss,
            epoch=self.epoch,
            epochs=self.epochs,
        )
        return terms, detached(prediction), teacher_logits

    def _answer(self, number: int, images: Tensor) -> tuple[Tensor | None, Pair]:
        teacher = self._teacher[number]
        maps, logits = teacher.features_and_logits(_in_dtype_of(teacher, images))
        maps = full(maps) if maps is not None and self.use_features and number == 0 else None
        return self.translations[number](maps, full_pair(logits))

    def facts(self) -> dict[str, float]:
        return {"decay": decay(self.epoch.item(), self.epochs) if self.loss.decay else 1.0}


def _in_dtype_of(teacher: nn.Module, images: Tensor) -> Tensor:
    parameter = next(teacher.parameters(), images)  # an ONNX file has none
    return images.to(parameter.dtype)


def check_extra(extra: Mapping[str, float] | None) -> None:
    """UserError if a name of `loss.extra` is no term of losses.py."""
    for name in extra or ():
        if name not in EXTRA_TERMS:
            raise UserError(f"loss.extra: found {shorten(name)}, allowed: {', '.join(EXTRA_TERMS)}")


def load_teacher(params: Params, path: str | Path) -> PoseModel:
    """The teacher in a file: a model of the settings' size, or an ONNX model of any size."""
    wanted, table = params.input_for("teacher").size, params.teacher.keypoints
    if not is_onnx(path):
        keypoints = model_from_checkpoint(path).keypoints if table else NUM_KEYPOINTS
        return load_model(path, params.teacher.size, wanted, "teacher.size", keypoints)
    teacher = _onnx_teacher(params, path)
    if teacher.input_size != wanted:
        raise UserError(
            f"{path}: expected a teacher for input {wanted} (height, width; teacher.input), found {teacher.input_size}"
        )
    check_table(table, teacher.keypoints)
    if params.loss.alpha > 0:
        say(f"stage1: {path} is an ONNX file, it teaches by its logits alone; the feature term is 0")
    return teacher


def _onnx_teacher(params: Params, path: str | Path) -> OnnxModel:
    return OnnxModel(path, params.runtime.threads, device_type(params.runtime))


def load_more(params: Params) -> list[PoseModel]:
    """The further teachers `teacher.more`: whole models of any size and layout, for the teacher's input."""
    wanted = params.input_for("teacher").size
    found: list[PoseModel] = []
    for i, weights in enumerate(params.teacher.more or ()):
        key = f"teacher.more[{i}]"
        path = weights.verified(key)
        model = _onnx_teacher(params, path) if is_onnx(path) else model_from_checkpoint(path)
        if (model.input_size, model.keypoints) != (wanted, NUM_KEYPOINTS):
            raise UserError(
                f"{key}: {path}: expected a teacher for {NUM_KEYPOINTS} keypoints and input {wanted} (height, width), "
                f"found {model.keypoints} and {model.input_size}"
            )
        found.append(model)
    return found


def distill_stage1(params: Params, paths: Paths | None = None) -> Trained:
    """Train the student under the teacher (models/teacher.safetensors) and write models/stage1.safetensors.

    It starts as the baseline does: same seed, backbone, epochs and learning rate. An interrupted training is continued;
    a finished one is read back.
    """
    paths = paths or Paths()
    student, teacher, loss = params.student, params.teacher, params.loss
    check_extra(loss.extra)
    own_view = params.input_for("teacher")

    def build(device: Device) -> Stage1:
        first, more = load_teacher(params, paths.teacher), load_more(params)
        model = new_student(student.size, params.input.size, student.seed, student.backbone, "student.backbone")
        return Stage1(model, frozen(first, device), loss, teacher.keypoints, [frozen(one, device) for one in more])

    inputs = {"teacher": Path(paths.teacher)}
    inputs |= {f"teacher {i + 2}": Path(weights.path) for i, weights in enumerate(teacher.more or ())}
    if student.backbone:
        inputs["backbone"] = Path(student.backbone.path)
    used = ("alpha", "beta", "decay", "logit_on", "feature_reduction", "extra", "reference_batch", "clip_norm")
    return train(
        Training(
            stage="stage1",
            params=params,
            paths=paths,
            entry="training.stage1:distill_stage1",
            build=build,
            own={
                "teacher": [teacher.size, own_view.dump(), teacher.keypoints],
                "size": student.size,
                "loss": {name: value for name, value in loss.dump().items() if name in used},
            },
            inputs=inputs,
            size=student.size,
            section="student",
            clip_norm=("loss.clip_norm", loss.clip_norm),
            teacher_input=own_view if own_view != params.input else None,
        )
    )
