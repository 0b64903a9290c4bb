"""A published ONNX file as the teacher of stage 1: it teaches by its logits, as the model in it would."""

from pathlib import Path

import pytest
import torch
from prepared_project import make_project
from training_fakes import SIZE, batch_at, model

from posedistill.data.store.arrow import ValStore
from posedistill.errors import UserError
from posedistill.evaluation.predict import predict_poses
from posedistill.export.onnx_file import export_onnx
from posedistill.files import sha256_file
from posedistill.models.onnx_model import OnnxModel
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.params import Weights, load_params
from posedistill.pipeline import evaluate as stage
from posedistill.training import Paths
from posedistill.training.stage1 import Stage1, load_teacher
from posedistill.training.supervised import train_supervised

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def onnx_file(random_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "published.onnx"
    export_onnx(random_model("n", SIZE), path)
    return path


@pytest.fixture
def params(onnx_file):
    params = load_params(ROOT / "params.yaml")
    weights = Weights(path=str(onnx_file), sha256=sha256_file(onnx_file))
    return params.replaced(
        input=params.input.replaced(height=SIZE[0], width=SIZE[1]),
        teacher=params.teacher.replaced(checkpoint=weights),
        runtime=params.runtime.replaced(workers=0, device="cpu"),
    )


def terms(teacher, params, student):
    batch = batch_at(0, 0, 3)
    objective = Stage1(student, teacher, params.loss)
    images = batch.images.permute(0, 3, 1, 2).float() / 255
    losses, _, teacher_logits = objective(images, batch.keypoints)
    return losses, teacher_logits


def test_its_logits_teach_as_the_model_in_it_would(params, onnx_file, random_model):
    student = model(seed=3).eval()
    by_onnx, logits = terms(OnnxModel(onnx_file), params, student)
    by_model, expected = terms(random_model("n", SIZE), params, student)
    for ours, theirs in zip(logits, expected):
        assert torch.allclose(ours, theirs, atol=1e-4)
    assert by_onnx["logit"].item() == pytest.approx(by_model["logit"].item(), rel=1e-4)
    assert by_onnx["label"].item() == pytest.approx(by_model["label"].item())
    assert by_onnx["feature"].item() == 0 < by_model["feature"].item()
    by_onnx["total"].backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_the_teacher_stage_takes_the_file_and_stage1_finds_it(params, tmp_path, capsys):
    where = Paths(output=str(tmp_path / "teacher.safetensors"), curves=str(tmp_path / "teacher.tsv"))
    run = train_supervised(params, "teacher", where)
    assert is_onnx(run.model_path)
    assert isinstance(load_teacher(params, run.model_path), OnnxModel)
    assert "teaches by its logits alone" in capsys.readouterr().err


def test_a_file_for_another_input_is_one_clear_error(params, tmp_path):
    other = params.replaced(input=params.input.replaced(height=64, width=64))
    with pytest.raises(UserError, match="takes 32×32 pixels, the settings 64×64"):
        train_supervised(other, "teacher", Paths(output=str(tmp_path / "t.safetensors")))
    with pytest.raises(UserError, match=r"expected a teacher for input \(64, 64\)"):
        load_teacher(other, params.teacher.checkpoint.path)


def test_it_is_evaluated_like_any_teacher(params, random_model, tmp_path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path, random_model("n", SIZE)))
    train_supervised(params, "teacher", Paths())
    evaluation = stage.evaluate_model(params, "teacher")
    assert evaluation.persons == 8 and evaluation.parameters > 1e5 and evaluation.macs > 1e6
    poses = predict_poses(OnnxModel("models/teacher.safetensors"), ValStore("prepared/val-rendered"), params)
    expected = predict_poses(random_model("n", SIZE), ValStore("prepared/val-rendered"), params)
    assert len(poses.score) == 8
    assert abs(poses.keypoints - expected.keypoints).mean() < 0.1
