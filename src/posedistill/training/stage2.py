"""Stage 2: the trained head teaches a fresh one over the same, frozen backbone."""

from pathlib import Path

import torch
from torch import Tensor, nn

from posedistill.devices import Device
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.params import Loss, Params
from posedistill.training.frozen import asking, frozen
from posedistill.training.objective import Objective, Pair, detached, full_pair
from posedistill.training.objectives import stage2_losses
from posedistill.training.runs import Recipe, Run, Where, run_recipe
from posedistill.training.stage1 import load_model


class Stage2(Objective):
    """L = γ·L_logit between the trained head of `model` and the fresh `head`; no labels.

    Only the head is an argument of optimiser and moving average. `asked` is the frozen copy of `model` that answers:
    its backbone runs once, without gradients, for both heads.
    """

    def __init__(self, model: RTMPose, asked: RTMPose, head: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.head = head
        self.loss = loss
        self._frozen = (model, asked)  # in a tuple: see Objective

    @property
    def averaged(self) -> nn.Module:
        return self.head

    def forward(self, images: Tensor, keypoints: Tensor) -> tuple[dict[str, Tensor], Pair, Pair | None]:
        _, asked = self._frozen
        dtype = next(asked.parameters()).dtype
        with torch.no_grad():  # not inference mode: the fresh head's gradient needs the features
            features = asked.backbone(images.to(dtype))  # [B, C, h, w]
        with asking():
            answer = full_pair(asked.head(features))
        prediction = full_pair(self.head(features))
        weight = keypoints[..., 2] if self.loss.logit_on == "labelled" else None
        return stage2_losses(prediction, answer, weight, loss=self.loss), detached(prediction), answer

    def model(self, averaged: nn.Module) -> RTMPose:
        """The model as it came, with the averaged new head."""
        model, _ = self._frozen
        device = next(averaged.parameters()).device
        whole = build_rtmpose(model.size.name, model.input_size, model.keypoints).to(device)
        whole.backbone.load_state_dict(model.backbone.state_dict())
        whole.head.load_state_dict(averaged.state_dict())
        return whole.eval()


def distill_stage2(P: Params, where: Where | None = None) -> Run:
    """Train a fresh head on models/<stage2.init>.safetensors and write models/stage2.safetensors.

    A training that was interrupted goes on; one that is finished is read back.
    """
    where = where or Where()
    init = Path(where.init or f"models/{P.stage2.init}.safetensors")

    def build(device: Device) -> Stage2:
        model = load_model(P.student.size, P, init).eval().requires_grad_(False)
        torch.manual_seed(P.stage2.seed)
        head = build_rtmpose(P.student.size, P.input.size).head
        return Stage2(model, frozen(model, device), head, P.loss)

    stage2 = P.stage2
    loss = {"gamma": P.loss.gamma, "logit_on": P.loss.logit_on, "clip_norm": P.loss.clip_norm}
    own = {"size": P.student.size, "loss": loss, "seed": stage2.seed, "epochs": stage2.epochs, "lr": stage2.lr}
    return run_recipe(
        P,
        Recipe(
            stage="stage2",
            module="training.stage2",
            build=build,
            settings=own | {"schedule": stage2.schedule},
            inputs={"init": init},
            augment=P.augment_for("stage2"),
            seed=stage2.seed,
            epochs=stage2.epochs,
            lr=stage2.lr,
            clip_norm=P.loss.clip_norm,
            shape=stage2.schedule,
        ),
        where,
    )
