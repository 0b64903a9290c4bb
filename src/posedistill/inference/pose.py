"""Boxes of one image → keypoints in its pixels: crop, model, SimCC decoding, and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from posedistill.data.feed.device_augment import to_model_input
from posedistill.data.geometry import BOX_PADDING, crop_of_box, input_to_image, warp_image, warp_matrix
from posedistill.devices import choose_device
from posedistill.errors import UserError, shorten
from posedistill.evaluation.predict import forward
from posedistill.inference.weights import load_model, padding_of, read_metadata
from posedistill.models.simcc import decode

LARGEST = 1e6  # pixels of a box; beyond it the map to the input loses its precision


@dataclass(frozen=True)
class Crops:
    """Model inputs of N persons: uint8 RGB [N, H, W, 3], and where they lie in their image (pixels, [N, 2] each)."""

    images: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        return cls(*(np.concatenate(column) for column in zip(*((p.images, p.center, p.scale) for p in parts))))

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class PoseResult:
    """Keypoints of N persons in pixels of their image, and their scores: raw logits, not probabilities."""

    keypoints: np.ndarray  # [N, 133, 2] float64: x, y
    scores: np.ndarray  # [N, 133] float64


class Pose:
    """A model on its device. Call it with an image and boxes; or `crop` several images, then `predict` all crops."""

    def __init__(
        self, model: nn.Module, device: str = "cpu", flip_test: bool = False, padding: float = BOX_PADDING
    ) -> None:
        """`padding`: factor by which boxes are enlarged before cropping, as in the model's training."""
        self.model = model.to(device).eval()
        self.device = device
        self.flip_test = flip_test
        self.padding = padding
        self.input_size: tuple[int, int] = model.input_size  # type: ignore[assignment]

    def __call__(self, image: np.ndarray, boxes: ArrayLike | None = None) -> PoseResult:
        """Keypoints of the persons in `boxes` [N, 4] (x, y, width, height in pixels; None: the whole image).

        `image` is RGB uint8 [H, W, 3]. Raises UserError for anything else.
        """
        _check_image(image)
        found = self.predict(self.crop(image, _checked_boxes(boxes, image.shape)))
        return PoseResult(found[..., :2], found[..., 2])

    def crop(self, image: np.ndarray, boxes: np.ndarray) -> Crops:
        """Persons of `image` (RGB uint8 [H, W, 3]) in `boxes` [N, 4] (x, y, width, height in pixels)."""
        center, scale = crop_of_box(np.asarray(boxes, np.float64).reshape(-1, 4), self.padding, self.input_size)
        images = np.empty((len(center), *self.input_size, 3), np.uint8)
        for i in range(len(center)):
            images[i] = warp_image(image, warp_matrix(center[i], scale[i], 0.0, self.input_size), self.input_size)
        return Crops(images, center, scale)

    def predict(self, crops: Crops, batch: int = 32) -> np.ndarray:
        """Keypoints [N, 133, 3] of the crops: x and y in pixels of the image they came from, and the score."""
        parts = [self._decode(crops.images[start : start + batch]) for start in range(0, len(crops), batch)]
        if not parts:
            return np.empty((0, 133, 3))
        keypoints = np.concatenate(parts)
        keypoints[..., :2] = input_to_image(
            keypoints[..., :2], crops.center[:, None], crops.scale[:, None], self.input_size
        )
        return keypoints

    @torch.inference_mode()
    def _decode(self, images: np.ndarray) -> np.ndarray:
        """[B, K, 3]: input pixels and score."""
        keypoints, scores = decode(*self.logits(images))
        return torch.cat((keypoints, scores[..., None]), dim=-1).cpu().double().numpy()

    @torch.inference_mode()
    def logits(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """SimCC logits (x [B, K, 2W], y [B, K, 2H]) of crops (uint8 [B, H, W, 3])."""
        inputs = to_model_input(torch.from_numpy(images).to(self.device), None)
        return forward(self.model, inputs, flip_test=self.flip_test)


def load(path: str | Path, device: str = "auto") -> Pose:
    """The model in `path` (.safetensors, mmpose's .pth or .onnx), ready to be called with images.

    `device` is auto, cpu or cuda. Boxes are enlarged as the file's metadata say, else by the published 1.25. Raises
    UserError if the file is missing or no whole-body model, or if there is no such device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device: found {shorten(device)}, allowed: auto, cpu, cuda")
    device = choose_device(device, "device")
    model = load_model(path, device, torch.get_num_threads())
    return Pose(model, device, padding=padding_of(read_metadata(path, model)) or BOX_PADDING)


def _check_image(image: Any) -> None:
    expected = "image: expected an RGB array, uint8 [height, width, 3]"
    if not isinstance(image, np.ndarray):
        raise UserError(f"{expected}, found {shorten(type(image).__name__)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"{expected}, found {image.dtype} {shorten(list(image.shape))}")


def _checked_boxes(boxes: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    """float64 [N, 4]."""
    expected = "boxes: expected N rows of x, y, width, height in pixels"
    try:
        array = np.array([[0, 0, shape[1], shape[0]]] if boxes is None else boxes, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{expected}, found {shorten(boxes)}") from error
    if array.size == 0 and array.ndim < 3:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise UserError(f"{expected}, found an array of shape {shorten(list(array.shape))}")
    bad = ~(np.abs(array) <= LARGEST).all(axis=1) | (array[:, 2:] <= 0).any(axis=1)
    if bad.any():
        raise UserError(
            f"boxes[{bad.argmax()}]: expected finite pixels and a size above 0, found {array[bad][0].tolist()}"
        )
    return array
