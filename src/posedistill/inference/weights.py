"""A model to predict with, from any file that holds one: safetensors, mmpose's .pth, or ONNX."""

from pathlib import Path

import torch
from torch import nn

from posedistill.errors import UserError
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.models.checkpoint import model_from_checkpoint
from posedistill.models.onnx_model import OnnxModel
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.models.rtmpose import RTMPose
from posedistill.models.weights_file import read_weights
from posedistill.pipeline import origin

WEIGHTS = "models/stage2.safetensors"  # what the pipeline makes


def load_model(path: str | Path, device: str = "cpu", threads: int = 1) -> RTMPose | OnnxModel:
    """The whole-body model in `path`; its size and input size are read from the file.

    UserError if the file is missing, damaged, of another kind, or for other than 133 keypoints.
    """
    path = Path(path)
    if not path.is_file():
        hint = f"; the pipeline (make repro) makes {WEIGHTS}" if path == Path(WEIGHTS) else ""
        raise UserError(f"{path}: there is no such file, expected weights (.safetensors, .pth or .onnx){hint}")
    model: nn.Module
    if is_onnx(path):
        model = OnnxModel(path, threads, device)
    else:
        model = model_from_checkpoint(path)
    if model.keypoints != NUM_KEYPOINTS:
        raise UserError(f"{path}: expected {NUM_KEYPOINTS} keypoints (COCO-WholeBody), found {model.keypoints}")
    return model


def box_padding(path: str | Path, model: nn.Module) -> float:
    """By how much boxes are widened for the model of `path`: as its training had it (see `origin.box_padding`)."""
    if isinstance(model, OnnxModel):
        told = origin.as_padding(model.session.get_modelmeta().custom_metadata_map.get("box_padding"))
    else:
        told = origin.padding_of(read_weights(path)[1].get("settings"))
    return origin.box_padding(Path(path), told)


def describe_device(model: nn.Module, device: str) -> str:
    """What computes, in words, for the first line that `predict` prints."""
    if isinstance(model, OnnxModel):
        return "the GPU (onnxruntime)" if model.provider.startswith("CUDA") else "the CPU (onnxruntime)"
    return f"the GPU ({torch.cuda.get_device_name(device)})" if device == "cuda" else "the CPU (PyTorch)"
