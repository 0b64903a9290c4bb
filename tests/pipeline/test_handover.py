"""What is handed out: the same model in every layout, with where it comes from, and a card that says so."""

import argparse
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from posedistill.__main__ import main
from posedistill.commands import export as cli
from posedistill.errors import UserError
from posedistill.evaluation.calibration import Calibration, Curve
from posedistill.export.model_card import CardFacts, model_card
from posedistill.export.onnx_file import export_onnx
from posedistill.export.parity import compare
from posedistill.inference.pose import load
from posedistill.inference.weights import load_model
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.onnx_model import wrap
from posedistill.models.rtmpose import build_rtmpose
from posedistill.models.weights_file import read_weights
from posedistill.params import load_params, read_settings, to_settings
from posedistill.pipeline.handover import hand_over
from posedistill.pipeline.provenance import box_padding, data_hash, git_revision, trained_on

ROOT = Path(__file__).parents[2]

METRICS = {
    **{part: {"AP": ap, "AR": ap + 0.1} for part, ap in (("wholebody", 0.25), ("body", 0.5), ("foot", -1.0))},
    "mean_oks": {"wholebody": 0.6, "body": 0.7},
    "mean_oks_intervals": {"wholebody": [0.575, 0.625]},
    "intervals": {"wholebody": {"AP": [0.2, 0.3]}},
    "images": 400,
    "persons": 545,
}


@pytest.fixture
def project(tmp_path, monkeypatch, random_model):
    """A project with settings, one trained model with its metrics, a lock file, in git."""
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "dvc.lock").write_text("stages:\n  prepare:\n    outs:\n    - {path: prepared, md5: 0123abcd.dir}\n")
    save_checkpoint(random_model(), root / "models" / "stage2.safetensors")
    (root / "reports" / "metrics").mkdir(parents=True)
    (root / "reports" / "metrics" / "stage2.json").write_text(json.dumps(METRICS))
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("POSEDISTILL_ROOT", str(root))
    return root


def export(*arguments):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def settings_exist(monkeypatch):
    """The default settings name starting weights that only a complete project has."""
    monkeypatch.setattr("posedistill.params._check_together", lambda params: None)


def test_all_layouts_hold_the_same_model_and_where_it_comes_from(project, random_model, settings_exist, capsys):
    assert export("--out", "out") == 0
    out = project / "out"
    said = capsys.readouterr().out
    assert all(f"{out / name}: " in said for name in ("stage2.onnx", "README.md"))
    assert sorted(file.name for file in out.iterdir()) == sorted(
        ["README.md", "metadata.json", "stage2.safetensors", "stage2-mmpose.pth", "stage2.onnx"]
    )
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32))
    for name in ("stage2.safetensors", "stage2-mmpose.pth", "stage2.onnx"):
        assert compare(random_model(), load_model(out / name), images).good
    about = json.loads((out / "metadata.json").read_text())
    assert about["git_revision"] == git_revision(project)
    assert about["data_hash"] == "0123abcd.dir"
    assert about["metrics"] == METRICS
    assert about["settings"] == to_settings(load_params("params.yaml"))
    _, metadata = read_weights(out / "stage2.safetensors")
    content, _ = read_weights(out / "stage2-mmpose.pth")
    assert set(content) == {"meta", "state_dict"}
    for kept in (metadata, content["meta"]["posedistill"]):
        assert kept["settings"] == about["settings"]
        assert kept["git_revision"] == about["git_revision"]
        assert kept["metrics"]["wholebody"]["AP"] == 0.25


def test_the_revision_says_if_files_were_changed(project):
    clean = git_revision(project)
    assert len(clean) == 40
    (project / "dvc.yaml").write_text("stages: {}  # changed\n")
    assert git_revision(project) == f"{clean}-dirty"


def test_no_git_and_no_lock_file_are_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision(tmp_path) is None
    assert data_hash(tmp_path) is None


def test_foreign_weights_have_a_card_without_claims(random_model, tmp_path):
    files = hand_over(random_model(), "published", tmp_path, None)
    card = (tmp_path / "README.md").read_text()
    assert len(files) == 5
    assert "Not evaluated." in card
    assert "not trained by this project" in card
    assert "non-commercial research only" in card
    assert json.loads((tmp_path / "metadata.json").read_text())["git_revision"] is None


def test_a_file_that_was_handed_out_before_keeps_what_is_known_of_it(project, settings_exist, tmp_path):
    assert export("--out", tmp_path / "first") == 0
    (tmp_path / "first" / "stage2.safetensors").rename(tmp_path / "renamed.safetensors")
    assert export("--weights", tmp_path / "renamed.safetensors", "--out", tmp_path / "second") == 0
    first, second = (json.loads((tmp_path / name / "metadata.json").read_text()) for name in ("first", "second"))
    for key in ("name", "settings", "metrics", "data_hash", "git_revision"):
        assert first[key] == second[key]
    card = (tmp_path / "second" / "README.md").read_text()
    assert "| whole body | 25.0 |" in card and "Stage 2 of the distillation" in card


def test_the_name_of_a_foreign_file_says_nothing(random_model, tmp_path):
    save_checkpoint(random_model(), tmp_path / "baseline.safetensors")
    assert export("--weights", tmp_path / "baseline.safetensors", "--out", tmp_path / "out") == 0
    assert "without a teacher" not in (tmp_path / "out" / "README.md").read_text()


def evaluated(project):
    """A lock file as after an evaluation of stage 2."""

    def entry(path):
        return f"{{path: {path}, md5: {hashlib.md5((project / path).read_bytes()).hexdigest()}}}"

    alpha = read_settings(project / "params.yaml")["loss"]["alpha"]
    (project / "dvc.lock").write_text(
        "stages:\n"
        f"  evaluate@stage2:\n    deps: [{entry('models/stage2.safetensors')}]\n"
        f"    outs: [{entry('reports/metrics/stage2.json')}]\n"
        f"  stage2:\n    params:\n      params.yaml:\n        loss.alpha: {alpha}\n"
    )


def test_a_card_never_states_the_numbers_of_another_model(project, settings_exist, random_model, tmp_path):
    evaluated(project)
    assert export("--out", tmp_path / "out") == 0
    settings = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(settings.replace("alpha: 7e-5", "alpha: 9e-5"))
    with pytest.raises(UserError, match=r"params\.yaml: loss\.alpha is 9e-05, but stage2 was made with 7e-05"):
        export("--out", tmp_path / "out")
    (project / "params.yaml").write_text(settings)
    save_checkpoint(random_model(seed=5), project / "models" / "stage2.safetensors")
    with pytest.raises(UserError, match=r"models/stage2\.safetensors is not the file that was evaluated"):
        export("--out", tmp_path / "out")


def test_other_models_than_whole_body_ones_are_refused(random_model, tmp_path):
    save_checkpoint(build_rtmpose("n", (64, 96), keypoints=17), tmp_path / "body.safetensors")
    with pytest.raises(UserError, match=r"expected 133 keypoints .*found 17"):
        export("--weights", tmp_path / "body.safetensors", "--out", tmp_path / "out")
    export_onnx(random_model(), tmp_path / "model.onnx")
    wrap(tmp_path / "model.onnx", tmp_path / "teacher.safetensors")
    with pytest.raises(UserError, match=r"teacher\.safetensors: an ONNX model"):
        export("--weights", tmp_path / "teacher.safetensors", "--out", tmp_path / "out")
    assert load_model(tmp_path / "teacher.safetensors").input_size == (64, 96)


def test_onnx_alone(random_model, tmp_path):
    save_checkpoint(random_model(), tmp_path / "model.pth", layout="mmpose")
    assert export("--weights", tmp_path / "model.pth", "--onnx-only", tmp_path / "model.onnx") == 0
    assert load_model(tmp_path / "model.onnx").input_size == (64, 96)
    assert {file.name for file in tmp_path.iterdir()} == {"model.pth", "model.onnx"}


def test_a_folder_that_cannot_be_written_is_one_clear_error(random_model, tmp_path):
    save_checkpoint(random_model(), tmp_path / "model.pth", layout="mmpose")
    for wrong in (["--out", tmp_path / "model.pth"], ["--onnx-only", tmp_path / "model.pth" / "model.onnx"]):
        with pytest.raises(UserError, match="cannot write into"):
            export("--weights", tmp_path / "model.pth", *wrong)


def test_a_model_that_is_not_there_is_one_clear_error(project, settings_exist):
    with pytest.raises(UserError, match=r"models/stage1.safetensors: make it with  dvc repro stage1"):
        export("--model", "stage1")


def card(sources=(), **changes):
    settings = {"data": {"train": list(sources), "val": [{"source": "synthetic", "name": "v", "images": 400}]}}
    facts = {
        **{"name": "stage2", "size": "n", "input_size": (128, 96), "parameters": 590_000, "macs": 64_000_000},
        **{"settings": settings if sources else {}, "metrics": METRICS, "revision": "abc", "data_hash": "def"},
    }
    return model_card(CardFacts(**(facts | changes)))


def test_the_card_has_metrics_with_intervals_and_no_number_where_there_is_none():
    text = card([{"source": "synthetic", "name": "rendered", "images": 2400}])
    assert "| whole body | 25.0 | 20.0 to 30.0 | 35.0 | 60.0 | 57.5 to 62.5 |" in text
    assert "| body | 50.0 | – | 60.0 | 70.0 | – |" in text
    assert "| feet | – | – |" in text
    assert "(400 images, 545 persons)" in text
    assert "0.59 M parameters, 0.064 GMACs at 128×96" in text


def test_the_card_names_the_data_and_their_licences():
    rendered = card([{"source": "synthetic", "name": "rendered", "images": 2400}])
    assert "`rendered`, 2400 images: people rendered" in rendered
    assert "Trained on rendered people only" in rendered
    real = card([{"source": "coco_wholebody", "name": "coco", "images": "coco/train2017"}])
    assert "their annotations are for **non-commercial research only**" in real
    assert "Trained on rendered people only" not in real
    assert "not balanced by age" in real
    unlabelled = card([{"source": "unlabelled", "name": "films", "images": "films"}])
    assert "these bring their own terms" in unlabelled and "made from rendered people" not in unlabelled


def test_the_card_tells_how_to_feed_the_model():
    text = card([{"source": "synthetic", "name": "rendered", "images": 2400}])
    assert "`simcc_x [B, 133, 192]` and `simcc_y [B, 133, 256]`" in text
    assert "1.25 times its size" in text
    for section in ("## Use", "## Data", "## Metrics", "## Limits", "## Licences", "## Origin"):
        assert section in text


PICTURES = {"source": "unlabelled", "name": "mine", "images": "/my/pictures"}


def taught(role, *sources, teacher="dw-ll_ucoco_384.onnx", **sections):
    settings = {
        "data": {"train": list(sources), "val": [{"source": "synthetic", "name": "v", "images": 400}]},
        "teacher": {"checkpoint": teacher and {"path": f"/weights/{teacher}", "sha256": None}},
        **{"loss": {"alpha": 7e-5, "beta": 1.0}, "stage2": {"init": "stage1"}},
    }
    return card(name=role, role=role, settings=settings | sections)


def test_the_card_says_what_a_model_really_learnt_from():
    real = {"source": "coco_wholebody", "name": "coco", "images": "coco/train2017"}
    assert "Stage 1 of the distillation: the teacher's logits." in taught("stage1", PICTURES)
    assert "Stage 1 learnt from labels and the teacher's logits." in taught("stage2", PICTURES, real)
    assert "labels, the teacher's features and the teacher's logits." in taught("stage1", real, teacher="rtmpose.pth")
    features = taught("stage1", real, teacher=None, loss={"alpha": 7e-5, "beta": 0})
    assert "Stage 1 of the distillation: labels and the teacher's features." in features
    assert "on the baseline" in taught("stage2", real, stage2={"init": "baseline"})


def test_the_card_of_a_baseline_without_labels_claims_none():
    text = taught("baseline", PICTURES)
    assert "It had neither labels nor a teacher." in text
    assert "from which this model learnt nothing" in text and "on labels alone" not in text
    assert "Teacher: " not in text


def test_the_card_of_a_given_teacher_states_no_training():
    text = taught("teacher", {"source": "synthetic", "name": "rendered", "images": 9})
    assert "given and not trained by this project" in text and "this project did not train it" in text
    assert "`rendered`" not in text and "made from rendered people" not in text


@pytest.mark.parametrize("role", ["teacher", "stage1", "stage2"])
def test_a_given_teacher_hands_on_its_terms(role):
    text = taught(role, PICTURES)
    assert "`dw-ll_ucoco_384.onnx` was not trained by this project" in text
    assert "COCO-WholeBody: **non-commercial research only**" in text
    assert "was not trained by this project" not in taught(role, PICTURES, teacher=None)


def test_weights_of_the_pipeline_are_known_by_their_content(project, settings_exist, tmp_path, capsys):
    evaluated(project)
    copy = tmp_path / "copy.safetensors"
    shutil.copy(project / "models" / "stage2.safetensors", copy)
    for weights in ("models/stage2.safetensors", copy):
        assert export("--weights", weights, "--out", tmp_path / "out") == 0
        assert f"{weights} is stage2 of the project {project}" in capsys.readouterr().out
        card = (tmp_path / "out" / "README.md").read_text()
        assert "| whole body | 25.0 |" in card and "not trained by this project" not in card


def test_the_padding_of_the_training_is_handed_out(project, settings_exist, tmp_path):
    settings = (project / "params.yaml").read_text().replace("box_padding: 1.25", "box_padding: 1.5")
    (project / "params.yaml").write_text(settings)
    assert export("--out", tmp_path / "out") == 0
    assert "1.5 times its size" in (tmp_path / "out" / "README.md").read_text()
    assert export("--weights", tmp_path / "out" / "stage2.safetensors", "--out", tmp_path / "again") == 0
    assert export("--onnx-only", tmp_path / "alone.onnx") == 0
    again = tmp_path / "again" / "stage2.onnx"
    for file in (
        tmp_path / "out" / "stage2.onnx",
        tmp_path / "out" / "stage2-mmpose.pth",
        again,
        tmp_path / "alone.onnx",
    ):
        assert box_padding(file, load_model(file)) == 1.5


def test_the_padding_of_the_pipelines_models_is_the_recorded_one(project, random_model, tmp_path):
    model = project / "models" / "stage2.safetensors"
    assert box_padding(model, load_model(model)) == 1.25
    md5 = hashlib.md5(model.read_bytes()).hexdigest()
    (project / "dvc.lock").write_text(
        "stages:\n  stage2:\n    params: {params.yaml: {augment: {box_padding: 1.75}}}\n"
        f"    outs: [{{path: models/stage2.safetensors, md5: {md5}}}]\n"
    )
    assert box_padding(model, load_model(model)) == 1.75
    save_checkpoint(random_model(seed=3), tmp_path / "other.safetensors")
    assert box_padding(tmp_path / "other.safetensors", load_model(tmp_path / "other.safetensors")) == 1.25


def test_padding_is_read_from_a_lock_that_lists_leaves(project):
    model = project / "models" / "stage2.safetensors"
    md5 = hashlib.md5(model.read_bytes()).hexdigest()
    (project / "dvc.lock").write_text(
        "stages:\n  prepare:\n    params: {params.yaml: {data.train: [{source: synthetic}]}}\n"
        "  stage2:\n    params: {params.yaml: {augment.box_padding: 1.5}}\n"
        f"    outs: [{{path: models/stage2.safetensors, md5: {md5}}}]\n"
    )
    assert box_padding(model, load_model(model)) == 1.5
    assert trained_on(model, load_model(model)) == {"synthetic"}


def test_converting_keeps_the_padding_of_the_training(project, tmp_path):
    settings = (project / "params.yaml").read_text().replace("box_padding: 1.25", "box_padding: 1.5")
    (project / "params.yaml").write_text(settings)
    source, target = project / "models" / "stage2.safetensors", tmp_path / "converted.pth"
    assert main(["convert", str(source), str(target)]) == 0
    assert box_padding(target, load_model(target)) == 1.5
    assert export("--weights", target, "--out", tmp_path / "out") == 0
    assert export("--weights", target, "--onnx-only", tmp_path / "alone.onnx") == 0
    for file in (tmp_path / "out" / "converted.onnx", tmp_path / "alone.onnx"):
        assert box_padding(file, load_model(file)) == 1.5
    assert "not trained by this project" in (tmp_path / "out" / "README.md").read_text()


def test_exporting_and_converting_spare_what_they_read(project, random_model, settings_exist, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    save_checkpoint(random_model(seed=7), model)
    (tmp_path / "link.pth").hardlink_to(model)
    before = model.read_bytes()
    for arguments in (
        ["export", "--weights", model, "--out", tmp_path],
        ["export", "--weights", model, "--onnx-only", model],
        ["export", "--out", project / "models"],
        ["convert", model, model],
        ["convert", model, tmp_path / "link.pth"],
    ):
        assert main([str(argument) for argument in arguments]) == 2
        assert "is read by this command, which would overwrite it" in capsys.readouterr().err
    assert model.read_bytes() == before


def test_a_readme_that_is_no_model_card_is_never_overwritten(random_model, tmp_path):
    save_checkpoint(random_model(), tmp_path / "model.pth", layout="mmpose")
    (tmp_path / "README.md").write_text("My project")
    with pytest.raises(UserError, match="is no model card"):
        export("--weights", tmp_path / "model.pth", "--out", tmp_path)
    assert (tmp_path / "README.md").read_text() == "My project"


@pytest.mark.parametrize(
    "settings", [["a"], "text", 7, {"data": ["a"]}, {"data": {"train": [{"source": "moon", "name": "m"}]}}]
)
def test_metadata_that_this_project_does_not_write_are_one_clear_error(random_model, tmp_path, settings):
    save_checkpoint(random_model(), tmp_path / "model.pth", "mmpose", {"name": "stage2", "settings": settings})
    with pytest.raises(UserError, match="metadata are not as this project writes them"):
        export("--weights", tmp_path / "model.pth", "--out", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert box_padding(tmp_path / "model.pth", load_model(tmp_path / "model.pth")) == 1.25


CURVES = {part: Curve((0.1, 0.9), (0.2, 0.8)) for part in ("body", "foot", "face", "hand")}
CALIBRATION = Calibration({"plain": CURVES, "flip_test": CURVES}, 525, "rendered")


def calibrated(path, model):
    save_checkpoint(model, path, metadata={"calibration": CALIBRATION.to_json()})


def test_the_calibration_of_the_same_weights_is_handed_over(project, random_model, settings_exist):
    calibrated(project / "models" / "student.safetensors", random_model())
    assert export("--out", "out") == 0
    for name in ("stage2.safetensors", "stage2-mmpose.pth", "stage2.onnx"):
        assert load(project / "out" / name, "cpu").calibration == CALIBRATION
    assert "measured on 525 persons of rendered" in (project / "out" / "README.md").read_text()
    calibrated(project / "models" / "student.safetensors", random_model(seed=1))  # of another training
    assert export("--out", "other") == 0
    assert load(project / "other" / "stage2.onnx", "cpu").calibration is None
    assert "uncalibrated" in (project / "other" / "README.md").read_text()
