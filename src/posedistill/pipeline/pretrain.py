"""The starting weights of the embedded default, trained on other rendered people.

The published training starts from a CSPNeXt that learnt body keypoints on AIC + COCO. Ours learns the 17 body keypoints
of rendered people who are in neither the training nor the validation images (their seeds: recipes/pretrain.yaml). Its
head is discarded. A teacher for `teacher.init` learns all 133 keypoints of the same people, whose labels are complete:
it stands for the published teachers, which saw more labels than the student's data set has.
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
from posedistill.keypoints import NUM_KEYPOINTS, PARTS
from posedistill.losses import Pair
from posedistill.models.checkpoint import model_from_checkpoint, save_checkpoint
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import Params, load_params, to_settings
from posedistill.training.runs import Paths, Training, train
from posedistill.training.supervised import Supervised, new_student

What = Literal["student", "teacher", "whole"]
BODY = PARTS["body"]


class BodyOnly(Supervised):
    """The label loss of the 17 body keypoints alone."""

    def forward(
        self, images: Tensor, keypoints: Tensor, teacher_images: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Pair, Pair | None]:
        return super().forward(images, keypoints[:, BODY])

    def weight(self, keypoints: Tensor) -> Tensor:
        return keypoints[:, BODY, 2]


def enter_workspace(root: Path, base: Path, recipe: str) -> Params:
    """Change to a folder below `base` for the prepared data and curves; → the settings of recipes/<recipe>.yaml."""
    here = writable_folder(base / recipe)
    if not (here / "assets").exists():
        (here / "assets").symlink_to((root / "assets").resolve())
    write_atomic(here / "dvc.yaml", (root / "dvc.yaml").read_text())
    write_atomic(
        here / "params.yaml", json.dumps(to_settings(load_params(root / "recipes" / f"{recipe}.yaml")), indent=1)
    )  # JSON is YAML
    os.environ["POSEDISTILL_ROOT"] = str(here)
    os.chdir(here)
    return load_params(here / "params.yaml")


def pretrain(params: Params, what: What, target: Path) -> Mapping[str, Any]:
    """Train on prepared/train and write `target` (float16 safetensors); the facts for its provenance note.

    what: "student" and "teacher" are body models of these sizes, of which the backbone is kept; "whole" is a model of
    the teacher's size for all 133 keypoints that starts from `teacher.backbone`.
    """
    section = params.student if what == "student" else params.teacher
    whole = what == "whole"

    def build(device: Device) -> Supervised:
        if whole:
            model = new_student(section.size, params.input.size, section.seed, section.backbone, "teacher.backbone")
            return Supervised(model, params.loss.reference_batch)
        torch.manual_seed(section.seed)
        model = build_rtmpose(section.size, params.input.size, keypoints=BODY.stop)
        return BodyOnly(model, params.loss.reference_batch)

    result = train(
        Training(
            stage=f"pretrain-{what}",
            params=params,
            paths=Paths(),
            entry="pipeline.pretrain:pretrain",
            build=build,
            own={"size": section.size, "reference_batch": params.loss.reference_batch},
            inputs={"backbone": Path(section.backbone.path)} if whole and section.backbone else {},
            size=section.size,
            section="student" if what == "student" else "teacher",
            clip_norm=(f"{what}.clip_norm", section.clip_norm),
            keypoints=NUM_KEYPOINTS if whole else BODY.stop,
        )
    )
    model = model_from_checkpoint(result.model_path)
    trained = f"{NUM_KEYPOINTS if whole else BODY.stop} keypoints of rendered people"
    save_checkpoint(model, target, "own", {"trained": trained}, backbone_only=not whole, half=True)
    last = result.history.iloc[-1]
    return {
        "file": target.name,
        "sha256": sha256_file(target),
        "epochs": section.epochs,
        "accuracy": float(last["accuracy"]),
    }
