"""The starting weights of the embedded default: backbones trained on the body of other rendered people.

The published training starts from a CSPNeXt that learnt body keypoints on AIC + COCO. Ours learns the 17 body keypoints
of rendered people who are in neither the training nor the validation images (their seeds: recipes/pretrain.yaml). Its
head is discarded.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from posedistill.devices import Device
from posedistill.files import sha256_file, writable_folder, write_atomic
from posedistill.keypoints import PARTS
from posedistill.losses import Pair
from posedistill.models.checkpoint import model_from_checkpoint, save_checkpoint
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import Params, load_params, to_settings
from posedistill.training.runs import Paths, Training, train
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
    """Change to the pretraining's folder below `base`, which gets its prepared data and curves; → its settings."""
    here = writable_folder(base / "pretrain")
    if not (here / "assets").exists():
        (here / "assets").symlink_to((root / "assets").resolve())
    write_atomic(here / "dvc.yaml", (root / "dvc.yaml").read_text())
    write_atomic(here / "params.yaml", json.dumps(to_settings(load_params(root / RECIPE)), indent=1))  # JSON is YAML
    os.environ["POSEDISTILL_ROOT"] = str(here)
    os.chdir(here)
    return load_params(here / "params.yaml")


def pretrain(params: Params, role: Literal["teacher", "student"], target: Path) -> Mapping[str, Any]:
    """Train a body model of the size of `role` on prepared/train and write its backbone to `target`
    (float16 safetensors). Returns the facts for its provenance note."""
    section = getattr(params, role)

    def build(device: Device) -> BodyOnly:
        torch.manual_seed(section.seed)
        model = build_rtmpose(section.size, params.input.size, keypoints=BODY.stop)
        return BodyOnly(model, params.loss.reference_batch)

    result = train(
        Training(
            stage=f"pretrain-{section.size}",
            params=params,
            paths=Paths(),
            entry="pipeline.pretrain:pretrain",
            build=build,
            own={"size": section.size, "reference_batch": params.loss.reference_batch},
            inputs={},
            size=section.size,
            section=role,
            clip_norm=(f"{role}.clip_norm", section.clip_norm),
            keypoints=BODY.stop,
        )
    )
    model = model_from_checkpoint(result.model_path)
    save_checkpoint(
        model, target, "own", {"trained": "17 body keypoints of rendered people"}, backbone_only=True, half=True
    )
    last = result.history.iloc[-1]
    return {
        "file": target.name,
        "sha256": sha256_file(target),
        "epochs": section.epochs,
        "accuracy": float(last["accuracy"]),
    }
