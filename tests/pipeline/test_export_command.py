"""export and convert of weights from anywhere: their calibration, precisions, and what is refused."""

import hashlib
import os

import pytest
import torch

from posedistill.__main__ import main
from posedistill.evaluation.calibration import Calibration, Curve
from posedistill.inference.pose import load
from posedistill.inference.weights import load_model
from posedistill.models.checkpoint import save_checkpoint
from posedistill.pipeline.provenance import trained_on

CURVES = {part: Curve((0.1, 0.9), (0.2, 0.8)) for part in ("body", "foot", "face", "hand")}
CALIBRATION = Calibration({"plain": CURVES, "flip_test": CURVES}, 525, "rendered")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def export(*arguments):
    return main(["export", *map(str, arguments)])


def calibrated(path, model):
    save_checkpoint(model, path, metadata={"calibration": CALIBRATION.to_json()})


def test_given_weights_keep_their_calibration(random_model, tmp_path):
    calibrated(tmp_path / "given.safetensors", random_model(seed=2))
    assert export("--weights", tmp_path / "given.safetensors", "--onnx-only", tmp_path / "one.onnx") == 0
    assert load(tmp_path / "one.onnx", "cpu").calibration == CALIBRATION


def test_fp16_on_request(random_model, tmp_path, capsys):
    save_checkpoint(random_model(seed=2), tmp_path / "given.safetensors")
    given = ("--weights", tmp_path / "given.safetensors")
    assert export(*given, "--onnx-only", tmp_path / "half.onnx", "--precision", "fp16") == 0
    assert "fp16 is neither judged nor calibrated here" in capsys.readouterr().out
    export(*given, "--onnx-only", tmp_path / "whole.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * (tmp_path / "whole.onnx").stat().st_size
    assert export(*given, "--onnx-only", tmp_path / "int8.onnx", "--precision", "int8") == 2
    assert "int8 takes its ranges from the training crops" in capsys.readouterr().err
    assert export(*given, "--precision", "fp16") == 2
    assert "--precision fp16: give --onnx-only FILE" in capsys.readouterr().err
    assert export(*given, "--onnx-only", tmp_path / "half.safetensors") == 2
    assert "expected a file ending in .onnx" in capsys.readouterr().err
    odd = os.fsdecode(b"odd\xff\n.onnx")
    assert export(*given, "--onnx-only", tmp_path / odd) == 0
    assert r"odd\xff\x0a.onnx: " in capsys.readouterr().out
    assert export("--weights", odd) == 2 and len(capsys.readouterr().err.splitlines()) == 1
    assert main(["convert", str(given[1]), str(tmp_path / f"{odd}.pth")]) == 0
    assert r"odd\xff\x0a.onnx.pth: size n" in capsys.readouterr().out


@pytest.mark.parametrize("layout", [(".safetensors", "own"), (".pth", "mmpose")])
def test_weights_that_are_not_finite_are_refused(random_model, tmp_path, layout):
    model = random_model(seed=3)
    with torch.no_grad():
        model.head.final_layer.weight[0] = float("nan")
    path = tmp_path / f"nan{layout[0]}"
    save_checkpoint(model, path, layout[1])
    for command in (("export", "--weights", path, "--out", tmp_path / "out"), ("convert", path, tmp_path / "b.pth")):
        assert main([str(one) for one in command]) == 2
    with torch.no_grad():
        model.head.final_layer.weight[0] = 1e5
    save_checkpoint(model, path, layout[1])
    assert main(["convert", str(path), str(tmp_path / "b.pth"), "--half"]) == 2  # infinite in float16
    assert not (tmp_path / "b.pth").exists()


@pytest.mark.parametrize(
    ("role", "params", "kinds"),
    [
        ("stage2", "{}", {"synthetic"}),
        ("teacher", "{}", {"synthetic"}),
        ("teacher", "{teacher.checkpoint: {path: given.pth}}", set()),  # nobody knows
    ],
)
def test_what_a_model_was_trained_on_is_read_from_the_lock(random_model, tmp_path, role, params, kinds):
    weights = tmp_path / "some.safetensors"
    save_checkpoint(random_model(seed=2), weights)
    md5 = hashlib.md5(weights.read_bytes()).hexdigest()
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  prepare:\n    params: {params.yaml: {data.train: [{source: synthetic}]}}\n"
        f"  {role}:\n    params: {{params.yaml: {params}}}\n"
        f"    outs: [{{path: models/{role}.safetensors, md5: {md5}}}]\n"
    )
    (tmp_path / "dvc.yaml").touch()
    assert trained_on(weights, load_model(weights)) == kinds


def test_onnx_files_say_what_the_model_was_trained_on(random_model, tmp_path):
    save_checkpoint(random_model(seed=2), tmp_path / "given.safetensors", metadata={"trained_on": "ubody,synthetic"})
    for name in ("fp32", "fp16"):
        file = tmp_path / f"{name}.onnx"
        assert export("--weights", tmp_path / "given.safetensors", "--onnx-only", file, "--precision", name) == 0
        assert trained_on(file, load_model(file)) == {"synthetic", "ubody"}
    assert export("--weights", tmp_path / "given.safetensors", "--out", tmp_path / "folder") == 0
    for file in (tmp_path / "folder").glob("given*.*"):
        assert trained_on(file, load_model(file)) == {"synthetic", "ubody"}
