"""Distilling without labels: the same pictures and boxes, and no keypoint that a student could see."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from posedistill.data.store.arrow import TrainStore
from posedistill.errors import UserError
from posedistill.models.checkpoint import save_checkpoint
from posedistill.params import from_settings, read_settings
from posedistill.pipeline.experiments import unlabelled

ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings():
    return read_settings(ROOT / "params.yaml")


@pytest.fixture
def rendered(monkeypatch, tmp_path):
    """Rendering replaced by one picture with two persons and a crowd."""

    def render(body, out, images, seed, workers, progress):
        (out / "images").mkdir(parents=True)
        (out / "images" / "000000.jpg").write_bytes(b"picture")
        people = [
            {"image_id": 0, "bbox": [1, 2, 3, 4], "keypoints": [5, 6, 2] * 17, "iscrowd": 0},
            {"image_id": 0, "bbox": [5, 6, 7, 8], "keypoints": [5, 6, 2] * 17},
            {"image_id": 0, "bbox": [0, 0, 9, 9], "keypoints": [0] * 51, "iscrowd": 1},
        ]
        truth = {"images": [{"id": 0, "file_name": "000000.jpg"}], "annotations": people}
        (out / "annotations.json").write_text(json.dumps(truth))

    monkeypatch.setattr("posedistill.synthetic.render_dataset", render)
    (tmp_path / "body").mkdir()
    (tmp_path / "body" / "body_asset.npz").write_bytes(b"a body")


def test_only_pictures_and_boxes_are_left(settings, rendered, tmp_path):
    unlabelled.write_pictures(settings, tmp_path / "body", tmp_path / "data", workers=1)
    (source,) = settings["data"]["train"]
    folder = tmp_path / "data" / source["name"]
    assert sorted(path.name for path in folder.iterdir()) == ["boxes.json", "images", "made_with.json"]
    boxes = json.loads((folder / "boxes.json").read_text())
    assert [box["bbox"] for box in boxes] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert {box["file_name"] for box in boxes} == {"000000.jpg"}
    assert "keypoints" not in (folder / "boxes.json").read_text()


def test_finished_pictures_are_not_rendered_again(settings, rendered, tmp_path):
    for _ in range(2):  # the second call of `render` would fail on the folder that is there
        unlabelled.write_pictures(settings, tmp_path / "body", tmp_path / "data", workers=1)


def test_pictures_of_other_settings_are_rendered_anew(settings, rendered, tmp_path):
    unlabelled.write_pictures(settings, tmp_path / "body", tmp_path / "data", workers=1)
    (source,) = settings["data"]["train"]
    old = tmp_path / "data" / source["name"] / "images" / "of-other-settings.jpg"
    old.write_bytes(b"")
    source["images"] += 1
    unlabelled.write_pictures(settings, tmp_path / "body", tmp_path / "data", workers=1)
    assert not old.exists() and (old.parent / "000000.jpg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--processes", "0"], "from 1"), (["--seeds", "-1"], "from 0"), (["--seeds", "x"], "invalid whole number")],
)
def test_bad_options(arguments, words, capsys):
    with pytest.raises(SystemExit):
        unlabelled.main(arguments)
    assert words in capsys.readouterr().err


def test_a_seed_that_is_there_twice(capsys):
    assert unlabelled.main(["--seeds", "0", "0"]) == 2
    assert capsys.readouterr().err == "--seeds: found 0 0, expected each seed once\n"


def test_the_settings_are_valid_and_leave_validation_alone(settings):
    changes = unlabelled.unlabelled_settings(settings)
    changed = {**settings["data"], **{key.removeprefix("data."): value for key, value in changes.items()}}
    params = from_settings({"data": changed})
    assert [source.source for source in params.data.train] == ["unlabelled"]
    assert changed["val"] == settings["data"]["val"]


def test_labels_of_photographs_are_not_withheld(settings):
    settings["data"]["train"] = [{"source": "coco_wholebody", "name": "coco", "images": "a", "annotations": "b"}]
    with pytest.raises(UserError, match="expected source: synthetic"):
        unlabelled.unlabelled_settings(settings)


def test_what_is_compared_is_trained():
    plan = unlabelled.experiment((0, 1))
    names = {workspace.name for workspace in plan.workspaces}
    assert {plan.place(variant, seed)[0] for variant in plan.models for seed in (0, 1)} == names
    assert {variant for pair in plan.pairs.values() for variant in pair} <= set(plan.models)
    logits = next(workspace for workspace in plan.workspaces if workspace.name == "logits-seed1")
    assert logits.changes == {"loss.alpha": 0.0, "student.seed": 1}
    assert logits.models == {"teacher": ""}


def test_the_table_names_what_taught_and_its_intervals(tmp_path):
    one = {"mean_oks": {"wholebody": 0.5}, "AP": {"wholebody": 0.25}}
    content = {
        "models": {"logits": {"0": one, "1": {"mean_oks": {"wholebody": 0.6}, "AP": {"wholebody": 0.35}}}},
        "texts": {"logits": "the teacher's logits"},
        "differences": {"a − b": {"pooled": {"wholebody": [0.01, -0.005, 0.025]}}},
    }
    (tmp_path / "unlabelled.json").write_text(json.dumps(content))
    text = unlabelled.table(tmp_path / "unlabelled.json")
    assert "| the teacher's logits | 55.0 | 30.0 |" in text
    assert "| a − b | +1.0 | -0.5 to +2.5 |" in text


def test_what_was_seen_is_counted(tmp_path, monkeypatch):
    base = tmp_path / "base"
    points = {
        tmp_path / "prepared" / "train": [[0, 2, 1], [0, 0, 2]],
        base / "pictures/prepared/train": [[0, 0, 0]] * 2,
    }

    def store(folder):
        return [SimpleNamespace(keypoints=np.array([[5.0, 5.0, value] for value in seen])) for seen in points[folder]]

    monkeypatch.setattr("posedistill.data.store.arrow.TrainStore", store)
    for variant in ("logits", "features-logits"):
        curves = base / f"{variant}-seed3" / "reports" / "curves"
        curves.mkdir(parents=True)
        (curves / "stage1.tsv").write_text("epoch\tlabel\tlogit\n1\t0.0\t4.5\n2\t0.0\t3.5\n")
    seen = unlabelled.what_was_seen(tmp_path, base, (3,))
    assert seen == {"data": {"with labels": [2, 3], "without labels": [2, 0]}, "label_loss": 0.0}
    (curves / "stage1.tsv").write_text("epoch\tlabel\tlogit\n1\t0.25\t4.5\n")
    assert unlabelled.what_was_seen(tmp_path, base, (3,))["label_loss"] == 0.25


@pytest.mark.slow
def test_students_learn_from_the_teacher_alone(settings, random_model, tmp_path):
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "data" / "body").symlink_to(ROOT / "assets" / "body")
    (root / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (root / "src").symlink_to(ROOT / "src")  # the runner of the report
    (root / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "12_unlabelled.ipynb", root / "notebooks")
    settings["data"]["train"][0]["images"], settings["data"]["val"][0]["images"] = 6, 4
    settings["student"] |= {"backbone": None, "epochs": 1}
    settings["teacher"]["backbone"] = None
    settings["train"]["batch"] = 4
    settings["evaluate"]["bootstrap"] = 10
    (root / "params.yaml").write_text(json.dumps(settings))
    size = settings["input"]["height"], settings["input"]["width"]
    save_checkpoint(random_model(settings["teacher"]["size"], size), root / "models" / "teacher.safetensors")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "POSEDISTILL_ROOT": str(root),
        "POSEDISTILL_CHECKPOINTS": str(tmp_path / "checkpoints"),
    }
    prepare = "from posedistill.params import load_params\nfrom posedistill.pipeline.prepare import prepare\n"
    program = f"{prepare}if __name__ == '__main__':\n    prepare(load_params())\n"
    (root / "prepare.py").write_text(program)
    for command in (["prepare.py"], ["-m", "posedistill.pipeline.experiments.unlabelled", "--seeds", "0"]):
        subprocess.run([sys.executable, *command], cwd=root, env=environment, check=True)
    content = json.loads((root / "reports" / "metrics" / "unlabelled.json").read_text())
    assert set(content["models"]) == set(unlabelled.VARIANTS)
    assert content["data"]["without labels"][1] == 0 < content["data"]["with labels"][1]
    assert content["label_loss"] == 0
    assert (root / "reports" / "12_unlabelled.ipynb").is_file()
    base = tmp_path / "checkpoints" / "unlabelled"
    labelled, without = TrainStore(root / "prepared" / "train"), TrainStore(base / "pictures" / "prepared" / "train")
    assert len(labelled) == len(without)
    assert any(labelled[i].keypoints[:, 2].any() for i in range(len(labelled)))
    assert not any(without[i].keypoints[:, 2].any() for i in range(len(without)))
    curves = np.genfromtxt(base / "logits-seed0" / "reports" / "curves" / "stage1.tsv", names=True, delimiter="\t")
    assert (np.atleast_1d(curves["label"]) == 0).all()
    assert (np.atleast_1d(curves["logit"]) > 0).all()
