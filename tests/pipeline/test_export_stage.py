"""The export stage: the file, its proof, and what the report shows of both."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from prepared_project import ROOT, make_project

from posedistill.analysis import calibration
from posedistill.errors import UserError
from posedistill.export.onnx_file import export_onnx
from posedistill.inference.pose import load
from posedistill.models.checkpoint import model_from_checkpoint
from posedistill.params import load_params
from posedistill.pipeline import export as stage
from posedistill.reporting import certificate
from posedistill.reporting import export as report

INPUT = (128, 96)


@pytest.fixture(scope="module")
def params():
    params = load_params(ROOT / "params.yaml")
    return params.replaced(
        input=params.input.replaced(height=INPUT[0], width=INPUT[1]),
        student=params.student.replaced(size="n"),
        evaluate=params.evaluate.replaced(batch=3),
        export=params.export.replaced(crops=7),
        runtime=params.runtime.replaced(workers=0, device="cpu"),
    )


@pytest.fixture(scope="module")
def model(random_model):
    return random_model("n", INPUT)


@pytest.fixture
def project(model, tmp_path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path, model))
    return tmp_path


@pytest.fixture(scope="module")
def exported(model, params, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := make_project(tmp_path_factory.mktemp("project"), model))
        done = stage.export_student(params)
        sheet = report.example_sheet(done, count=2)
    return done, sheet, folder


def test_the_student_is_exported_and_proved(exported, model):
    done, _, _ = exported
    assert done.file_bytes > 4 * done.parameters  # float32, all of them
    assert done.parity.crops == 7 and done.parity.points == 7 * 133
    assert done.parity.good
    assert done.persons == 8
    ours, theirs = done.ap["wholebody"]
    assert 0.2 < ours < 0.99  # neither 0 nor 1: an AP that would show a difference
    assert abs(ours - theirs) <= 0.001
    assert done.ap_difference <= 0.001


def digests(folder):
    files = [*sorted((folder / "models").rglob("student*")), folder / "models" / "onnx" / "certificate.json"]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_equal_models_give_equal_files(exported, project, params):
    (project / "models" / "onnx").mkdir()
    (project / "models" / "onnx" / "student.int8-loses-9.9-ap.onnx").touch()  # of an earlier run
    stage.export_student(params)
    assert digests(project) == digests(exported[2]) and len(digests(project)) == 5


def test_every_file_carries_its_calibration(exported, model):
    done, _, folder = exported
    paths = [folder / row.path for row in done.certificate] + [folder / "models" / "student.safetensors"]
    found = [load(path, "cpu").calibration for path in paths]
    assert [one.persons for one in found] == [8] * 4
    assert found[3] == done.calibration
    for part, curve in found[0].curves["flip_test"].items():
        assert np.allclose(curve.scores, done.calibration.curves["flip_test"][part].scores, atol=1e-3)
    weights = model_from_checkpoint(paths[3]).state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert "feet" not in calibration.calibration_table(done.calibration).markdown()  # 48 labelled points


def test_the_certificate_judges_every_file(exported):
    done, _, folder = exported
    fp32, fp16, int8 = done.certificate
    assert fp32.path == done.path and not fp32.ap_difference and fp32.loss is None
    assert fp16.file_bytes < 0.6 * fp32.file_bytes and int8.file_bytes < 0.75 * fp32.file_bytes
    for row in (fp16, int8):
        difference, low, high = row.ap_difference["wholebody"]
        assert difference == pytest.approx(row.ap["wholebody"] - fp32.ap["wholebody"]) and low <= high
        assert ("loses" in row.path.name) == (row.loss is not None) == (row.warning is not None)
    written = json.loads((folder / "models" / "onnx" / "certificate.json").read_text())
    assert [one["file"] for one in written["files"]] == [row.path.name for row in done.certificate]
    assert written["persons"] == 8
    text = certificate.differences_table(done.certificate).markdown()
    assert "AP, int8 − fp32" in text and "| hands |" in text


def test_crops_for_int8_are_the_trainings_crops(project, params):
    store = stage.ValStore("prepared/val-rendered")
    crops, expected = stage.training_crops(params, 100), stage.first_crops(params, store, 100)
    assert crops.shape == expected.shape == (8, 3, *INPUT)
    assert (crops - expected).abs().mean() < 0.1  # but for the JPEG of the training store
    assert torch.equal(stage.training_crops(params, 2), crops[[0, 7]])


def test_a_file_that_is_not_the_student_fails_the_stage_and_is_removed(project, params, random_model, monkeypatch):
    other = random_model("n", INPUT, seed=1)
    monkeypatch.setattr(stage, "export_onnx", lambda model, *arguments: export_onnx(other, *arguments))
    with pytest.raises(RuntimeError, match="differs from the model"):
        stage.export_student(params)
    assert not (project / "models" / "student.onnx").exists()


def test_a_large_set_is_judged_in_part_the_same_for_both(project, params, model, monkeypatch):
    monkeypatch.setattr(stage, "MOST_PERSONS", 3)
    done = stage.export_student(params)
    assert done.persons == 3
    assert done.ap["wholebody"][0] > 0.2  # the other images' persons do not count as missed


def test_crops_are_the_first_persons_in_order(project, params):
    few, more = (stage.first_crops(params, stage.ValStore("prepared/val-rendered"), count) for count in (2, 100))
    assert len(few) == 2 and len(more) == 8
    assert torch.equal(few, more[:2])
    assert few.shape[1:] == (3, *INPUT)


def test_tables_of_the_report(exported):
    done, sheet, _ = exported
    facts = report.facts(done)
    assert facts["input"] == "input [batch, 3, 128, 96]"
    assert facts["outputs"] == "simcc_x [batch, 133, 192], simcc_y [batch, 133, 256]"
    text = report.parity_table(done).markdown()
    assert "931 points" in text and "≤ 0.0001" in text and "8 persons" in text
    assert "whole body" in report.ap_table(done).markdown()
    assert np.asarray(sheet).std() > 10


def measured():
    rows = [
        {"size": "n", "input_size": "128x96", "runtime": runtime, "device": "cpu", "batch": batch}
        | {"median_ms": batch * slow, "p95_ms": 2.0 * batch * slow, "persons_per_s": 1000 / slow}
        for runtime, slow in (("pytorch", 4), ("onnxruntime", 2))
        for batch in (1, 8, 32)
    ]
    return pd.DataFrame(rows)


def test_latency_is_quoted_from_the_measurements_of_all_machines(tmp_path):
    for machine in ("b-cpu", "a-gpu"):
        measured().to_csv(tmp_path / f"{machine}.csv", index=False)
    latency = report.read_latency(tmp_path)
    assert latency["machine"].unique().tolist() == ["a-gpu: n 128x96", "b-cpu: n 128x96"]
    text = report.latency_table(latency).markdown()
    assert "b-cpu: n 128x96, onnxruntime (cpu), batch 8 | 16.00 | 32.00 | 500" in text
    figure = report.latency_figure(latency)
    assert [panel.get_title(loc="left") or panel.get_title() for panel in figure.axes] == latency[
        "machine"
    ].unique().tolist()
    assert np.allclose(figure.axes[0].lines[1].get_ydata(), 2)  # ms per person


def test_missing_measurements_say_how_to_make_them(tmp_path):
    with pytest.raises(UserError, match="benchmark latency"):
        report.read_latency(tmp_path)
