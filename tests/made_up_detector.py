"""A person detector for tests, as mmdeploy exports RTMDet, that finds what it is told."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def constant_detector(path, dets, labels, side=64):
    """An ONNX detector that always finds the same, with mmdeploy's outputs."""
    tensors = [
        numpy_helper.from_array(np.array([dets], np.float32), "found"),
        numpy_helper.from_array(np.array([labels], np.int64), "kinds"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["found"], ["dets"]), helper.make_node("Identity", ["kinds"], ["labels"])],
        "detector",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, len(dets), 5]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [1, len(dets)]),
        ],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
