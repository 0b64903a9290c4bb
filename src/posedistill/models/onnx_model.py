"""An ONNX pose model run by onnxruntime in place of a PyTorch one: published RTMPose/DWPose files, or our own.

Such a file takes `input` [B, 3, H, W] (RGB, normalised outside) and gives `simcc_x` [B, K, 2W] and `simcc_y`
[B, K, 2H]. It has no features and no gradients: it can predict and, as a teacher, teach by its logits.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posedistill.errors import UserError, shorten
from posedistill.models.onnx_session import open_session, reason
from posedistill.models.onnx_wrapper import write_wrapped
from posedistill.models.rtmpose import RTMPose
from posedistill.models.simcc import SPLIT_RATIO

OUTPUTS = ("simcc_x", "simcc_y")


class OnnxModel(nn.Module):
    """Call it like an RTMPose: images [B, 3, H, W] → (simcc_x [B, K, 2W], simcc_y [B, K, 2H]), on the images' device.

    Attributes: `input_size` (height, width) and `keypoints`, read from the file; `provider`, what runs it.
    """

    feature_channels = None  # no features: see RTMPose

    def __init__(self, path: str | Path, threads: int = 1, device: str = "cpu") -> None:
        """Open `path`, as `open_session` does; a UserError if it is no pose model or cannot be run."""
        super().__init__()
        self.session = open_session(path, threads, device)
        self.provider: str = self.session.get_providers()[0]
        self.path = Path(path)
        self._read_signature(str(path))

    def _read_signature(self, path: str) -> None:
        inputs = self.session.get_inputs()
        outputs = [output.name for output in self.session.get_outputs()]
        if len(inputs) != 1 or not set(OUTPUTS) <= set(outputs):
            raise UserError(
                f"{path}: expected one input and the outputs simcc_x and simcc_y, found inputs "
                f"{shorten([item.name for item in inputs])} and outputs {shorten(outputs)}"
            )
        batch, channels, height, width = inputs[0].shape if len(inputs[0].shape) == 4 else (None,) * 4
        if channels != 3 or not isinstance(height, int) or not isinstance(width, int):
            raise UserError(f"{path}: expected an input [batch, 3, height, width], found {shorten(inputs[0].shape)}")
        self.input_name: str = inputs[0].name
        self.input_type = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        self.input_size: tuple[int, int] = (height, width)
        self.fixed_batch: int | None = batch if isinstance(batch, int) else None
        try:
            x, y = self._run(np.zeros((self.fixed_batch or 1, 3, height, width), np.float32))
        except Exception as error:  # an input of integers, say
            raise UserError(f"{path}: cannot be run ({reason(error)})") from error
        if x.shape[-1] != width * SPLIT_RATIO or y.shape[-1] != height * SPLIT_RATIO or x.shape[:2] != y.shape[:2]:
            raise UserError(
                f"{path}: expected simcc_x [batch, K, {width * SPLIT_RATIO}] and simcc_y [batch, K, "
                f"{height * SPLIT_RATIO}], found {list(x.shape)} and {list(y.shape)}"
            )
        self.keypoints: int = x.shape[1]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        array = images.detach().to("cpu", torch.float32).numpy()
        step = self.fixed_batch or max(len(array), 1)
        parts = [self._run(array[start : start + step]) for start in range(0, len(array), step)]
        x, y = (torch.from_numpy(np.concatenate(axis)).to(images.device) for axis in zip(*parts))
        return x, y

    def features_and_logits(self, images: Tensor) -> tuple[None, tuple[Tensor, Tensor]]:
        """As RTMPose's, without features."""
        return None, self(images)

    def _run(self, array: np.ndarray) -> list[np.ndarray]:
        missing = 0 if self.fixed_batch is None else self.fixed_batch - len(array)
        if missing:
            array = np.concatenate((array, np.zeros((missing, *array.shape[1:]), array.dtype)))
        given = np.ascontiguousarray(array, self.input_type)
        outputs = self.session.run(list(OUTPUTS), {self.input_name: given})
        return [np.asarray(output[: len(array) - missing], np.float32) for output in outputs]


PoseModel = RTMPose | OnnxModel  # whatever predicts


def wrap(source: str | Path, target: str | Path) -> None:
    """Write the ONNX file `source` as the safetensors file `target`.

    A UserError if it is no pose model, or if its weights lie in a second file: the hash that pins `source` would not
    cover them.
    """
    import onnx

    model, content = OnnxModel(source), Path(source).read_bytes()
    if any(tensor.external_data for tensor in onnx.load_model_from_string(content).graph.initializer):
        raise UserError(
            f"{source}: its weights lie in a second file, expected one file with everything in it; "
            f"make one in Python: onnx.save_model(onnx.load({str(source)!r}), 'whole.onnx')"
        )
    write_wrapped(content, target, model.input_size, model.keypoints)
