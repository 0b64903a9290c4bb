"""Recipes: complete settings for the published models and for one GPU, made from the table below.

    python -m posedistill.pipeline.recipes                      list them
    python -m posedistill.pipeline.recipes NAME [--root DIR]    replace params.yaml by one (also: make recipe NAME=…)
    python -m posedistill.pipeline.recipes --write              regenerate recipes/*.yaml after changing the table

Sources of the values: RTMPose (arXiv 2303.07399), DWPose (arXiv 2307.15880) and their published configurations. Each
recipe reproduces one published DWPose row; its baseline and its teacher are RTMPose rows.
"""

import argparse
import io
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError, exits_with_line
from posedistill.files import sha256_file, write_atomic
from posedistill.params import from_settings

ROOT = "/datasets"  # where the data are, unless --root is given

EPOCHS = 270
WEAK_EPOCHS = 30
STAGE2_EPOCHS = 60
SEED = 21

# All annotations and detections lie in one folder, the one that DVC hashes (data.tracked).
ANNOTATIONS = "annotations"
DETECTIONS = f"{ANNOTATIONS}/COCO_val2017_detections_AP_H_56_person.json"
COCO_TRAIN = {
    "source": "coco_wholebody",
    "name": "coco",
    "annotations": f"{ANNOTATIONS}/coco_wholebody_train_v1.0.json",
    "images": "coco/train2017",
}
COCO_VAL = {
    "source": "coco_wholebody",
    "name": "coco",
    "annotations": f"{ANNOTATIONS}/coco_wholebody_val_v1.0.json",
    "images": "coco/val2017",
    "detections": DETECTIONS,
}
UBODY = {"source": "ubody", "name": "ubody", "annotations": f"{ANNOTATIONS}/ubody", "split": "intra", "step": 10}
# DVC follows links to files, not links to folders.
LINKS = """mkdir {root}/annotations
cp -s {root}/coco/annotations/coco_wholebody_*.json {root}/coco/person_detection_results/*.json {root}/annotations"""
UBODY_LINKS = "cp -rs {root}/UBody/annotations {root}/annotations/ubody"

# Starting weights: CSPNeXt trained on AIC + COCO (x: on body7 at 384×288), as published by their authors.
_URL = "https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/"
BACKBONES = {
    "t": "cspnext-tiny_udp-aic-coco_210e-256x192-cbed682d_20230130.pth",
    "s": "cspnext-s_udp-aic-coco_210e-256x192-92f5a029_20230130.pth",
    "m": "cspnext-m_udp-aic-coco_210e-256x192-f2f7d6f6_20230130.pth",
    "l": "cspnext-l_udp-aic-coco_210e-256x192-273b7631_20230130.pth",
    "x": "cspnext-x_udp-body7_210e-384x288-d28b58e6_20230529.pth",
}


@dataclass(frozen=True)
class Row:
    """One published row. batch: global, 8 GPUs × `reference_batch`; whole: published AP on COCO + UBody."""

    student: str
    teacher: str
    height: int
    width: int
    reference_batch: int
    whole: float

    def name(self, ubody: bool) -> str:
        return f"dwpose-{self.student}-{self.height}x{self.width}-{'coco-ubody' if ubody else 'coco'}"


ROWS = (
    Row("t", "l", 256, 192, 64, 48.5),
    Row("s", "l", 256, 192, 64, 53.8),
    Row("m", "l", 256, 192, 64, 60.6),
    Row("l", "x", 256, 192, 64, 63.1),
    Row("l", "x", 384, 288, 32, 66.5),
)
GPU = "gpu-rendered"
SHORT = "gpu-short"
PUBLISHED = {row.name(ubody): (row, ubody) for row in ROWS for ubody in (False, True)}
NAMES = (*PUBLISHED, GPU, SHORT)


def published(row: Row, ubody: bool, root: str = ROOT) -> dict[str, Any]:
    """The settings of a published row, on COCO-WholeBody or COCO-WholeBody + UBody below `root`."""
    weak = {"shift_p": 0.0, "scale": [0.75, 1.25], "rotation": 60, "dropout_p": 0.5}
    # RTMPose-x: its own ranges in both phases, and a gradient clip.
    wide = {"scale": [0.5, 1.5], "rotation": 90}
    is_x = row.teacher == "x"
    return {
        "data": {
            "seed": SEED,
            "root": root,
            "tracked": f"{root}/{ANNOTATIONS}",
            "train": [COCO_TRAIN, UBODY] if ubody else [COCO_TRAIN],
            "val": [COCO_VAL, UBODY] if ubody else [COCO_VAL],
            "boxes": "detections",
            "use_valid_flags": False,
            "parts": "all",
            "max_broken": 0.01,
        },
        "input": {"height": row.height, "width": row.width},
        "augment": {
            "box_padding": 1.25,
            "flip": 0.5,
            "half_body": 0.3,
            "shift": 0.16,
            "shift_p": 0.3,
            "scale": [0.6, 1.4],
            "rotation": 80,
            "rotation_p": 0.6,
            "hsv": True,
            "blur_p": 0.1,
            "median_blur_p": 0.1,
            "dropout_p": 1.0,
            "dropout_size": [0.2, 0.4],
            "weak_epochs": WEAK_EPOCHS,
            "weak": weak,
        },
        "teacher": {
            "size": row.teacher,
            "input": None,
            "checkpoint": None,
            "init": None,
            "backbone": {"path": f"{root}/weights/{BACKBONES[row.teacher]}", "sha256": None},
            "seed": SEED,
            "epochs": EPOCHS,
            "lr": 4e-3,
            "clip_norm": 35 if is_x else None,
            "augment": wide | {"weak": weak | wide} if is_x else None,
            "keypoints": None,
            "more": None,
        },
        "student": {
            "size": row.student,
            "backbone": {"path": f"{root}/weights/{BACKBONES[row.student]}", "sha256": None},
            "seed": SEED,
            "epochs": EPOCHS,
            "lr": 4e-3,
            "clip_norm": None,
        },
        "train": {
            "batch": 8 * row.reference_batch,
            "reference_batch": 8 * row.reference_batch,
            "weight_decay": 0.05,
            "warmup_steps": 1000,
            "warmup_factor": 1e-5,
            "flat": 0.5,
            "final_lr": 0.05,
            "ema": {"momentum": 2e-4, "gamma": 2000},
            "validate_every": 10,
            "keep": "best",
        },
        "loss": {
            "alpha": 7e-5,
            "beta": 0.1,
            "gamma": 1.0,
            "decay": True,
            "logit_on": "all",
            "feature_reduction": "sum",
            "extra": None,
            "reference_batch": row.reference_batch,
            "clip_norm": 1.0,
        },
        "stage2": {"init": "stage1", "epochs": STAGE2_EPOCHS, "lr": 4e-3, "seed": SEED, "schedule": "cosine"},
        "evaluate": {
            "flip_test": True,
            "score_threshold": 0.2,
            "nms": 0.9,
            "batch": 64,
            "bootstrap": 1000,
            "seed": 0,
        },
        "export": {"opset": 17, "crops": 256},
        "runtime": {
            "device": "auto",
            "devices": 1,
            "precision": "auto",
            "channels_last": "auto",
            "compile": "auto",
            "workers": "auto",
            "threads": 1,
            "micro_batch": row.reference_batch,
        },
    }


def gpu() -> dict[str, Any]:
    """Rendered data at the published input size and schedule, for one card."""
    settings = published(ROWS[0], ubody=False)
    rendered = {"source": "synthetic", "name": "rendered"}
    changes: dict[str, dict[str, Any]] = {
        "data": {
            "root": "data",
            "tracked": "data/body",
            "train": [rendered | {"images": 40000, "seed": 1000}],
            "val": [rendered | {"images": 1000, "seed": 2000}],
            "boxes": "ground_truth",
        },
        "augment": {"weak_epochs": 6},
        "teacher": {"size": "m", "backbone": None, "epochs": 60, "lr": 2e-3, "clip_norm": 10},
        "student": {"backbone": None, "epochs": 60, "lr": 2e-3, "clip_norm": 10},
        "train": {"batch": 256, "reference_batch": 256},
        "stage2": {"epochs": 12, "lr": 2e-3},
        "runtime": {"device": "cuda", "micro_batch": None},
    }
    return {name: values | changes.get(name, {}) for name, values in settings.items()}


def gpu_short() -> dict[str, Any]:
    """Rendered data, teacher to stage 2 in eight minutes of one H100: augmentation and losses of the embedded default,
    at the published input size, without the compiler, whose start would cost more than it gains."""
    settings = gpu()
    rendered = {"source": "synthetic", "name": "rendered"}
    changes: dict[str, dict[str, Any]] = {
        "data": {
            "train": [rendered | {"images": 12000, "seed": 1000}],
            "val": [rendered | {"images": 800, "seed": 2000}],
        },
        "augment": {
            "half_body": 0.1,
            "scale": [0.75, 1.25],
            "rotation": 30,
            "dropout_p": 0.1,
            "weak_epochs": 2,
            "weak": {"shift_p": 0.0, "dropout_p": 0.0},
        },
        "teacher": {"epochs": 18, "clip_norm": 5.0},
        "student": {"epochs": 16, "clip_norm": 5.0},
        "train": {"warmup_steps": 100, "validate_every": 8, "keep": "last"},
        "loss": {"beta": 1.0, "clip_norm": 5.0},
        "stage2": {"epochs": 6},
        "runtime": {"compile": False},
    }
    return {name: values | changes.get(name, {}) for name, values in settings.items()}


def settings_of(name: str, root: str = ROOT) -> dict[str, Any]:
    """The settings of a recipe."""
    if name not in NAMES:
        raise UserError(f"unknown recipe {name}; available: {', '.join(NAMES)}")
    if name in PUBLISHED:
        return published(*PUBLISHED[name], root=root)
    return gpu() if name == GPU else gpu_short()


def summary(name: str) -> str:
    """What a recipe trains, in one line."""
    if name == GPU:
        return "student t, teacher m, 256x192, rendered people: the default at GPU scale, needs no data"
    if name == SHORT:
        return "student t, teacher m, 256x192, rendered people: eight minutes of one H100, needs no data"
    row, ubody = PUBLISHED[name]
    data = f"COCO-WholeBody + UBody (published: {row.whole} AP)" if ubody else "COCO-WholeBody"
    return f"student {row.student}, teacher {row.teacher}, {row.height}x{row.width}, {data}"


def heading(name: str) -> str:
    """The comment at the top of a recipe."""
    if name not in PUBLISHED:
        return f"{summary(name)}\nmake recipe NAME={name}"
    row, _ = PUBLISHED[name]
    return (
        f"DWPose: {summary(name)}; AP: whole body, detected boxes\nmake recipe NAME={name} ROOT=/where/the/data/are\n"
        f"ROOT/weights: {BACKBONES[row.teacher]}\n              {BACKBONES[row.student]}\n"
        f"              from {_URL}\n"
        f"ROOT/annotations: all annotations and detections; to link them there from the usual places:\n"
        + links(name, "ROOT")
    )


def links(name: str, root: str) -> str:
    """The commands that link annotations and detections from the usual places into one folder."""
    return (LINKS + "\n" + UBODY_LINKS if PUBLISHED[name][1] else LINKS).format(root=root)


def as_yaml(settings: Mapping[str, Any], comment: str) -> str:
    """Settings as the text of a params.yaml, in the form in which DVC writes it."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    stream = io.StringIO()
    stream.write("".join(f"# {line}\n" for line in comment.splitlines()))
    for name, section in settings.items():
        stream.write("\n")
        yaml.dump({name: json.loads(json.dumps(section))}, stream)  # shared objects would become references
    return stream.getvalue()


def recipe_text(name: str, root: str = ROOT) -> str:
    """The whole file of a recipe."""
    settings = settings_of(name, root)
    # Checked without the files of starting weights, which may still have to be downloaded.
    bare = {part: settings[part] | {"backbone": None} for part in ("teacher", "student")}
    from_settings(settings | bare)
    return as_yaml(settings, heading(name))


def with_sums(settings: dict[str, Any]) -> list[str]:
    """Fill in the checksums of the starting weights; return the paths of missing files."""
    missing = []
    for section in ("teacher", "student"):
        weights = settings[section]["backbone"]
        if weights is None:
            continue
        if Path(weights["path"]).is_file():
            weights["sha256"] = sha256_file(weights["path"])
        else:
            missing.append(weights["path"])
    return missing


def put_in_place(name: str, root: str) -> None:
    """Replace params.yaml by a recipe and say what is still missing."""
    settings = settings_of(name, root)
    missing = with_sums(settings)
    write_atomic(project.root() / "params.yaml", as_yaml(settings, heading(name)))
    print(f"params.yaml is now the recipe {name} (git restore params.yaml brings the default back)")
    for path in dict.fromkeys(missing):
        print(f"to be downloaded: {_URL}{Path(path).name} -> {path}; then this command again, for its checksum")
    if name in PUBLISHED and not Path(settings["data"]["tracked"]).is_dir():
        print(f"to be made: {settings['data']['tracked']}, the folder of all annotations and detections, such as by")
        print(links(name, shlex.quote(root)))


@exits_with_line
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m posedistill.pipeline.recipes", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="replace params.yaml by this recipe; without it, list all")
    parser.add_argument("--root", default=ROOT, help="folder with annotations/, coco/, UBody/ and weights/, absolute")
    parser.add_argument("--write", action="store_true", help="regenerate recipes/*.yaml")
    given = parser.parse_args(arguments)
    if not Path(given.root).is_absolute():
        raise UserError(f"--root: found {given.root}, allowed: an absolute path (experiments run in other folders)")
    if given.write:
        for name in NAMES:
            write_atomic(project.root() / "recipes" / f"{name}.yaml", recipe_text(name))
    elif given.name:
        put_in_place(given.name, given.root)
    else:
        print("\n".join(f"{name:<{max(map(len, NAMES))}}  {summary(name)}" for name in NAMES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
