"""Loading a model for prediction from any kind of file: safetensors, mmpose's .pth, or ONNX."""

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from posedistill.errors import UserError
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.models.checkpoint import model_from_checkpoint
from posedistill.models.onnx_model import OnnxModel, PoseModel
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.models.weights_file import read_weights
from posedistill.params import setting

WEIGHTS = "models/student.safetensors"  # the pipeline's result, calibrated


def load_model(path: str | Path, device: str = "cpu", threads: int = 1) -> PoseModel:
    """The whole-body model in `path`; its size and input size are read from the file.

    UserError if the file is missing, damaged, of another kind, or for other than 133 keypoints.
    """
    path = Path(path)
    if not path.is_file():
        hint = f"; the pipeline (make repro) makes {WEIGHTS}" if path == Path(WEIGHTS) else ""
        raise UserError(f"{path}: there is no such file, expected weights (.safetensors, .pth or .onnx){hint}")
    model: PoseModel = OnnxModel(path, threads, device) if is_onnx(path) else model_from_checkpoint(path)
    if model.keypoints != NUM_KEYPOINTS:
        raise UserError(f"{path}: expected {NUM_KEYPOINTS} keypoints (COCO-WholeBody), found {model.keypoints}")
    return model


def read_metadata(path: str | Path, model: PoseModel) -> Mapping[str, Any]:
    """The metadata (see `pipeline.handover`) of the file that `model` was loaded from. Untrusted."""
    if isinstance(model, OnnxModel):
        return model.session.get_modelmeta().custom_metadata_map
    return read_weights(path)[1]


def padding_of(metadata: Mapping[str, Any]) -> float | None:
    """The box padding in a file's metadata, or None."""
    return as_padding(metadata.get("box_padding")) or as_padding(setting(metadata, "settings.augment.box_padding"))


def as_padding(value: Any) -> float | None:
    """Parse a box padding from untrusted metadata: a finite number above 0, else None."""
    with suppress(TypeError, ValueError):
        return float(value) if math.isfinite(float(value)) and float(value) > 0 else None
    return None


def describe_device(model: nn.Module, device: str) -> str:
    """The device and runtime in words, for the first line that `predict` prints."""
    if isinstance(model, OnnxModel):
        return "the GPU (onnxruntime)" if model.provider.startswith("CUDA") else "the CPU (onnxruntime)"
    return f"the GPU ({torch.cuda.get_device_name(device)})" if device == "cuda" else "the CPU (PyTorch)"
