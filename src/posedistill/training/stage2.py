"""Stage 2: the trained head teaches a fresh one over the same, frozen backbone."""

from pathlib import Path

import torch
from torch import Tensor, nn

from posedistill.devices import Device
from posedistill.losses import Pair, logit_loss
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.params import Loss, Params
from posedistill.training.frozen import frozen
from posedistill.training.objective import Objective, detached, full_pair
from posedistill.training.runs import Paths, Trained, Training, load_model, train


def stage2_losses(
    student_out: Pair, teacher_out: Pair, weight: Tensor | None = None, *, loss: Loss
) -> dict[str, Tensor]:
    """L = γ·L_logit: no labels and no decay, with the trained head as the teacher of a fresh one.

    `weight` [N, K] is needed for `loss.logit_on: labelled` alone. Returns label and feature (0), logit and total.
    """
    if loss.logit_on == "all":
        weight = None
    elif weight is None:
        raise ValueError("loss.logit_on: labelled needs the weight of each keypoint")
    logit = logit_loss(student_out, teacher_out, weight) * loss.gamma
    zero = logit.new_zeros(())
    return {"label": zero, "feature": zero, "logit": logit, "total": logit}


class Stage2(Objective):
    """`stage2_losses` of the trained head of `model` and the fresh `head`.

    Only the head is trained and averaged. `teacher` is the frozen copy of `model`: its backbone runs once, without
    gradients, for both heads.
    """

    def __init__(self, model: RTMPose, teacher: RTMPose, head: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.head = head
        self.loss = loss
        self._frozen = (model, teacher)  # in a tuple: see Objective

    @property
    def averaged(self) -> nn.Module:
        return self.head

    def forward(
        self, images: Tensor, keypoints: Tensor, teacher_images: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Pair, Pair | None]:
        _, teacher = self._frozen
        dtype = next(teacher.parameters()).dtype
        with torch.no_grad():
            features = teacher.backbone(images.to(dtype))  # [B, C, h, w]
            teacher_logits = full_pair(teacher.head(features))
        prediction = full_pair(self.head(features))
        terms = self.fused(stage2_losses)(prediction, teacher_logits, keypoints[..., 2], loss=self.loss)
        return terms, detached(prediction), teacher_logits

    def model(self, averaged: nn.Module) -> RTMPose:
        """The trained model with the averaged new head."""
        model, _ = self._frozen
        device = next(averaged.parameters()).device
        whole = build_rtmpose(model.size.name, model.input_size, model.keypoints).to(device)
        whole.backbone.load_state_dict(model.backbone.state_dict())
        whole.head.load_state_dict(averaged.state_dict())
        return whole.eval()


def distill_stage2(params: Params, paths: Paths | None = None) -> Trained:
    """Train a fresh head on models/<stage2.init>.safetensors and write models/stage2.safetensors.

    An interrupted training is continued; a finished one is read back.
    """
    paths = paths or Paths()
    stage2, loss, size = params.stage2, params.loss, params.student.size
    init = Path(paths.init or f"models/{stage2.init}.safetensors")

    def build(device: Device) -> Stage2:
        model = load_model(init, size, params.input.size, "student.size").requires_grad_(False)
        torch.manual_seed(stage2.seed)
        head = build_rtmpose(size, params.input.size).head
        return Stage2(model, frozen(model, device), head, loss)

    return train(
        Training(
            stage="stage2",
            params=params,
            paths=paths,
            entry="training.stage2:distill_stage2",
            build=build,
            own={"size": size, "gamma": loss.gamma, "logit_on": loss.logit_on, "schedule": stage2.schedule},
            inputs={"init": init},
            size=size,
            section="stage2",
            clip_norm=("loss.clip_norm", loss.clip_norm),
            shape=stage2.schedule,
        )
    )
