"""fp16 and int8 files: their numbers, their bytes, and what float16 cannot hold."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from posedistill.export.onnx_file import export_onnx
from posedistill.export.precision import overflowing, to_half, to_int8, with_metadata
from posedistill.models.onnx_model import OnnxModel

SIZE = (64, 96)


def crops(count=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, *SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(input_size=SIZE)


@pytest.fixture(scope="module")
def content(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, path)
    return path.read_bytes()


def outputs(content, folder, images):
    path = folder / "one.onnx"
    path.write_bytes(content)
    with torch.inference_mode():
        return [axis.numpy() for axis in OnnxModel(path)(torch.from_numpy(images))]


@pytest.mark.parametrize(("make", "error"), [(to_half, 0.01), (lambda one: to_int8(one, crops(8)), 0.35)])
def test_numbers_are_nearly_those_of_float32(content, tmp_path, make, error):
    images = crops(3, seed=1)
    expected, found = (outputs(one, tmp_path, images) for one in (content, make(content)))
    for a, b in zip(expected, found):
        assert b.dtype == np.float32 and np.abs(a - b).mean() < error * a.std()


def test_files_are_smaller_with_the_same_interface_and_bytes(content):
    for make, share in ((to_half, 0.55), (lambda one: to_int8(one, crops(8)), 0.75)):
        made = make(content)
        assert made == make(content) and len(made) < share * len(content)
        source, new = onnx.load_from_string(content), onnx.load_from_string(made)
        assert [one.name for one in new.graph.input] == [one.name for one in source.graph.input]
        assert [one.type for one in new.graph.output] == [one.type for one in source.graph.output]
        assert b"/tmp" not in made and b"onnx.quantize" not in made
        about = {item.key: item.value for item in new.metadata_props}
        assert about["box_padding"] == "1.25" and about["precision"] in ("float16", "int8")


@pytest.mark.parametrize("opset", [11, 20])
def test_all_opsets_can_be_made_smaller(model, tmp_path, opset):
    export_onnx(model, tmp_path / "model.onnx", opset)
    content = (tmp_path / "model.onnx").read_bytes()
    images = crops(2, seed=1)
    expected = outputs(content, tmp_path, images)
    for made, error in ((to_half(content), 0.01), (to_int8(content, crops(8)), 0.5)):
        assert np.abs(outputs(made, tmp_path, images)[0] - expected[0]).mean() < error * expected[0].std()


def test_int8_ranges_come_from_the_crops(content):
    assert to_int8(content, crops(8)) != to_int8(content, 3 * crops(8))


def test_int8_leaves_the_heads_products_in_float32(content):
    quantised = onnx.load_from_string(to_int8(content, crops(8)))
    kinds = {one.name: one.data_type for one in quantised.graph.initializer}
    products = [node for node in quantised.graph.node if node.op_type == "MatMul"]
    assert len(products) == 7
    assert all(kinds.get(name, TensorProto.FLOAT) == TensorProto.FLOAT for node in products for name in node.input)


def head(content, factor):
    """The head from its first product on, whose input is `factor` times as large as the last convolution's output."""
    whole = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    tokens = next(node.output[0] for node in whole.graph.node if node.name == "/head/final_layer/Conv")
    rng = np.random.default_rng(0)
    image = factor * rng.standard_normal((1, 133, 8, 12))
    part = onnx.utils.Extractor(whole).extract_model([tokens], ["simcc_x", "simcc_y"])
    kind = TensorProto.FLOAT16 if content_is_half(whole) else TensorProto.FLOAT
    del part.graph.input[:]
    part.graph.input.append(onnx.helper.make_tensor_value_info(tokens, kind, [1, 133, 8, 12]))
    values = image.astype(np.float16 if kind == TensorProto.FLOAT16 else np.float32)
    return ReferenceEvaluator(part).run(None, {tokens: values})


def content_is_half(model):
    return any(one.data_type == TensorProto.FLOAT16 for one in model.graph.initializer)


def unsafe(content):
    """Half precision everywhere, as the converter alone makes it."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True).SerializeToString()


@pytest.mark.parametrize("factor", [1, 10, 3000])
def test_large_tokens_do_not_overflow(content, factor):
    """ScaleNorm divides by the norm, so ten times as large tokens give the same logits; their squares pass 65,504."""
    exact, half = head(content, factor), head(to_half(content), factor)
    for a, b in zip(exact, half):
        assert np.isfinite(b).all() and np.abs(a - b).max() < 0.02 * np.abs(a).max()


def test_the_converter_alone_overflows(content):
    with np.errstate(all="ignore"):
        found = head(unsafe(content), 3000)
    assert not np.abs(found[0]).max() > 0.1 * np.abs(head(content, 3000)[0]).max()  # a norm of infinity, or NaN


def test_final_weights_ten_times_as_large_give_the_same_logits(model, content, tmp_path, random_model):
    large = random_model(input_size=SIZE)
    large.load_state_dict(model.state_dict())
    with torch.no_grad():
        large.head.final_layer.weight *= 10
        large.head.final_layer.bias *= 10
    export_onnx(large, tmp_path / "large.onnx")
    images = crops(2, seed=3)
    expected = outputs(content, tmp_path, images)
    for a, b in zip(expected, outputs(to_half((tmp_path / "large.onnx").read_bytes()), tmp_path, images)):
        assert np.abs(a - b).mean() < 0.01 * a.std()


def test_norms_and_squares_are_in_float32(content):
    half = onnx.load_from_string(to_half(content))
    names = overflowing(onnx.load_from_string(content))
    assert len(names) == 12 and {name.rpartition("/")[2] for name in names} >= {"ReduceL2", "Div", "MatMul_1"}
    made = {output: node for node in half.graph.node for output in node.output}
    inside = [node for node in half.graph.node if node.name in names]
    casts = [made[name] for node in inside for name in node.input if name in made and made[name].op_type == "Cast"]
    assert all(node.attribute[0].i == TensorProto.FLOAT for node in casts)
    twice = [node for node in casts if node.input[0] in made and made[node.input[0]].op_type == "Cast"]
    assert not twice  # neighbours pass float32 on as it is


def test_metadata_are_added(content):
    again = onnx.load_from_string(with_metadata(content, {"calibration": "{}"}))
    about = {item.key: item.value for item in again.metadata_props}
    assert about["calibration"] == "{}" and about["input_size"] == "64x96"
    assert len(again.SerializeToString()) == pytest.approx(len(content), abs=100)
