"""`python -m posedistill convert`."""

import argparse

import pytest
import torch

from posedistill.commands.convert import add_arguments, run
from posedistill.errors import UserError
from posedistill.models import build_rtmpose, load_backbone, load_checkpoint, model_from_checkpoint, save_checkpoint


def convert(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(argument) for argument in arguments]))


def same(model, other, part=""):
    theirs = other.state_dict()
    return all(torch.equal(t, theirs[name]) for name, t in model.state_dict().items() if name.startswith(part))


@pytest.fixture
def source():
    torch.manual_seed(1)
    return build_rtmpose("n", (96, 64), keypoints=17)


def test_there_and_back_is_the_same_file(tmp_path, source, capsys):
    own, mmpose, back = tmp_path / "a.safetensors", tmp_path / "a.pth", tmp_path / "b.safetensors"
    save_checkpoint(source, own, metadata={"AP": 0.5})
    assert convert(own, mmpose) == 0 and convert(mmpose, back) == 0
    assert set(torch.load(mmpose, weights_only=True)) == {"meta", "state_dict"}
    assert own.read_bytes() == back.read_bytes()
    assert "size n, input 96×64, 17 keypoints" in capsys.readouterr().out


def test_from_a_distiller(tmp_path, source):
    torch.manual_seed(2)
    teacher = build_rtmpose("nw", (96, 64), keypoints=17)
    state = {f"student.{name}": tensor for name, tensor in source.state_dict().items()}
    state |= {f"teacher.{name}": tensor for name, tensor in teacher.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "distiller.pth")
    convert(tmp_path / "distiller.pth", tmp_path / "student.safetensors")
    assert same(model_from_checkpoint(tmp_path / "student.safetensors"), source)
    convert(tmp_path / "distiller.pth", tmp_path / "teacher.safetensors", "--branch", "teacher")
    assert same(model_from_checkpoint(tmp_path / "teacher.safetensors"), teacher)


def test_backbone_only_and_half(tmp_path, source, capsys):
    save_checkpoint(source, tmp_path / "a.pth", "mmpose")
    convert(tmp_path / "a.pth", tmp_path / "backbone.pth", "--backbone-only")
    convert(tmp_path / "backbone.pth", tmp_path / "half.safetensors", "--half")  # a backbone stays a backbone
    assert "size n, backbone, 0." in capsys.readouterr().out
    other = build_rtmpose("n", (64, 64))
    load_backbone(other, tmp_path / "backbone.pth")
    assert same(other, source, "backbone.")
    load_backbone(other, tmp_path / "half.safetensors")
    torch.testing.assert_close(
        other.backbone.stem[0].conv.weight, source.backbone.stem[0].conv.weight, atol=1e-3, rtol=0
    )
    with pytest.raises(UserError, match="no SimCC head"):
        load_checkpoint(other, tmp_path / "half.safetensors", complete=True)


def test_the_layout_can_be_named(tmp_path, source):
    save_checkpoint(source, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "weights.bin", "--layout", "mmpose")
    assert "state_dict" in torch.load(tmp_path / "weights.bin", weights_only=True)
    with pytest.raises(UserError, match="--layout own or mmpose"):
        convert(tmp_path / "a.safetensors", tmp_path / "other.bin")


def test_what_cannot_be_read_leaves_no_file(tmp_path):
    (tmp_path / "bad.pth").write_text("nothing")
    for name in ("bad.pth", "absent.pth"):
        with pytest.raises(UserError, match=name):
            convert(tmp_path / name, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
