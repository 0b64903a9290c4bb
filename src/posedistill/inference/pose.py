"""`posedistill.load`: the model in a file, ready to be called with an image and boxes."""

from pathlib import Path

import torch

from posedistill.data.geometry import BOX_PADDING
from posedistill.devices import choose_device
from posedistill.errors import UserError, shorten
from posedistill.evaluation.calibration import read_calibration
from posedistill.evaluation.pose import Crops, Pose, PoseResult, Score
from posedistill.inference.weights import load_model, padding_of, read_metadata

__all__ = ["Crops", "Pose", "PoseResult", "load"]


def load(
    path: str | Path,
    device: str = "auto",
    *,
    flip_test: bool = False,
    score: Score = "min",
    threads: int | None = None,
) -> Pose:
    """The model in `path` (.safetensors, mmpose's .pth or .onnx), with the calibration in its metadata, if any.

    device: auto (the GPU if there is one), cpu or cuda. flip_test: mean of the image and its mirror, better, half as
    fast. score: see `Pose`. threads: of onnxruntime; None: as many as PyTorch uses. Boxes are enlarged as the file's
    metadata say, else by the published 1.25. Raises UserError if the file is missing, damaged or no whole-body model,
    or if there is no such device.
    """
    for name, value, allowed in (("device", device, ("auto", "cpu", "cuda")), ("score", score, ("min", "mean"))):
        if value not in allowed:
            raise UserError(f"{name}: found {shorten(value)}, allowed: {', '.join(allowed)}")
    device = choose_device(device, "device")
    model = load_model(path, device, threads or torch.get_num_threads())
    metadata = read_metadata(path, model)
    padding = padding_of(metadata) or BOX_PADDING
    return Pose(model, device, flip_test, padding, read_calibration(metadata, str(path)), score)
