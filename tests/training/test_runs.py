"""A stage from settings to files: read back when finished, fresh when something changed."""

import fake_stage
import pandas as pd
import pytest
from fake_stage import EPOCHS, STEPS, settings, train
from training_fakes import model

from posedistill.errors import UserError
from posedistill.files import sha256_file
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import from_settings
from posedistill.training import runs, train_stage
from posedistill.training.checkpoints import RunFolder
from posedistill.training.runs import Paths, Training, make_plan
from posedistill.training.supervised import train_supervised


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with fake data; (folder, augmentation of each epoch)."""
    for name in ("TrainStore", "ValStore", "TrainLoader", "validation"):
        monkeypatch.setattr(runs, name, getattr(runs, name))  # put back afterwards
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", "")
    monkeypatch.chdir(tmp_path)
    asked = []
    fake_stage.put_in_place(asked)
    fake_stage.prepare_folder(tmp_path)
    return tmp_path, asked


@pytest.fixture
def without_training(project, monkeypatch):
    """The project's folder; a training ends at once."""

    def trained(training, device, group, folder):
        save_checkpoint(model(), folder.finished_model)
        folder.finish({"rows": []})

    monkeypatch.setattr(runs, "_train", trained)
    return project[0]


def trainings(folder) -> list[str]:
    return sorted(path.name for path in (folder / ".checkpoints").iterdir() if path.is_dir())


def test_a_finished_training_is_read_back_and_gives_the_same_files(project, capsys):
    _, asked = project
    first = train()
    files = {path: sha256_file(path) for path in (first.model_path, first.curves_path)}
    calls = len(asked)
    for path in files:
        path.unlink()
    second = train()
    assert len(asked) == calls, "it trained again"
    assert {path: sha256_file(path) for path in files} == files
    pd.testing.assert_frame_equal(first.history, second.history)
    assert "finished before" in capsys.readouterr().err


def test_history_and_curves(project):
    result = train()
    curves = pd.read_csv(result.curves_path, sep="\t")
    assert list(curves) == ["epoch", "step", "lr", "label", "total", "accuracy", "val_ap"]
    assert curves["step"].iloc[-1] == EPOCHS * STEPS == result.history["step"].iloc[-1]
    assert curves["epoch"].iloc[-1] == EPOCHS
    assert (curves["val_ap"].dropna() == 0.25).all() and curves["val_ap"].notna().sum() == EPOCHS


@pytest.mark.parametrize(
    "change",
    [
        {"student": {"lr": 2e-3}},
        {"student": {"seed": 1}},
        {"student": {"epochs": 2}},
        {"train": {"weight_decay": 0.0}},
        {"augment": {"flip": 0.1}},
        {"loss": {"reference_batch": 32}},
        {"runtime": {"micro_batch": 2}},
    ],
)
def test_other_settings_train_afresh_and_touch_no_old_checkpoint(without_training, change):
    train()
    old = {path: path.read_bytes() for path in (without_training / ".checkpoints").glob("*/*")}
    train(settings(**change))
    assert len(trainings(without_training)) == 2
    assert {path: path.read_bytes() for path in old} == old


def test_another_rate_gives_other_weights(project):
    assert sha256_file(train().model_path) != sha256_file(train(settings(student={"lr": 2e-3})).model_path)


def test_how_many_loaders_is_not_what_is_trained(without_training):
    folder = without_training
    train()
    train(settings(runtime={"workers": 3}))
    assert len(trainings(folder)) == 1


def test_other_data_trains_afresh(without_training):
    folder = without_training
    train()
    (folder / "prepared" / "train" / "part").write_text("other persons")
    train()
    assert len(trainings(folder)) == 2


def test_the_last_epochs_are_weak(project):
    _, asked = project
    train()
    assert asked == [(0, 1.0), (1, 1.0), (2, 0.5)]


def test_names_and_files_outside_the_pipeline(project):
    folder, _ = project
    result = train(paths=Paths(name="baseline-long", output="elsewhere/model.safetensors"))
    assert result.name == "baseline-long" and (folder / "elsewhere" / "model.safetensors").is_file()
    assert result.curves_path.as_posix() == "reports/curves/baseline-long.tsv"


def plan_of(P, persons, processes=1):
    training = Training(
        stage="baseline",
        params=P,
        paths=Paths(),
        entry="",
        build=lambda device: None,
        own={},
        inputs={},
        size="n",
        section="student",
        clip_norm=("student.clip_norm", P.student.clip_norm),
    )
    return make_plan(training, persons, processes)


def test_a_smaller_batch_lowers_the_rate_and_says_so(capsys):
    P = settings(train={"batch": 8, "reference_batch": 32})
    assert plan_of(P, 100).schedule.lr == pytest.approx(2.5e-4)
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and "0.001 × 8/32 = 0.00025" in line
    assert plan_of(settings(train={"batch": 8}), 100).schedule.lr == 1e-3
    assert not capsys.readouterr().err


def test_warm_up_takes_at_most_a_tenth_of_the_steps():
    plan = plan_of(settings(train={"warmup_steps": 1000}, student={"epochs": 10}), 40)
    assert plan.steps == 100
    assert plan.schedule.warmup_steps == 10


def test_messages_name_the_settings_of_the_stage():
    assert plan_of(settings(), 40).settings == ("student.lr", "student.clip_norm")


@pytest.mark.parametrize(
    ("batch", "persons", "processes", "message"),
    [(8, 7, 1, "train.batch: 8 is more than the 7 persons"), (9, 100, 2, "train.batch: 9 cannot be shared by 2")],
)
def test_a_batch_that_cannot_be_is_one_line(batch, persons, processes, message):
    with pytest.raises(UserError, match=message):
        plan_of(settings(train={"batch": batch}), persons, processes)


def test_without_prepared_data_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / ".checkpoints"))
    with pytest.raises(UserError, match="prepare"):
        train()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "input_size"), [("nw", (32, 32)), ("n", (64, 32))])
def test_a_finished_model_of_another_size_is_not_taken_back(without_training, size, input_size):
    """As a cache could return it."""
    train()
    (folder,) = (without_training / ".checkpoints").glob("baseline-*")
    save_checkpoint(build_rtmpose(size, input_size), folder / "finished.safetensors")
    RunFolder(folder).finish({"rows": []})
    found = f"found one of size {size} for input {input_size[0]}×{input_size[1]}"
    with pytest.raises(UserError, match=rf"finished.safetensors: expected .*size n for input 32×32.*{found}") as caught:
        train()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("stage", "file"), [("stage1", "teacher"), ("stage2", "stage1")])
def test_a_stage_refuses_a_model_of_another_size(project, stage, file):
    names = {"stage1": "teacher.size", "stage2": "student.size"}
    loss = {"alpha": 7e-5, "beta": 0.1, "gamma": 1.0, "decay": True, "logit_on": "all", "feature_reduction": "sum"}
    loss["extra"] = {}
    teacher = {"size": "n", "input": None, "keypoints": None, "more": None}
    stage2 = {"init": "stage1", "epochs": 1, "lr": 1e-3, "seed": 0, "schedule": "cosine"}
    P = from_settings(
        fake_stage.SETTINGS
        | {"loss": {**loss, "reference_batch": 64, "clip_norm": 1.0}, "teacher": teacher, "stage2": stage2},
        stage,
    )
    save_checkpoint(build_rtmpose("nw", (32, 32)), project[0] / "models" / f"{file}.safetensors")
    with pytest.raises(UserError, match=rf"models/{file}.safetensors: expected .*size n .*{names[stage]}.*size nw"):
        train_stage(stage, P)


def test_roles():
    with pytest.raises(ValueError, match="role"):
        train_supervised(settings(), "stage1")
