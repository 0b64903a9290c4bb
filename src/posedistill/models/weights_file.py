"""Files of weights: safetensors, or PyTorch's own format, read without ever running code from them."""

import io
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from posedistill.errors import UserError, shorten
from posedistill.files import write_atomic

# One key: safetensors does not keep the order of several, and equal models must give equal files.
METADATA_KEY = "posedistill"
ONNX_TENSOR = "onnx"  # the one tensor of a wrapped ONNX model (onnx_wrapper)


class _Inert:
    """Stands for classes in mmengine's training checkpoints that have nothing to do with weights."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Inert":
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


# mmengine keeps its log in a checkpoint. To read the weights beside it, these names are replaced by `_Inert`, which
# does nothing: what they name is never imported or called.
_LOG_GLOBALS = frozenset(
    {
        "mmengine.logging.history_buffer.HistoryBuffer",
        "builtins.getattr",
        "__builtin__.getattr",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.ndarray",
        "numpy.dtype",
        *(f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32")),
    }
)


def read_weights(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """The content of a file of weights, on the CPU, and its metadata (empty where it has none of ours).

    The format is told by the content, not by the name: safetensors gives its tensors by name, a PyTorch file whatever
    was saved, as far as it consists of tensors and plain values.

    Raises:
        UserError: no such file, neither format, damaged, or one that would run code when loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file, expected weights (.safetensors or .pth)")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if start[8:9] == b"{":  # first: the length before it may begin with any byte, also with that of a pickle
        return _read_safetensors(path)
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        content = _read_torch(path)
        meta = content.get("meta") if isinstance(content, dict) else None
        return content, _plain(meta.get(METADATA_KEY, {}) if isinstance(meta, dict) else {}, path)
    if start[:1] == b"\x08" or path.suffix.lower() == ".onnx":  # ONNX begins with the number of its version
        raise UserError(_is_onnx(path))
    raise UserError(f"{path}: neither safetensors nor a PyTorch checkpoint (empty, damaged, or of another kind)")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            text = (file.metadata() or {}).get(METADATA_KEY, "{}")
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{path}: damaged or cut short, not a whole safetensors file") from error
    if list(tensors) == [ONNX_TENSOR]:
        raise UserError(_is_onnx(path))
    try:
        return tensors, _plain(json.loads(text), path)
    except (ValueError, RecursionError) as error:
        raise UserError(_not_plain(path, text)) from error


def _is_onnx(path: Path) -> str:
    return (
        f"{path}: an ONNX model, expected weights (.safetensors or .pth); use the checkpoint that it was exported from "
        "(predict --weights and teacher.checkpoint take ONNX files as they are)"
    )


def _plain(metadata: Any, path: Path) -> dict[str, Any]:
    """Our metadata as JSON would give them back; a UserError if they are no mapping of names to plain values."""
    try:
        plain = json.loads(json.dumps(metadata))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(_not_plain(path, metadata)) from error
    if not isinstance(plain, dict):
        raise UserError(_not_plain(path, metadata))
    return plain


def _not_plain(path: Path, found: Any) -> str:
    return f"{path}: metadata {METADATA_KEY}: expected a mapping of names to plain values, found {shorten(found)}"


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's on old files are nothing a user can act on
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = _foreign_globals(path) or set(re.findall(r"GLOBAL ([\w.]+)", str(error)))
        if not foreign:
            raise UserError(f"{path}: refused, damaged or more than tensors in it") from error
    except Exception as error:  # a damaged file can fail in many ways; none of them is a bug here
        if "TorchScript" in str(error):
            raise UserError(f"{path}: refused, it is a TorchScript program; expected tensors alone") from error
        raise UserError(f"{path}: damaged or cut short, not a whole PyTorch checkpoint") from error
    if foreign - _LOG_GLOBALS:
        names = shorten(", ".join(sorted(foreign - _LOG_GLOBALS)[:3]))
        raise UserError(f"{path}: refused, loading it would run code ({names}); expected tensors alone")
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in foreign]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an odd pickle can fail in many ways once its names are inert
        raise UserError(f"{path}: refused, it holds more than tensors and training logs") from error


def _foreign_globals(path: Path) -> set[str]:
    """Names outside PyTorch that the file wants to import; empty for the old format, where they cannot be listed."""
    try:
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # damaged, or the format before PyTorch 1.6
        return set()


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata (plain values): the same bytes for the same content."""
    text = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
    write_atomic(path, to_safetensors(dict(tensors), metadata={METADATA_KEY: text}))


def write_torch(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a PyTorch file: the same bytes for the same content, whatever the file's name."""
    buffer = io.BytesIO()  # torch.save would put the name of a file into it
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())
