"""An ONNX pose model run by onnxruntime, in the place of a PyTorch one: published RTMPose/DWPose files, or our own.

Such a file takes `input` [B, 3, H, W] (RGB, normalised outside) and gives `simcc_x` [B, K, 2W] and `simcc_y`
[B, K, 2H]. It has no features and no gradients: it can predict, and as a teacher it can teach by its logits.

The pipeline's teacher is always models/teacher.safetensors; an ONNX teacher lies in it as one tensor of bytes (`wrap`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from posedistill.errors import UserError
from posedistill.models.rtmpose import RTMPose
from posedistill.models.simcc import SPLIT_RATIO
from posedistill.models.weights_file import write_safetensors

OUTPUTS = ("simcc_x", "simcc_y")
WRAPPED = "onnx"  # the tensor of a wrapped file


def open_session(path: str | Path, threads: int = 1, device: str = "cpu"):
    """An onnxruntime session of the file `path`: on "cuda" where onnxruntime has its CUDA provider, else on the CPU.

    A UserError if there is no such file or onnxruntime cannot load it.
    """
    import onnxruntime

    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file, expected an ONNX model")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # its warnings on unused initialisers are nothing a user can act on
    providers = ["CPUExecutionProvider"]
    if device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(_content(Path(path)), options, providers=providers)
    except Exception as error:  # onnxruntime has one exception class per cause and no common base
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(f"{path}: not an ONNX file that onnxruntime can load ({reason})") from error


def is_onnx(path: str | Path) -> bool:
    """Whether `path` is an ONNX model, wrapped or not; False for a file that is not there."""
    path = Path(path)
    return path.suffix.lower() == ".onnx" or (path.is_file() and _wrapped(path) is not None)


def wrap(source: str | Path, target: str | Path) -> None:
    """Write the ONNX file `source` (a UserError if it is no pose model) as the safetensors file `target`."""
    model = OnnxModel(source)
    content = torch.from_numpy(np.frombuffer(_content(Path(source)), np.uint8).copy())
    about = {"kind": "onnx", "input_size": list(model.input_size), "keypoints": model.keypoints}
    write_safetensors(target, {WRAPPED: content}, about)


def _content(path: Path) -> bytes:
    wrapped = _wrapped(path)
    return path.read_bytes() if wrapped is None else wrapped


def _wrapped(path: Path) -> bytes | None:
    """The ONNX bytes in a wrapped file; None for any other file."""
    with path.open("rb") as file:
        if file.read(9)[8:] != b"{":
            return None
    try:
        with safe_open(path, framework="np") as file:
            return file.get_tensor(WRAPPED).tobytes() if list(file.keys()) == [WRAPPED] else None
    except SafetensorError:
        return None


class OnnxModel(nn.Module):
    """Call it like an RTMPose: images [B, 3, H, W] → (simcc_x [B, K, 2W], simcc_y [B, K, 2H]), on the images' device.

    Attributes: `input_size` (height, width) and `keypoints`, read from the file.
    """

    def __init__(self, path: str | Path, threads: int = 1, device: str = "cpu") -> None:
        """Open `path`; on "cuda" by onnxruntime's CUDA provider where it has one, else on the CPU (see `provider`)."""
        super().__init__()
        self.session = open_session(path, threads, device)
        self.provider: str = self.session.get_providers()[0]
        self.path = Path(path)
        self._read_signature(str(path))

    def _read_signature(self, path: str) -> None:
        inputs = self.session.get_inputs()
        outputs = {output.name: output.shape for output in self.session.get_outputs()}
        if len(inputs) != 1 or any(name not in outputs for name in OUTPUTS):
            raise UserError(
                f"{path}: expected one input and the outputs simcc_x and simcc_y, found inputs "
                f"{[item.name for item in inputs]} and outputs {list(outputs)}"
            )
        batch, channels, height, width = inputs[0].shape if len(inputs[0].shape) == 4 else (None,) * 4
        if channels != 3 or not isinstance(height, int) or not isinstance(width, int):
            raise UserError(f"{path}: expected an input [batch, 3, height, width], found {inputs[0].shape}")
        probe = np.zeros((batch if isinstance(batch, int) else 1, 3, height, width), np.float32)
        x, y = self.session.run(list(OUTPUTS), {inputs[0].name: probe})
        if x.shape[-1] != width * SPLIT_RATIO or y.shape[-1] != height * SPLIT_RATIO or x.shape[:2] != y.shape[:2]:
            raise UserError(
                f"{path}: expected simcc_x [batch, K, {width * SPLIT_RATIO}] and simcc_y [batch, K, "
                f"{height * SPLIT_RATIO}], found {list(x.shape)} and {list(y.shape)}"
            )
        self.input_name: str = inputs[0].name
        self.input_size: tuple[int, int] = (height, width)
        self.keypoints: int = x.shape[1]
        self.fixed_batch: int | None = batch if isinstance(batch, int) else None

    def parameters_and_macs(self) -> tuple[int, int]:
        """Numbers in the file's weights, and multiply-accumulates for one image (convolutions and matrix products)."""
        import onnx

        model = onnx.load_from_string(_content(self.path))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1  # a batch of one: then all later shapes are numbers
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        weights = {
            item.name: tuple(item.dims) for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT
        }
        shapes: dict[str, tuple[int, ...]] = dict(weights)
        for value in (*graph.value_info, *graph.input, *graph.output):
            dimensions = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(dim.dim_value for dim in dimensions)
        return sum(int(np.prod(shape)) for shape in weights.values()), sum(_macs(node, shapes) for node in graph.node)

    @torch.compiler.disable
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        array = images.detach().to("cpu", torch.float32).numpy()
        step = self.fixed_batch or max(len(array), 1)
        parts = [self._run(array[start : start + step]) for start in range(0, len(array), step)]
        x, y = (torch.from_numpy(np.concatenate(axis)).to(images.device) for axis in zip(*parts))
        return x, y

    def _run(self, array: np.ndarray) -> list[np.ndarray]:
        missing = 0 if self.fixed_batch is None else self.fixed_batch - len(array)
        if missing:
            array = np.concatenate((array, np.zeros((missing, *array.shape[1:]), array.dtype)))
        outputs = self.session.run(list(OUTPUTS), {self.input_name: np.ascontiguousarray(array)})
        return [output[: len(array) - missing] for output in outputs]


PoseModel = RTMPose | OnnxModel  # whatever predicts


def _macs(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of a node: outputs times what each of them sums over."""
    output = int(np.prod(shapes.get(node.output[0], (0,))))
    if node.op_type == "Conv":
        return output * int(np.prod(shapes.get(node.input[1], (0,))[1:]))  # [outputs, inputs/groups, k, k]
    if node.op_type in ("MatMul", "Gemm"):
        return output * shapes.get(node.input[0], (0,))[-1]
    return 0
