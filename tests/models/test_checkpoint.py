"""Weights of every layout in, and out again; what cannot be loaded is one clear line."""

import collections
import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from posedistill.errors import UserError
from posedistill.models import build_rtmpose, load_backbone, load_checkpoint, model_from_checkpoint, save_checkpoint

SIZE = (64, 64)


def small(seed=0, size="n", input_size=SIZE, keypoints=133):
    """A model in which every tensor is told apart by its values."""
    torch.manual_seed(seed)
    model = build_rtmpose(size, input_size, keypoints)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and "weight" not in name:
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def prefixed(prefix, model):
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


def same(model, other, part=""):
    mine, theirs = model.state_dict(), other.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine if name.startswith(part))


def one_line(error):
    return "\n" not in str(error.value)


@pytest.fixture
def source():
    return small(1)


@pytest.fixture
def target():
    return small(2)


@pytest.mark.parametrize(("layout", "name"), [("own", "a.safetensors"), ("mmpose", "a.pth"), ("own", "named.pth")])
def test_what_is_saved_is_loaded(tmp_path, source, target, layout, name):
    save_checkpoint(source, tmp_path / name, layout, {"metrics": {"AP": 0.5}})
    loaded = load_checkpoint(target, tmp_path / name, complete=True)
    assert same(target, source)
    assert loaded.fresh == () and loaded.metadata["metrics"] == {"AP": 0.5}
    assert loaded.metadata["size"] == "n" and loaded.metadata["input_size"] == [64, 64]


@pytest.mark.parametrize("layout", ["own", "mmpose"])
def test_equal_weights_give_equal_files(tmp_path, source, target, layout):
    save_checkpoint(source, tmp_path / "one", layout, {"b": 1, "a": [1, 2], "c": {"z": 0, "y": 1}})
    load_checkpoint(target, tmp_path / "one")
    target.to(memory_format=torch.channels_last)
    save_checkpoint(target, tmp_path / "two", layout, {"c": {"y": 1, "z": 0}, "a": [1, 2], "b": 1})
    if layout == "own":
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    save_checkpoint(source, tmp_path / "three", layout, {"b": 1, "a": [1, 2], "c": {"z": 0, "y": 1}})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "three").read_bytes()


def test_mmpose_layout_is_a_plain_state_dict_with_published_names(tmp_path, source):
    save_checkpoint(source, tmp_path / "a.pth", "mmpose")
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    assert set(content) == {"meta", "state_dict"}
    assert list(content["state_dict"]) == list(source.state_dict())


def mmpose(model):
    return {"meta": {"epoch": 3}, "state_dict": collections.OrderedDict(prefixed("", model))}


LAYOUTS = {
    "mmpose": mmpose,
    "bare": lambda model: prefixed("", model),
    "data parallel": lambda model: {"state_dict": prefixed("module.", model)},
    "compiled": lambda model: {"state_dict": prefixed("_orig_mod.", model)},
    "distiller": lambda model: {
        "state_dict": prefixed("student.", model)
        | prefixed("teacher.", small(8, "nw"))
        | {"distill_losses.a": torch.ones(1)}
    },
    "distiller of equals": lambda model: {"state_dict": prefixed("teacher.", small(8)) | prefixed("student.", model)},
    "averaged alone": lambda model: {"ema_state_dict": {"steps": torch.tensor(5), **prefixed("module.", model)}},
    "averaged student": lambda model: {"ema_state_dict": prefixed("module.student.", model)},
    "ema names": lambda model: {"state_dict": prefixed("ema_", model)},
    "ema buffers": lambda model: {
        "state_dict": {f"ema_{n.replace('.', '_')}": t for n, t in prefixed("", model).items()}
    },
    "average under plain names": lambda model: {
        "state_dict": prefixed("", model) | prefixed("ema_", small(9)),
        "ema_state_dict": prefixed("module.", small(9)),
    },
    "with an optimiser": lambda model: {**mmpose(model), "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("legacy", [False, True])
def test_layouts(tmp_path, source, target, layout, legacy):
    path = tmp_path / "file.pth"
    torch.save(LAYOUTS[layout](source), path, _use_new_zipfile_serialization=not legacy)
    load_checkpoint(target, path, complete=True)
    assert same(target, source)
    assert same(model_from_checkpoint(path), source)


def test_branches_of_a_distiller(tmp_path, target):
    student, teacher = small(3), small(4)
    path = tmp_path / "distiller.pth"
    torch.save({"state_dict": prefixed("student.", student) | prefixed("teacher.", teacher)}, path)
    load_checkpoint(target, path, branch="teacher")
    assert same(target, teacher)
    load_checkpoint(target, path, branch="student")
    assert same(target, student)
    load_checkpoint(target, path, branch="stage2")
    assert same(target, teacher, "backbone.") and same(target, student, "head.")


def test_a_stage_2_file_is_known_by_the_backbone_that_never_ran(tmp_path, target):
    student, teacher = small(3), small(4)
    for name, tensor in teacher.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(1000)
    torch.save({"state_dict": prefixed("student.", student) | prefixed("teacher.", teacher)}, tmp_path / "stage2.pth")
    load_checkpoint(target, tmp_path / "stage2.pth")
    assert same(target, teacher, "backbone.") and same(target, student, "head.")


def test_a_missing_branch_is_one_line(tmp_path, source, target):
    torch.save(prefixed("", source), tmp_path / "plain.pth")
    torch.save(prefixed("student.", source), tmp_path / "student.pth")
    for name in ("plain.pth", "student.pth"):
        with pytest.raises(UserError, match="teacher part") as error:
            load_checkpoint(target, tmp_path / name, branch="teacher")
        assert one_line(error)


def backbone_of(model):
    return {name.removeprefix("backbone."): t for name, t in model.state_dict().items() if name.startswith("backbone.")}


def within(state, others):
    """A backbone's tensors under `backbone.`, beside those of another model's parts."""
    parts = {name: torch.ones(17, 8, 1, 1) for name in others}
    return {"state_dict": {f"backbone.{name}": tensor for name, tensor in state.items()} | parts}


BACKBONES = {
    "mmpretrain": lambda state: within(state, ["head.fc.weight", "head.fc.bias"]),
    "mmdet": lambda state: within(state, ["neck.reduce.weight", "bbox_head.rtm_cls.weight"]),
    "mmpose, heatmap head": lambda state: within(state, ["head.final_layer.weight", "head.deconv_layers.0.weight"]),
    "without prefix": lambda state: {"state_dict": state},
    "bare": lambda state: state,
    "half": lambda state: {n: t.half() if t.is_floating_point() else t for n, t in state.items()},
    "no counters": lambda state: {n: t for n, t in state.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("layout", BACKBONES)
def test_backbone_files(tmp_path, source, target, layout):
    path = tmp_path / "backbone.pth"
    torch.save(BACKBONES[layout](backbone_of(source)), path)
    head = {name: tensor.clone() for name, tensor in target.head.state_dict().items()}

    def check():
        assert all(torch.equal(head[name], tensor) for name, tensor in target.head.state_dict().items())
        for name, tensor in target.backbone.state_dict().items():
            expected = backbone_of(source)[name]
            assert tensor.dtype == expected.dtype
            torch.testing.assert_close(tensor, expected, rtol=1e-3 if layout == "half" else 0, atol=1e-3)

    load_backbone(target, path)
    check()
    with pytest.warns(UserWarning, match=r"holds a backbone, no SimCC head; loaded all but head\."):
        loaded = load_checkpoint(target, path)
    check()
    assert set(loaded.fresh) == {f"head.{name}" for name in head}
    with pytest.raises(UserError, match="no SimCC head"):
        load_checkpoint(target, path, complete=True)
    with pytest.raises(UserError, match="expected a whole RTMPose"):
        model_from_checkpoint(path)


def test_backbone_from_a_whole_model_of_another_input_and_other_keypoints(tmp_path, source):
    save_checkpoint(source, tmp_path / "a.safetensors")
    other = small(5, input_size=(96, 32), keypoints=17)
    load_backbone(other, tmp_path / "a.safetensors")
    assert same(other, source, "backbone.")


def test_another_input_size_loads_what_it_can_and_says_what_it_cannot(tmp_path, source):
    save_checkpoint(source, tmp_path / "a.safetensors")
    other = small(5, input_size=(96, 64))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.warns(UserWarning) as warned:
        loaded = load_checkpoint(other, tmp_path / "a.safetensors")
    # The width is the same: the bins of x fit, those of y and the cells of the map do not.
    assert loaded.fresh == ("head.mlp.1.weight", "head.cls_y.weight")
    (message,) = [str(warning.message) for warning in warned]
    assert "made for input 64×64, the model's is 96×64" in message
    assert all(name in message for name in loaded.fresh)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, before[name] if name in loaded.fresh else source.state_dict()[name])
    with pytest.raises(UserError, match="made for input 64×64, the model's is 96×64"):
        load_checkpoint(other, tmp_path / "a.safetensors", complete=True)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"size": "nw"}, "expected model size nw, found size n"),
        ({"size": "t"}, "expected model size t, found size n"),
        ({"keypoints": 17}, "expected 17 keypoints, found 133"),
    ],
)
def test_another_model_is_one_line_and_loads_nothing(tmp_path, source, wanted, message):
    save_checkpoint(source, tmp_path / "a.pth", "mmpose")
    model = small(5, **wanted)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=message) as error:
        load_checkpoint(model, tmp_path / "a.pth")
    assert one_line(error) and "a.pth" in str(error.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def broken(change):
    def make(source):
        state = prefixed("", source)
        change(state)
        return state

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken(lambda s: s.pop("head.gau.gamma")), "lacks head.gau.gamma"),
        (broken(lambda s: s.update({"head.other": torch.ones(1)})), "has also head.other"),
        (broken(lambda s: s.update({"head.gau.ln.g": torch.ones(2)})), r"head.gau.ln.g: expected 1, found 2"),
        (broken(lambda s: s.pop("backbone.stage1.0.conv.weight")), "lacks backbone.stage1.0.conv.weight"),
        (
            broken(lambda s: s.update({"backbone.stem.2.conv.weight": torch.ones(20, 8, 3, 3)})),
            r"expected model size n, found a CSPNeXt of no known size \(stem width 20",
        ),
        (lambda _: {"state_dict": {"conv1.weight": torch.ones(1)}}, r"found tensors named conv1.weight"),
        (lambda _: {"meta": {}}, "found no tensors"),
        (lambda _: [torch.ones(1)], "found a list"),
    ],
)
def test_other_tensors_are_one_line_and_load_nothing(tmp_path, source, target, make, message):
    torch.save(make(source), tmp_path / "a.pth")
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(UserError, match=message) as error:
        load_checkpoint(target, tmp_path / "a.pth")
    assert one_line(error) and "a.pth" in str(error.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize("layout", ["own", "mmpose"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_files_cut_short_are_one_line(tmp_path, source, target, layout, share):
    save_checkpoint(source, tmp_path / "whole", layout)
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"damaged|neither") as error:
        load_checkpoint(target, tmp_path / "cut")
    assert one_line(error)


def test_what_is_no_checkpoint_is_one_line(tmp_path, target):
    (tmp_path / "text.pth").write_text("<html>not found</html>")
    (tmp_path / "noise.pth").write_bytes(b"\x80" + np.random.default_rng(0).bytes(1000))
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps([1, 2, 3]))
    (tmp_path / "folder.pth").mkdir()
    for name in ("text.pth", "noise.pth", "pickle.pth", "folder.pth", "absent.pth"):
        with pytest.raises(UserError, match=name) as error:
            load_checkpoint(target, tmp_path / name)
        assert one_line(error)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused(tmp_path, source, target, legacy):
    content = {"state_dict": prefixed("", source), "meta": Harmful(tmp_path / "done")}
    torch.save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="refused, loading it would run code") as error:
        load_checkpoint(target, tmp_path / "bad.pth")
    assert one_line(error) and not (tmp_path / "done").exists()
    assert "mkdir" in str(error.value)


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickled_code_alone_is_refused(tmp_path, target, protocol):
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Harmful(tmp_path / "done"), protocol))
    with pytest.raises(UserError, match="refused") as error:
        load_checkpoint(target, tmp_path / "bad.pth")
    assert one_line(error) and not (tmp_path / "done").exists()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_refused(tmp_path, target):
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "program.pt")
    with pytest.raises(UserError, match="TorchScript") as error:
        load_checkpoint(target, tmp_path / "program.pt")
    assert one_line(error)


@pytest.fixture
def history_buffer():
    """A class that pickles as mmengine's log does, under its name."""

    class HistoryBuffer:
        def __init__(self):
            self._history = np.arange(3.0)
            self._statistics = {"mean": HistoryBuffer.mean}

        def mean(self):
            return self._history.mean()

        def __setstate__(self, state):
            raise AssertionError("code of the file's classes was run")

        def __getstate__(self):
            return self.__dict__

    names = ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer")
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = names[-1], "HistoryBuffer"
    HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = names[-1], "HistoryBuffer.mean"
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[names[-1]].HistoryBuffer = HistoryBuffer
    yield HistoryBuffer
    for name in names:
        del sys.modules[name]


def test_the_log_in_an_mmengine_checkpoint_is_passed_over(tmp_path, source, target, history_buffer):
    log = {"log_scalars": {"train/loss": history_buffer()}, "lr": np.float64(4e-3)}
    torch.save({**mmpose(source), "message_hub": log}, tmp_path / "epoch_270.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "epoch_270.pth", weights_only=True)
    load_checkpoint(target, tmp_path / "epoch_270.pth", complete=True)
    assert same(target, source)


def test_half_precision_files(tmp_path, source, target):
    save_checkpoint(source, tmp_path / "whole.safetensors")
    save_checkpoint(source, tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "whole.safetensors").stat().st_size
    load_checkpoint(target, tmp_path / "half.safetensors")
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == source.state_dict()[name].dtype
        torch.testing.assert_close(tensor, source.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_backbone_only_file(tmp_path, source, target):
    save_checkpoint(source, tmp_path / "backbone.safetensors", backbone_only=True)
    load_backbone(target, tmp_path / "backbone.safetensors")
    assert same(target, source, "backbone.") and not same(target, source, "head.")


def test_a_failed_write_leaves_the_old_file(tmp_path, source, target, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_checkpoint(source, path)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(target, path)
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]
    load_checkpoint(target, path)
    assert same(target, source)
