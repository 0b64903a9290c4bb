"""Parameters and multiply-accumulates of an ONNX file, counted from its graph."""

import math
from pathlib import Path
from typing import Any

from posedistill.models.onnx_wrapper import unwrap

Shapes = dict[str, tuple[int, ...]]


def onnx_costs(path: Path) -> tuple[int, int]:
    """Numbers in the weights of the model in `path`, and multiply-accumulates for one image.

    Counts convolutions and matrix products, as `macs.count_macs` does.
    """
    import onnx

    model = onnx.load_model_from_string(unwrap(path) or path.read_bytes())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1  # a batch of one: then all later shapes are numbers
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    weights = {item.name: tuple(item.dims) for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT}
    shapes: Shapes = dict(weights)
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return sum(map(math.prod, weights.values())), sum(_macs(node, shapes) for node in graph.node)


def _macs(node: Any, shapes: Shapes) -> int:
    """Multiply-accumulates of a node: outputs times what each of them sums over."""
    output = math.prod(shapes.get(node.output[0], (0,)))
    if node.op_type == "Conv":
        return output * math.prod(shapes.get(node.input[1], (0,))[1:])  # [outputs, inputs/groups, k, k]
    if node.op_type in ("MatMul", "Gemm"):
        return output * shapes.get(node.input[0], (0,))[-1]
    return 0
