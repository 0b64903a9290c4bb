"""The starting weights of the embedded default: backbones trained on the body of other rendered people.

The published training starts from a CSPNeXt that learnt body keypoints on AIC + COCO. Ours learns the 17 body keypoints
of rendered people who are in neither the training nor the validation images (their seeds: recipes/pretrain.yaml). The
head of this training is thrown away.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posedistill.devices import Device
from posedistill.files import sha256_file
from posedistill.keypoints import PARTS
from posedistill.models.checkpoint import model_from_checkpoint, save_checkpoint
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import Params, load_params, to_settings
from posedistill.pipeline.experiments.workspaces import Workspace, prepare_workspace
from posedistill.training.objective import Pair
from posedistill.training.runs import Recipe, Where, plain, run_recipe
from posedistill.training.supervised import Supervised

RECIPE = Path("recipes/pretrain.yaml")
BODY = PARTS["body"]


class BodyOnly(Supervised):
    """The label loss of the 17 body keypoints alone."""

    def forward(self, images: Tensor, keypoints: Tensor) -> tuple[dict[str, Tensor], Pair, Pair | None]:
        return super().forward(images, keypoints[:, BODY])

    def weight(self, keypoints: Tensor) -> Tensor:
        return keypoints[:, BODY, 2]


def enter_workspace(root: Path, base: Path) -> Params:
    """Go to the pretraining's own folder below `base`, for its prepared data and curves, and give its settings."""
    settings = to_settings(load_params(root / RECIPE))
    here = prepare_workspace(root, base, Workspace("pretrain", {}, ()), settings, linked=("assets",))
    os.environ["POSEDISTILL_ROOT"] = str(here)
    os.chdir(here)
    return load_params(here / "params.yaml")


def pretrain(P: Params, role: str, target: Path) -> Mapping[str, Any]:
    """Train a body model of the size of `role` (teacher | student) on prepared/train and write its backbone to `target`
    (float16 safetensors). Returns what the note of provenance says of it."""
    section = P.teacher if role == "teacher" else P.student

    def build(device: Device) -> BodyOnly:
        torch.manual_seed(section.seed)
        model = build_rtmpose(section.size, P.input.size, keypoints=BODY.stop)
        return BodyOnly(model, P.loss.reference_batch)

    run = run_recipe(
        P,
        Recipe(
            stage=f"pretrain-{section.size}",
            module="pipeline.pretrain",
            build=build,
            settings={"model": plain(section), "reference_batch": P.loss.reference_batch},
            inputs={},
            augment=P.augment_for("teacher" if role == "teacher" else "baseline"),
            seed=section.seed,
            epochs=section.epochs,
            lr=section.lr,
            clip_norm=section.clip_norm,
            validated=False,
        ),
        Where(),
    )
    model = model_from_checkpoint(run.model_path)
    save_checkpoint(
        model, target, "own", {"trained": "17 body keypoints of rendered people"}, backbone_only=True, half=True
    )
    last = run.history.iloc[-1]
    return {
        "file": target.name,
        "sha256": sha256_file(target),
        "epochs": section.epochs,
        "accuracy": float(last["accuracy"]),
    }
