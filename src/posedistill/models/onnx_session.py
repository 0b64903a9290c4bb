"""onnxruntime sessions of ONNX files, as they are or wrapped (`onnx_wrapper`)."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from posedistill.errors import UserError, shorten
from posedistill.models.onnx_wrapper import unwrap

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_session(path: str | Path, threads: int = 1, device: str = "cpu") -> "InferenceSession":
    """An onnxruntime session of the file `path`: on "cuda" where onnxruntime has its CUDA provider, else on the CPU.

    Weights may lie in a second file in or below the folder of `path` (ONNX's external data). A UserError if there is
    no such file, if onnxruntime cannot load it, or if its weights lie outside that folder.
    """
    import onnxruntime

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file, expected an ONNX model")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # warnings on unused initialisers, and errors that are raised as well
    providers = ["CPUExecutionProvider"]
    if device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(_model(path), options, providers=providers)
    except Exception as error:  # onnxruntime has one exception class per cause and no common base
        raise UserError(f"{path}: not an ONNX file that onnxruntime can load ({reason(error)})") from error


def reason(error: Exception) -> str:
    """onnxruntime's own words without its prefix `[ONNXRuntimeError] : 1 : FAIL : `."""
    return shorten(re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).strip()))


def _model(path: Path) -> str | bytes:
    """What onnxruntime loads: the path where possible, since external data are looked for beside it."""
    wrapped = unwrap(path)
    if wrapped is not None:
        return wrapped
    try:
        return str(path).encode("utf-8").decode()
    except UnicodeEncodeError:  # onnxruntime takes only names that are valid UTF-8
        return path.read_bytes()
