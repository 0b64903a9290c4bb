"""Malformed checkpoints: metadata and tensors of other kinds, and ONNX files, are one line."""

import pytest
import torch
from safetensors.torch import save_file

from posedistill.errors import UserError
from posedistill.export.onnx_file import export_onnx
from posedistill.models import load_checkpoint, model_from_checkpoint
from posedistill.models.onnx_model import wrap

SIZE = (64, 64)


@pytest.fixture(scope="module")
def target(random_model):
    return random_model("n", SIZE)


def one_line(error):
    return "\n" not in str(error.value)


def broken(change):
    def make(model):
        state = dict(model.state_dict())
        change(state)
        return state

    return make


DEEP = "[" * 100_000


@pytest.mark.parametrize("text", ['["a"]', '"text"', "null", "7", DEEP, "{", DEEP + "]" * 100_000])
def test_metadata_of_another_kind_are_one_line(tmp_path, target, text):
    save_file(target.state_dict(), tmp_path / "odd.safetensors", metadata={"posedistill": text})
    with pytest.raises(UserError, match=r"odd\.safetensors: metadata posedistill: expected a mapping") as error:
        load_checkpoint(target, tmp_path / "odd.safetensors")
    assert one_line(error) and len(str(error.value)) < 500


@pytest.mark.parametrize("found", [["a"], "text", None, 7, {"a": torch.ones(1)}, {"a": {1, 2}}])
def test_metadata_of_another_kind_in_a_pytorch_file_are_one_line(tmp_path, target, found):
    torch.save({"meta": {"posedistill": found}, "state_dict": target.state_dict()}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"odd\.pth: metadata posedistill: expected a mapping") as error:
        load_checkpoint(target, tmp_path / "odd.pth")
    assert one_line(error)


def replaced(name, change):
    return broken(lambda state: state.update({name: change(state[name])}))


Y, STEM, COUNTER = "head.cls_y.weight", "backbone.stem.2.conv.weight", "backbone.stem.0.bn.num_batches_tracked"
ODD = {
    "no y axis": (broken(lambda s: s.pop(Y)), rf"lacks {Y}"),
    "no x axis": (broken(lambda s: s.pop("head.cls_x.weight")), "lacks head.cls_x.weight"),
    "no final layer": (broken(lambda s: s.pop("head.final_layer.weight")), "lacks head.final_layer.weight"),
    "0-d axis": (replaced(Y, lambda t: torch.tensor(1.0)), f"{Y}: expected 2 dimensions, found 0"),
    "0-d stem": (replaced(STEM, lambda t: torch.tensor(1.0)), f"{STEM}: expected 4 dimensions, found 0"),
    "sparse": (replaced(Y, lambda t: t.to_sparse()), f"{Y}: .* found a sparse one"),
    "quantised": (
        replaced(Y, lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8)),
        f"{Y}: .* found a quantised one",
    ),
    "meta": (replaced(STEM, lambda t: t.to("meta")), f"{STEM}: .* found a meta one"),
    "meta counter": (replaced(COUNTER, lambda t: t.to("meta")), f"{COUNTER}: .* found a meta one"),
    "complex": (replaced(STEM, lambda t: t.to(torch.complex64)), f"{STEM}: .* found a complex one"),
    "no bins": (replaced(Y, lambda t: t[:0]), "height and width must be multiples of 16|made for input 0×64"),
    "a giant axis": (replaced(Y, lambda t: t[:1].expand(10**9, -1)), r"expected at most 4096|made for input 500000000"),
    "a long name": (broken(lambda s: s.update({"head." + "a" * 10_000: torch.ones(1)})), "has also head.aaa"),
}


@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning", "ignore:.*quantiz:UserWarning")
@pytest.mark.parametrize("odd", ODD)
def test_odd_tensors_are_one_line_naming_them(tmp_path, target, odd):
    make, message = ODD[odd]
    state = make(target)
    torch.save(state, tmp_path / "odd.pth")
    torch.save({f"student.{name}": tensor for name, tensor in state.items()}, tmp_path / "distiller.pth")
    for name in ("odd.pth", "distiller.pth"):
        for load in (lambda path: load_checkpoint(target, path, complete=True), model_from_checkpoint):
            with pytest.raises(UserError, match=message) as error:
                load(tmp_path / name)
            assert one_line(error) and name in str(error.value) and len(str(error.value)) < 600


def test_an_onnx_file_is_called_one(tmp_path, target):
    export_onnx(target, tmp_path / "student.onnx")
    (tmp_path / "student.onnx").rename(tmp_path / "student.bin")
    (tmp_path / "empty.onnx").write_bytes(b"")
    wrap(tmp_path / "student.bin", tmp_path / "teacher.safetensors")
    for name in ("student.bin", "empty.onnx", "teacher.safetensors"):
        with pytest.raises(UserError, match=rf"{name}: an ONNX model, expected weights.* use the checkpoint") as error:
            load_checkpoint(target, tmp_path / name)
        assert one_line(error)
