"""RTMPose → ONNX, with the names and the layout of the published RTMPose and DWPose files.

`input` [batch, 3, H, W] → `simcc_x` [batch, K, 2W], `simcc_y` [batch, K, 2H]. The input is RGB, normalised outside with
the mean and standard deviation that the file's metadata names. The same model gives the same bytes: no time, host,
path or tool version goes into the file.
"""

import copy
import io
import warnings
from pathlib import Path

import torch
from torch import nn

from posedistill.data.feed.device_augment import MEAN, STD
from posedistill.data.geometry import BOX_PADDING
from posedistill.errors import UserError, shorten
from posedistill.files import write_atomic
from posedistill.keypoints import NUM_KEYPOINTS

INPUT, OUTPUTS = "input", ("simcc_x", "simcc_y")


def export_onnx(model: nn.Module, path: str | Path, opset: int = 17, padding: float = BOX_PADDING) -> int:
    """Write `model` (an RTMPose) to `path` as ONNX and return the file's size in bytes.

    The batch size is free; height and width are those of `model.input_size`. Batch norms are folded into their
    convolutions. `padding`, by which clients are to widen boxes, goes into the metadata. Raises UserError if this
    PyTorch cannot write that opset.
    """
    if not 9 <= opset <= 20:  # the exporter's range; outside it prints the whole graph before it fails
        raise UserError(f"export.opset: {opset} cannot be written, allowed: 9 to 20; clients support 17")
    height, width = model.input_size  # type: ignore[misc]
    frozen = copy.deepcopy(model).to("cpu", torch.float32).eval()
    buffer = io.BytesIO()
    try:
        # The exporter by tracing: the newer one needs a further package and names its nodes after source lines.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                frozen,
                (torch.zeros(2, 3, height, width),),
                buffer,  # type: ignore[arg-type]  # the annotation omits buffers, which work
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_axes={name: {0: "batch"} for name in (INPUT, *OUTPUTS)},
            )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"export.opset: {opset} cannot be written ({shorten(str(error))}); 17 can") from error
    with torch.inference_mode():
        shapes = [tuple(output.shape[1:]) for output in frozen(torch.zeros(1, 3, height, width))]
    content = _neutral(buffer.getvalue(), (height, width), shapes, padding)
    write_atomic(path, content)
    return len(content)


def _neutral(content: bytes, input_size: tuple[int, int], shapes: list[tuple[int, ...]], padding: float) -> bytes:
    """The same graph without traces of the machine that wrote it, with full output shapes and a description.

    Tracing leaves the outputs' later dimensions unnamed; clients that allocate their buffers ahead need the numbers.
    """
    import onnx

    model = onnx.load_from_string(content)
    model.producer_name, model.producer_version, model.doc_string = "posedistill", "", ""
    model.graph.name, model.graph.doc_string = "rtmpose", ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for output, shape in zip(model.graph.output, shapes):
        for dimension, size in zip(output.type.tensor_type.shape.dim[1:], shape):
            dimension.dim_value = size
    del model.metadata_props[:]
    height, width = input_size
    description = {
        "input_size": f"{height}x{width}",
        "input": "RGB, NCHW, float32, (value - mean) / std with values from 0 to 255",
        "mean": " ".join(map(str, MEAN)),
        "std": " ".join(map(str, STD)),
        "box_padding": str(padding),
        "output": f"SimCC logits, 2 bins per input pixel; {shapes[0][0]} keypoints"
        + (" of COCO-WholeBody" if shapes[0][0] == NUM_KEYPOINTS else ""),
    }
    onnx.helper.set_model_props(model, description)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)
