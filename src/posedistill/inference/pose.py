"""Boxes of one image → keypoints in its pixels: crop, model, SimCC decoding, and back."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import nn

from posedistill.data.feed.device_augment import to_model_input
from posedistill.data.geometry import BOX_PADDING, crop_of_box, input_to_image, warp_image, warp_matrix
from posedistill.evaluation.predict import forward
from posedistill.models.simcc import decode


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


class PoseEstimator:
    """A model with its device: `crop` on the CPU, then call it with the crops of any number of images."""

    def __init__(
        self, model: nn.Module, device: str = "cpu", flip_test: bool = False, padding: float = BOX_PADDING
    ) -> None:
        """`padding`: by how much boxes are widened before they are cut out, as in the model's training."""
        self.model = model.to(device).eval()
        self.device = device
        self.flip_test = flip_test
        self.padding = padding
        self.input_size: tuple[int, int] = model.input_size  # type: ignore[assignment]

    def crop(self, image: np.ndarray, boxes: np.ndarray) -> Crops:
        """Persons of `image` (RGB uint8 [H, W, 3]) in `boxes` [N, 4] (x, y, width, height in pixels)."""
        center, scale = crop_of_box(np.asarray(boxes, np.float64).reshape(-1, 4), self.padding, self.input_size)
        images = np.empty((len(center), *self.input_size, 3), np.uint8)
        for i in range(len(center)):
            images[i] = warp_image(image, warp_matrix(center[i], scale[i], 0.0, self.input_size), self.input_size)
        return Crops(images, center, scale)

    def __call__(self, crops: Crops, batch: int = 32) -> np.ndarray:
        """Keypoints [N, 133, 3] of the crops: x and y in pixels of the image they came from, and the score."""
        parts = [self._predict(crops.images[start : start + batch]) for start in range(0, len(crops), batch)]
        if not parts:
            return np.empty((0, 133, 3))
        keypoints = np.concatenate(parts)
        keypoints[..., :2] = input_to_image(
            keypoints[..., :2], crops.center[:, None], crops.scale[:, None], self.input_size
        )
        return keypoints

    def _predict(self, images: np.ndarray) -> np.ndarray:
        """[B, K, 3]: input pixels and score."""
        with torch.inference_mode():
            simcc_x, simcc_y = self.logits(images)
            keypoints, scores = decode(simcc_x, simcc_y)
        return torch.cat((keypoints, scores[..., None]), dim=-1).cpu().double().numpy()

    @torch.inference_mode()
    def logits(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """SimCC logits (x [B, K, 2W], y [B, K, 2H]) of crops (uint8 [B, H, W, 3])."""
        inputs = to_model_input(torch.from_numpy(images).to(self.device), None)
        return forward(self.model, inputs, flip_test=self.flip_test)
