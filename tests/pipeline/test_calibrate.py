"""calibrate: labelled persons in, a model with curves out, for each kind of file."""

import json

import numpy as np
import pytest
import torch
from prepared_project import make_project

import posedistill
from posedistill.__main__ import main
from posedistill.data.store.arrow import ValStore
from posedistill.export.onnx_file import export_onnx
from posedistill.models.checkpoint import model_from_checkpoint
from posedistill.models.onnx_model import wrap
from posedistill.models.weights_file import read_weights
from posedistill.pipeline.provenance import trained_on

INPUT = (128, 96)


@pytest.fixture(scope="module")
def model(random_model):
    return random_model("n", INPUT)


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    """A project, and beside it its pictures and annotations as anybody has them."""
    root = make_project(tmp_path_factory.mktemp("project"), model)
    store = ValStore(root / "prepared" / "val-rendered")
    (root / "pictures").mkdir()
    for name, content in zip(store.names, store.images):
        (root / "pictures" / name).write_bytes(content)
    (root / "gt.json").write_bytes(store.ground_truth.read_bytes())
    export_onnx(model, root / "model.onnx")
    wrap(root / "model.onnx", root / "wrapped.safetensors")
    return root


@pytest.fixture
def project(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def calibrate(*arguments):
    return main(["calibrate", *map(str, arguments), "--threads", "1", "--device", "cpu"])


def test_the_projects_model_is_calibrated_on_its_validation_set(project, tmp_path, capsys):
    assert calibrate("--out", tmp_path / "new.safetensors") == 0
    text = capsys.readouterr().out
    assert "calibrated on 8 persons of rendered" in text
    assert ["feet", "plain", "48", "left", "out:"] in [line.split()[:5] for line in text.splitlines()]
    pose = posedistill.load(tmp_path / "new.safetensors", "cpu")
    assert pose.calibration.persons == 8 and set(pose.calibration.curves["plain"]) == {"body", "face", "hand"}
    assert trained_on(tmp_path / "new.safetensors", pose.model) == {"synthetic"}  # which dvc.lock knows of stage2 alone
    capsys.readouterr()
    picture = next((project / "pictures").iterdir())
    assert main(["predict", str(picture), "--weights", str(tmp_path / "new.safetensors"), "--out", str(tmp_path)]) == 0
    assert "no calibration for feet: confidence 0" in capsys.readouterr().out
    before, after = (
        model_from_checkpoint(path).state_dict() for path in ("models/stage2.safetensors", tmp_path / "new.safetensors")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("source", ["models/stage2.safetensors", "model.onnx", "wrapped.safetensors"])
def test_pictures_and_annotations_give_the_same_curves_for_every_kind_of_file(project, tmp_path, source):
    out = tmp_path / ("new" + source[source.index(".") :])
    assert calibrate(source, "--out", out, "--annotations", "gt.json", "--images", "pictures", "--batch", 3) == 0
    found = posedistill.load(out, "cpu").calibration
    assert found.data == "gt.json" and found.persons == 8
    assert calibrate("--out", tmp_path / "store.safetensors") == 0
    expected = posedistill.load(tmp_path / "store.safetensors", "cpu").calibration
    for part, curve in expected.curves["flip_test"].items():
        assert np.allclose(found.curves["flip_test"][part].scores, curve.scores, atol=2e-3)
        assert np.allclose(found.curves["flip_test"][part].probabilities, curve.probabilities, atol=0.03)


def test_metadata_and_layout_stay(project, tmp_path):
    assert calibrate("--out", tmp_path / "new.pth") == 0
    content, metadata = read_weights(tmp_path / "new.pth")
    assert set(content) == {"meta", "state_dict"} and metadata["size"] == "n"
    assert posedistill.load(tmp_path / "new.pth", "cpu").calibration is not None


def test_pictures_that_cannot_be_read_are_left_out(project, tmp_path, capsys):
    truth = json.loads((project / "gt.json").read_text())
    truth["images"][0]["file_name"] = "missing.png"
    truth["annotations"].append({**truth["annotations"][0], "id": 10**6, "category_id": 7})
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    out = tmp_path / "new.safetensors"
    assert calibrate("--out", out, "--annotations", tmp_path / "gt.json", "--images", "pictures") == 0
    said = capsys.readouterr()
    assert "1 pictures cannot be read, the first: missing.png: " in said.out
    assert "1 annotations of another category than person are left out" in said.err
    assert posedistill.load(out, "cpu").calibration.persons == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--out", "a.onnx"), ".safetensors or .pth or .pt"),
        (("model.onnx", "--out", "a.pth"), "ending in .onnx"),
        (("--out", "models/stage2.safetensors"), "would overwrite"),
        (("--out", "a.pth", "--images", "pictures"), "belong together"),
        (("--out", "a.pth", "--annotations", "gt.json", "--images", "nowhere"), "expected the folder"),
        (("--out", "a.pth", "--annotations", "pictures", "--images", "pictures"), "annotation file"),
        (("nowhere.pth", "--out", "a.pth"), "no such file"),
        (("--out", "a.pth", "--batch", "0"), "--batch must be at least 1"),
    ],
)
def test_bad_input_is_one_line(project, capsys, arguments, words):
    assert calibrate(*arguments) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not (project / "a.pth").exists() and not (project / "a.onnx").exists()


def test_annotations_without_labelled_persons_are_one_line(project, tmp_path, capsys):
    truth = json.loads((project / "gt.json").read_text())
    for one in truth["annotations"]:
        one["iscrowd"] = 1
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    assert calibrate("--out", "a.pth", "--annotations", tmp_path / "gt.json", "--images", "pictures") == 2
    assert "no person has a box and labelled keypoints" in capsys.readouterr().err
