"""An ONNX model inside a safetensors file: the pipeline's teacher is always models/teacher.safetensors.

The file holds one tensor, `onnx`, with the bytes of the ONNX model.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from posedistill.models.weights_file import ONNX_TENSOR, write_safetensors


def is_onnx(path: str | Path) -> bool:
    """Whether `path` is an ONNX model, wrapped or not; False for a missing file."""
    path = Path(path)
    return path.suffix.lower() == ".onnx" or (path.is_file() and unwrap(path) is not None)


def unwrap(path: Path) -> bytes | None:
    """The ONNX model in a wrapped file; None for any other file."""
    with path.open("rb") as file:
        if file.read(9)[8:] != b"{":
            return None
    try:
        with safe_open(path, framework="np") as file:
            return file.get_tensor(ONNX_TENSOR).tobytes() if list(file.keys()) == [ONNX_TENSOR] else None
    except SafetensorError:
        return None


def write_wrapped(content: bytes, target: str | Path, input_size: tuple[int, int], keypoints: int) -> None:
    """Write the ONNX model `content` as the safetensors file `target`."""
    about = {"kind": "onnx", "input_size": list(input_size), "keypoints": keypoints}
    write_safetensors(target, {ONNX_TENSOR: torch.from_numpy(np.frombuffer(content, np.uint8).copy())}, about)
