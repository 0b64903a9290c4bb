"""A stage from settings to files: read back when finished, fresh when something changed."""

import fake_stage
import pandas as pd
import pytest
from fake_stage import EPOCHS, STEPS, settings, train

from posedistill.errors import UserError
from posedistill.files import sha256_file
from posedistill.training import runs
from posedistill.training.runs import Where, make_plan
from posedistill.training.supervised import train_supervised


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with fake data; yields (folder, augmentation asked for by epoch)."""
    for name in ("TrainStore", "ValStore", "TrainLoader", "validation_ap"):
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

    def trained(P, recipe, where, device, group, folder):
        folder.finished_model.write_bytes(b"model")
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
    run = train()
    curves = pd.read_csv(run.curves_path, sep="\t")
    assert list(curves) == ["epoch", "step", "lr", "label", "total", "accuracy", "val_ap"]
    assert curves["step"].iloc[-1] == EPOCHS * STEPS == run.history["step"].iloc[-1]
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
    run = train(where=Where(name="baseline-long", output="elsewhere/model.safetensors"))
    assert run.name == "baseline-long" and (folder / "elsewhere" / "model.safetensors").is_file()
    assert run.curves_path.as_posix() == "reports/curves/baseline-long.tsv"


def recipe(**changes):
    values = {"stage": "baseline", "lr": 1e-3, "epochs": 2, "clip_norm": None, "shape": "cosine"}
    return type("Recipe", (), values | changes)


def test_a_smaller_batch_lowers_the_rate_and_says_so(capsys):
    P = settings(train={"batch": 8, "reference_batch": 32})
    assert make_plan(P, recipe(), 100).schedule.lr == pytest.approx(2.5e-4)
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and "0.001 × 8/32 = 0.00025" in line
    assert make_plan(settings(train={"batch": 8}), recipe(), 100).schedule.lr == 1e-3
    assert not capsys.readouterr().err


def test_warm_up_takes_at_most_a_tenth_of_the_steps():
    plan = make_plan(settings(train={"warmup_steps": 1000}), recipe(epochs=10), 40)
    assert plan.steps == 100
    assert plan.schedule.warmup_steps == 10


@pytest.mark.parametrize(
    ("batch", "persons", "processes", "message"),
    [(8, 7, 1, "train.batch: 8 is more than the 7 persons"), (9, 100, 2, "train.batch: 9 cannot be shared by 2")],
)
def test_a_batch_that_cannot_be_is_one_line(batch, persons, processes, message):
    with pytest.raises(UserError, match=message):
        make_plan(settings(train={"batch": batch}), recipe(), persons, processes)


def test_without_prepared_data_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / ".checkpoints"))
    with pytest.raises(UserError, match="prepare"):
        train()
    assert list(tmp_path.iterdir()) == []


def test_roles():
    with pytest.raises(ValueError, match="role"):
        train_supervised(settings(), "stage1")
