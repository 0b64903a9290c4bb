"""The exported file in half precision and in 8-bit integers, by onnxruntime's tools. Inputs and outputs stay float32.

The same file (and crops) give the same bytes.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

BATCH = 16  # crops at a time while activations are measured


def to_half(content: bytes) -> bytes:
    """The ONNX file `content` with weights and arithmetic in float16, but for what float16 cannot hold.

    ScaleNorm's sum of squares passes 65,504 where tokens are large, and so may the squared attention: these are
    computed in float32.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    source = onnx.load_from_string(content)
    given = onnx.load_from_string(content)  # which the converter changes
    half = convert_float_to_float16(given, keep_io_types=True, node_block_list=overflowing(source))
    _join_casts(half)
    OnnxModel(half).topological_sort(is_deterministic=True)  # the converter appends its casts
    return _described(half, source, "float16")


def to_int8(content: bytes, crops: np.ndarray) -> bytes:
    """The ONNX file `content` with its convolutions in 8-bit integers (static, QDQ; weights per channel from
    opset 13 on).

    `crops` [N, 3, H, W], normalised, show the range of each activation: its least and largest value. The head's
    products stay in float32: coarse values there bend fingers.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    source = onnx.load_from_string(content)
    per_channel = source.opset_import[0].version >= 13  # before, scales are single numbers
    with tempfile.TemporaryDirectory() as folder, _quiet():
        given, written = Path(folder, "given.onnx"), Path(folder, "int8.onnx")
        given.write_bytes(content)
        quantize_static(
            given,
            written,
            _reader(source.graph.input[0].name, crops),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=per_channel,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        quantised = onnx.load(written)
    return _described(quantised, source, "int8")


def overflowing(model: ModelProto) -> list[str]:
    """Names of the nodes whose values may pass float16's largest: the norms, and squares with what sums them up."""
    norms = {node.name.rpartition("/")[0] + "/" for node in model.graph.node if node.op_type == "ReduceL2"}
    squares = [node for node in model.graph.node if node.op_type == "Mul" and node.input[0] == node.input[1]]
    squared = {node.output[0] for node in squares}
    sums = [node for node in model.graph.node if node.op_type == "MatMul" and not squared.isdisjoint(node.input)]
    inside = [node for node in model.graph.node if node.name.startswith(tuple(norms)) and node.op_type != "Constant"]
    return [node.name for node in (*inside, *squares, *sums)]


def with_metadata(content: bytes, entries: dict[str, str]) -> bytes:
    """The ONNX file `content` with more metadata."""
    import onnx

    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, {item.key: item.value for item in model.metadata_props} | entries)
    return model.SerializeToString(deterministic=True)


def _join_casts(model: ModelProto) -> None:
    """Let neighbours in float32 pass their values on as they are: the converter puts float16 between any two."""
    from onnx import TensorProto

    made = {output: node for node in model.graph.node for output in node.output}

    def cast_to(node: NodeProto | None, kind: int) -> bool:
        return node is not None and node.op_type == "Cast" and node.attribute[0].i == kind

    source = {}  # output of a cast back to float32 → the float32 value before both casts
    for node in model.graph.node:
        before = made.get(node.input[0]) if node.input else None
        if cast_to(node, TensorProto.FLOAT) and before is not None and cast_to(before, TensorProto.FLOAT16):
            source[node.output[0]] = before.input[0]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = source.get(name, name)
    used = {name for node in model.graph.node for name in node.input} | {out.name for out in model.graph.output}
    while dead := [node for node in model.graph.node if node.op_type == "Cast" and used.isdisjoint(node.output)]:
        for node in dead:
            model.graph.node.remove(node)
        used = {name for node in model.graph.node for name in node.input} | {out.name for out in model.graph.output}


def _described(model: ModelProto, source: ModelProto, precision: str) -> bytes:
    """With the description of `source` and no trace of the tool that made it."""
    import onnx

    model.producer_name, model.producer_version, model.doc_string = source.producer_name, "", ""
    model.graph.name, model.graph.doc_string = source.graph.name, ""
    del model.graph.value_info[:]  # inferred shapes, which readers infer themselves
    del model.metadata_props[:]
    description = {item.key: item.value for item in source.metadata_props}
    onnx.helper.set_model_props(model, {**description, "precision": precision})
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _reader(name: str, crops: np.ndarray) -> Iterable:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = (crops[i : i + BATCH] for i in range(0, len(crops), BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {name: batch}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to run its preprocessing, which would fold batch norms: there are none left."""
    logger, before = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
