"""teacher.init: the teacher's training starts from the whole weights of a file."""

from pathlib import Path

import fake_stage
import pytest
import torch
from training_fakes import CPU, SIZE, batch_at, lively, model, same_weights

from posedistill.data.feed.device_augment import to_model_input
from posedistill.errors import UserError
from posedistill.export.onnx_file import export_onnx
from posedistill.models.checkpoint import model_from_checkpoint, save_checkpoint
from posedistill.models.resampling import resized
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import from_settings
from posedistill.training import runs
from posedistill.training.supervised import Supervised, train_supervised

BATCH = fake_stage.BATCH


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with fake data; the loss of every training step."""
    for name in ("TrainStore", "ValStore", "TrainLoader", "validation"):
        monkeypatch.setattr(runs, name, getattr(runs, name))  # put back afterwards
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", "")
    monkeypatch.chdir(tmp_path)
    fake_stage.put_in_place()
    fake_stage.prepare_folder(tmp_path)
    losses, forward = [], Supervised.forward

    def recorded(objective, *inputs):
        found = forward(objective, *inputs)
        losses.append(found[0]["total"].item())
        return found

    monkeypatch.setattr(Supervised, "forward", recorded)
    return losses


def teacher(init: str | None, **changes):
    """Settings of a teacher that is trained for one epoch from the file `init`."""
    own = {"size": "n", "input": None, "checkpoint": None, "backbone": None, "seed": 0, "epochs": 1, "lr": 1e-3}
    own |= {"clip_norm": 5.0, "augment": None, "keypoints": None, "more": None} | changes
    own["init"] = init and {"path": init, "sha256": None}
    return from_settings(fake_stage.SETTINGS | {"teacher": own}, "teacher")


def given(path: str, size: tuple[int, int] = SIZE):
    """A file of weights that see something, and its model."""
    torch.manual_seed(3)
    found = lively(Supervised(build_rtmpose("n", size), 64)).student
    save_checkpoint(found, path)
    return model_from_checkpoint(path)


def first_loss(student) -> float:
    batch = batch_at(0, 0, BATCH)
    images = CPU.layout(to_model_input(batch.images, batch.changes))
    return Supervised(student, 64).train()(images, batch.keypoints)[0]["total"].item()


def test_the_first_step_has_the_loss_of_the_given_weights(project):
    expected = first_loss(given("init.safetensors"))
    project.clear()
    train_supervised(teacher("init.safetensors"), "teacher")
    started = project[0]
    assert started == pytest.approx(expected, rel=1e-6)
    project.clear()
    train_supervised(teacher(None), "teacher")
    assert abs(project[0] - expected) > 1, "fresh weights start elsewhere"


def test_a_float16_file_for_another_input_is_resized(project, capsys):
    found = given("large.safetensors", (48, 64))
    save_checkpoint(found.half(), "half.safetensors")
    expected = first_loss(resized(model_from_checkpoint("half.safetensors").float(), SIZE))
    project.clear()
    train_supervised(teacher("half.safetensors"), "teacher")
    assert project[0] == pytest.approx(expected, rel=1e-5)
    assert "made for input (48, 64), resized to (32, 32)" in capsys.readouterr().err
    assert next(model_from_checkpoint("models/teacher.safetensors").parameters()).dtype == torch.float32


def test_other_weights_train_afresh(project):
    for seed in (1, 2):
        save_checkpoint(model(seed), "init.safetensors")
        train_supervised(teacher("init.safetensors"), "teacher")
        assert len(list(Path(".checkpoints").glob("teacher-*"))) == seed
    assert not same_weights(model_from_checkpoint("models/teacher.safetensors"), model(2))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("size.safetensors", r"size.safetensors: expected .*\bn\b.* found .*nw"),
        ("body.safetensors", r"body.safetensors: expected 133 keypoints.*found 17"),
        ("both.safetensors", r"both.safetensors: expected 133 keypoints.*found 17"),
        ("file.onnx", r"file.onnx: "),
        ("damaged.safetensors", r"damaged.safetensors: "),
    ],
)
def test_a_file_that_cannot_be_is_one_line(project, name, message):
    if name == "file.onnx":
        export_onnx(model().eval(), name)
    elif name == "damaged.safetensors":
        Path(name).write_bytes(b"nothing")
    else:
        size, keypoints = ("nw" if name.startswith("size") else "n"), (133 if name.startswith("size") else 17)
        save_checkpoint(build_rtmpose(size, (48, 48) if name.startswith("both") else SIZE, keypoints), name)
    with pytest.raises(UserError, match=message) as caught:
        train_supervised(teacher(name), "teacher")
    assert "\n" not in str(caught.value) and not project
    assert not Path("models/teacher.safetensors").exists()


def test_init_and_backbone_exclude_each_other(project):
    save_checkpoint(model(), "init.safetensors")
    with pytest.raises(UserError, match=r"teacher.init and teacher.backbone: both are given"):
        teacher("init.safetensors", backbone={"path": "init.safetensors", "sha256": None})
