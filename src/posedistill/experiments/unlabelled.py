"""Distilling without labels, on the embedded default: pictures, boxes and the trained teacher, but no keypoint.

The pictures and boxes are those of the training set; only the labels are withheld, so the students differ in what
taught them, not in what they saw.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError
from posedistill.experiments.plan import SEEDS, Plan, Run, evaluations
from posedistill.files import atomic_path, sha256_file, write_atomic

PICTURES = "unlabelled-pictures"  # the run that prepares the data: the students start from its result

# name → (text, changed settings, name of the model in the pipeline, whether it sees the labels)
VARIANTS: dict[str, tuple[str, Mapping[str, Any], str, bool]] = {
    "labels": ("labels alone (the baseline)", {}, "baseline", True),
    "logits": ("no labels, the teacher's logits", {"loss.alpha": 0.0}, "stage1", False),
    "features-logits": ("no labels, the teacher's features and logits", {}, "stage1", False),
    "all": ("labels, features and logits (stage 1)", {}, "stage1", True),
}

PAIRS = {
    "logits without labels − labels": ("logits", "labels"),
    "features and logits without labels − labels": ("features-logits", "labels"),
    "stage 1 − the same without labels": ("all", "features-logits"),
}


def plan(settings: Mapping[str, Any], seeds: tuple[int, ...] = SEEDS) -> Plan:
    """What `make unlabelled` runs. UserError where the training data is not rendered, or there is no teacher yet."""
    without = changes(settings)
    runs = [Run(PICTURES, without, ("prepare", "teacher"))]
    for name, (_, others, model, labelled) in VARIANTS.items():
        data, after = ({}, ()) if labelled else (without, (PICTURES,))
        for seed in seeds:
            changed = {**others, **data, "student.seed": seed}
            runs.append(Run(f"unlabelled-{name}-seed{seed}", changed, evaluations(model), after))
    texts = {name: text for name, (text, *_) in VARIANTS.items()}
    return Plan("unlabelled", runs, tuple(VARIANTS), PAIRS, place, seeds, {"texts": texts})


def place(variant: str, seed: int) -> tuple[str, str]:
    """(run, the pipeline's name of the model in it) of a variant."""
    return f"unlabelled-{variant}-seed{seed}", VARIANTS[variant][2]


def folder(settings: Mapping[str, Any]) -> Path:
    """The folder of the pictures and a copy of the teacher, readable from DVC's temporary copies of the project.

    Its name is a hash of everything that decides the content.
    """
    from posedistill.fingerprint import code_hash

    if any(source["source"] != "synthetic" for source in settings["data"]["train"]):
        raise UserError(
            "data.train: this experiment withholds the labels of rendered people; expected source: synthetic"
        )
    for needed in (body(settings) / "body_asset.npz", teacher := Path("models/teacher.safetensors")):
        if not needed.is_file():
            raise UserError(f"{needed}: there is no such file yet; run `make repro` first")
    parts = [
        [dict(source) for source in settings["data"]["train"]],
        sha256_file(body(settings) / "body_asset.npz"),
        sha256_file(teacher),
        code_hash("synthetic.generate:render_dataset"),
    ]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return project.checkpoints() / f"unlabelled-{key}"


def body(settings: Mapping[str, Any]) -> Path:
    """The folder of the body from which people are rendered."""
    return Path(settings["data"]["root"]) / "body"


def changes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that train on the pictures of `settings` as if they had no labels; validation stays as it is.

    The teacher is the pipeline's own: it saw the labels, the students do not.
    """
    place = folder(settings)
    sources = [
        {
            "source": "unlabelled",
            "name": source["name"],
            "images": str(place / source["name"] / "images"),
            "detections": str(place / source["name"] / "boxes.json"),
        }
        for source in settings["data"]["train"]
    ]
    teacher = {"path": str(place / "teacher.safetensors"), "sha256": sha256_file("models/teacher.safetensors")}
    return {"data.train": sources, "teacher.checkpoint": teacher}


def write_pictures(settings: Mapping[str, Any], workers: int | None = None) -> None:
    """Render the training pictures of `settings` and write their boxes beside them, unless they exist.

    boxes.json holds COCO detections, one per person, without keypoints; the annotations are removed.
    """
    from posedistill.synthetic import render_dataset

    target = folder(settings)
    for source in settings["data"]["train"]:
        place = target / source["name"]
        if (place / "boxes.json").is_file():
            continue
        render_dataset(body(settings), place, source["images"], source["seed"], workers=workers)
        truth = json.loads((place / "annotations.json").read_text())
        names = {image["id"]: image["file_name"] for image in truth["images"]}
        boxes = [
            {"file_name": names[person["image_id"]], "category_id": 1, "bbox": person["bbox"], "score": 1.0}
            for person in truth["annotations"]
            if not person.get("iscrowd")
        ]
        (place / "annotations.json").unlink()
        write_atomic(place / "boxes.json", json.dumps(boxes))
    if not (target / "teacher.safetensors").is_file():
        with atomic_path(target / "teacher.safetensors") as temporary:
            shutil.copyfile("models/teacher.safetensors", temporary)
