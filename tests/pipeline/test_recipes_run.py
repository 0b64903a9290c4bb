"""Each recipe for real, on a made-up COCO + UBody tree: preparation and two steps of every training."""

import json

import cv2
import numpy as np
import pytest
import torch

from posedistill.files import sha256_file
from posedistill.keypoints import PARTS
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import from_settings
from posedistill.pipeline import recipes
from posedistill.pipeline.evaluate import evaluate_model
from posedistill.pipeline.prepare import prepare
from posedistill.training import distill_stage1, distill_stage2, train_supervised

pytestmark = pytest.mark.slow

FIELDS = {"body": "keypoints", **{part: f"{part}_kpts" for part in PARTS if part != "body"}}
PICTURE = 240, 320  # height, width


def person(rng: np.random.Generator, identity: int, image: int) -> dict:
    x, y, w, h = 60.0, 20.0, 120.0, 200.0
    keypoints = np.column_stack([rng.uniform(x, x + w, 133), rng.uniform(y, y + h, 133), np.full(133, 2.0)])
    entry = {"id": identity, "image_id": image, "category_id": 1, "iscrowd": 0, "area": w * h / 2}
    entry |= {field: keypoints[PARTS[part]].round(1).ravel().tolist() for part, field in FIELDS.items()}
    return entry | {"bbox": [x, y, w, h], "num_keypoints": 17}


def write_set(annotations, images, names: list[tuple[int, str]], seed: int) -> None:
    """One picture and person for each (image id, file name)."""
    rng = np.random.default_rng(seed)
    height, width = PICTURE
    content: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    for identity, name in names:
        file = images / name
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(file), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
        content["images"].append({"id": identity, "file_name": name, "width": width, "height": height})
        content["annotations"].append(person(rng, 1000 + identity, identity))
    annotations.parent.mkdir(parents=True, exist_ok=True)
    annotations.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """The folder that recipes expect, with four persons to train on and two to validate on."""
    root = tmp_path_factory.mktemp("datasets")
    coco, ubody = root / "coco", root / "UBody"
    for split, count in (("train", 4), ("val", 2)):
        names = [(i, f"{i:012d}.jpg") for i in range(1, count + 1)]
        write_set(root / "annotations" / f"coco_wholebody_{split}_v1.0.json", coco / f"{split}2017", names, count)
    boxes = [{"image_id": i, "category_id": 1, "bbox": [55, 18, 130, 205], "score": 0.9} for i in (1, 2)]
    detections = root / recipes.DETECTIONS
    detections.write_text(json.dumps(boxes))
    frames = [(number, f"{video}/{number:06d}.png") for video, number in (("Speech_S1", 10), ("Speech_S2", 20))]
    write_set(root / "annotations/ubody/Speech/keypoint_annotation.json", ubody / "images" / "Speech", frames, 7)
    (ubody / "splits").mkdir()
    np.save(ubody / "splits" / "intra_scene_test_list.npy", np.array(["Speech_S2"]))
    # Starting weights in the layout of the published files.
    (root / "weights").mkdir()
    for size, name in recipes.BACKBONES.items():
        torch.manual_seed(0)
        backbone = build_rtmpose(size, (64, 64)).backbone.state_dict()
        torch.save(
            {"state_dict": {f"backbone.{key}": value for key, value in backbone.items()}}, root / "weights" / name
        )
    return root


@pytest.mark.parametrize("name", recipes.PUBLISHED)
def test_two_steps_a_stage(name, datasets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path))
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    settings = recipes.settings_of(name, str(datasets))
    assert recipes.with_sums(settings) == []
    # Smaller in nothing but length.
    settings["train"] |= {"batch": 2, "validate_every": 1}
    settings["runtime"] |= {"device": "cpu", "workers": 0, "compile": False, "micro_batch": None}
    settings["evaluate"] |= {"batch": 2, "bootstrap": 0}
    for section in ("teacher", "student", "stage2"):
        settings[section]["epochs"] = 1
    for source in settings["data"]["train"] + settings["data"]["val"]:
        if source["source"] == "ubody":
            source["scenes"] = ["Speech"]
    params = from_settings(settings)

    prepare(params, workers=1, progress=False)
    for run in (
        train_supervised(params, "teacher"),
        train_supervised(params, "baseline"),
        distill_stage1(params),
        distill_stage2(params),
    ):
        assert run.history["step"].max() == 2
        assert np.isfinite(run.history["total"]).all()
    assert (
        len({sha256_file(f"models/{model}.safetensors") for model in ("teacher", "baseline", "stage1", "stage2")}) == 4
    )
    evaluate_model(params, "stage2")
    content = json.loads((tmp_path / "reports" / "metrics" / "stage2.json").read_text())
    assert content["images"] == 2 and content["persons"] == 2
