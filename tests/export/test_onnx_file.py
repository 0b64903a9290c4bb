"""The ONNX file: the published files' interface, the model's numbers, the same bytes each time."""

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from posedistill.errors import UserError
from posedistill.export.onnx_file import export_onnx
from posedistill.export.parity import Parity, compare
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.macs import count_macs, count_parameters, parameters_and_macs
from posedistill.models.onnx_model import OnnxModel, wrap
from posedistill.models.onnx_wrapper import is_onnx

SIZE = (64, 96)  # height and width differ, so that mixing them up shows


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(input_size=SIZE)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    size = export_onnx(model, path)
    assert size == path.stat().st_size
    return path


def images(n, seed=1, size=SIZE):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 3, *size)).astype(np.float32))


def test_names_and_shapes_are_those_of_the_published_files(exported):
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    assert [(item.name, item.shape) for item in session.get_inputs()] == [("input", ["batch", 3, 64, 96])]
    assert [(item.name, item.shape) for item in session.get_outputs()] == [
        ("simcc_x", ["batch", 133, 192]),
        ("simcc_y", ["batch", 133, 128]),
    ]
    assert onnx.load(exported).opset_import[0].version == 17


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_gives_the_models_numbers(model, exported, batch):
    result = compare(model, OnnxModel(exported), images(batch))
    assert result.good
    assert result.max_difference <= 1e-4
    assert result.points == 133 * batch
    with torch.inference_mode():
        assert model(images(1))[0].std() > 0.1  # 1e-4 is small against the logits


@pytest.mark.parametrize("size", ["t", "s"])
def test_published_sizes_too(random_model, tmp_path, size):
    model = random_model(size, (64, 64))
    export_onnx(model, tmp_path / "model.onnx")
    result = compare(model, OnnxModel(tmp_path / "model.onnx"), images(3, size=(64, 64)))
    with torch.inference_mode():
        largest = max(axis.abs().max().item() for axis in model(images(3, size=(64, 64))))
    assert result.same_argmax == 1 and result.max_difference <= 2e-4 * largest  # rounding varies with the processor


def test_the_same_model_gives_the_same_bytes_and_another_one_others(random_model, model, exported, tmp_path):
    export_onnx(model, tmp_path / "again.onnx")
    export_onnx(random_model(seed=1), tmp_path / "other.onnx")
    digest = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (exported, tmp_path / "again.onnx")]
    assert digest[0] == digest[1]
    assert (tmp_path / "other.onnx").read_bytes() != exported.read_bytes()


def test_no_trace_of_the_machine_in_the_file(exported):
    content = exported.read_bytes()
    for trace in (b"/home", b"/root", b"/work", b"/tmp", b".py", b"site-packages", torch.__version__.encode()):
        assert trace not in content


def test_the_file_says_how_to_feed_it(exported):
    description = {item.key: item.value for item in onnx.load(exported).metadata_props}
    assert description["input_size"] == "64x96"
    assert description["mean"] == "123.675 116.28 103.53"
    assert description["std"] == "58.395 57.12 57.375"
    assert description["box_padding"] == "1.25"


def test_exporting_leaves_the_model_as_it_was(random_model, tmp_path):
    model = random_model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_onnx(model, tmp_path / "model.onnx")
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_opset_that_cannot_be_written_is_one_clear_error(model, tmp_path):
    with pytest.raises(UserError, match=r"export.opset: 99"):
        export_onnx(model, tmp_path / "model.onnx", opset=99)
    assert not (tmp_path / "model.onnx").exists()


def test_parity_counts_what_differs(model):
    def other(x):
        simcc_x, simcc_y = (axis.clone() for axis in model(x))
        simcc_y[0, :7, 3] += 1000  # seven points go elsewhere
        return simcc_x, simcc_y

    result = compare(model, other, images(2))
    assert result.max_difference == pytest.approx(1000, rel=1e-3)
    assert result.same_argmax == pytest.approx(1 - 7 / 266)
    assert not result.good
    assert not Parity(1, 133, 2e-4, 1.0).good
    assert not Parity(1, 133, 0.0, 0.99).good


def test_parity_does_not_depend_on_the_batch(model, exported):
    whole = compare(model, OnnxModel(exported), images(5), batch=5)
    parts = compare(model, OnnxModel(exported), images(5), batch=2)
    assert (parts.crops, parts.points, parts.same_argmax) == (whole.crops, whole.points, whole.same_argmax)


def test_the_onnx_model_stands_in_for_a_pytorch_one(exported):
    onnx_model = OnnxModel(exported)
    assert onnx_model.input_size == SIZE
    assert onnx_model.keypoints == 133
    assert onnx_model.provider == "CPUExecutionProvider"


def fixed_batch(path, target, batch=2):
    """The file at `path` with a fixed batch, as some published files have it."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(model, target)
    return target


def test_files_with_a_fixed_batch_take_any_number_of_crops(model, exported, tmp_path):
    onnx_model = OnnxModel(fixed_batch(exported, tmp_path / "fixed.onnx"))
    assert onnx_model.fixed_batch == 2
    assert compare(model, onnx_model, images(5)).good


def test_other_onnx_files_are_refused_with_what_was_expected(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["output"])],
        "other",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(UserError, match="expected one input and the outputs simcc_x and simcc_y"):
        OnnxModel(path)
    path.write_bytes(b"text")
    with pytest.raises(UserError, match="not an ONNX file"):
        OnnxModel(path)
    with pytest.raises(UserError, match="no such file"):
        OnnxModel(tmp_path / "none.onnx")


def test_size_and_work_of_a_file_are_those_of_the_model(model, exported):
    parameters, macs = parameters_and_macs(OnnxModel(exported))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    folded = sum(module.num_features for module in norms)  # a norm's two numbers a channel become one, a bias
    assert parameters == pytest.approx(count_parameters(model) - folded, rel=1e-3)
    assert macs == pytest.approx(count_macs(model), rel=0.01)


def test_a_wrapped_file_is_the_same_model(model, exported, tmp_path):
    wrap(exported, tmp_path / "teacher.safetensors")
    assert is_onnx(exported) and is_onnx(tmp_path / "teacher.safetensors")
    wrapped = OnnxModel(tmp_path / "teacher.safetensors")
    assert compare(model, wrapped, images(3)).good
    assert parameters_and_macs(wrapped) == parameters_and_macs(OnnxModel(exported))


def test_other_files_are_not_taken_for_wrapped_ones(model, tmp_path):
    save_checkpoint(model, tmp_path / "model.safetensors")
    save_checkpoint(model, tmp_path / "model.pth", layout="mmpose")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0{damaged")
    assert not any(is_onnx(path) for path in (*tmp_path.iterdir(), tmp_path / "none.safetensors"))


def external(exported, folder, location="weights.data"):
    """The file at `exported` as folder/model.onnx with its weights in folder/`location`."""
    folder.mkdir(exist_ok=True)
    onnx.save_model(onnx.load(exported), folder / "model.onnx", save_as_external_data=True, location="weights.data")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_weights_in_a_second_file_are_found_beside_it(model, exported, tmp_path, monkeypatch):
    path = external(exported, tmp_path / "two")
    assert path.stat().st_size < exported.stat().st_size / 2
    assert compare(model, OnnxModel(path), images(3)).good
    assert parameters_and_macs(OnnxModel(path)) == parameters_and_macs(OnnxModel(exported))
    monkeypatch.chdir(tmp_path / "two")
    assert compare(model, OnnxModel("model.onnx"), images(3)).good


@pytest.mark.parametrize("location", ["../secret.data", "/etc/passwd", "link.data", "missing.data"])
def test_weights_outside_the_folder_are_refused(exported, tmp_path, location):
    path = external(exported, tmp_path / "two", location)
    (tmp_path / "secret.data").write_bytes((tmp_path / "two" / "weights.data").read_bytes())
    (tmp_path / "two" / "link.data").symlink_to(tmp_path / "secret.data")
    with pytest.raises(UserError, match="onnxruntime can load") as error:
        OnnxModel(path)
    assert "\n" not in str(error.value) and "[ONNXRuntimeError]" not in str(error.value)


def test_a_teacher_in_two_files_is_refused_with_what_to_do(exported, tmp_path):
    path = external(exported, tmp_path / "two")
    with pytest.raises(UserError, match=r"its weights lie in a second file, .*onnx\.save_model\(onnx\.load\("):
        wrap(path, tmp_path / "teacher.safetensors")
    assert not (tmp_path / "teacher.safetensors").exists()


def test_names_that_are_not_utf8_are_opened_all_the_same(exported, tmp_path):
    import os
    import shutil

    odd = tmp_path / os.fsdecode(b"\xfc.onnx")
    shutil.copy(exported, odd)
    assert OnnxModel(odd).input_size == SIZE
