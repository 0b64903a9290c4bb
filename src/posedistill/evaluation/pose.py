"""A model that is called with an image and boxes: crop, SimCC logits (with flip test), decoding, and back to the image.

The one way from boxes to keypoints, for `posedistill.load`, `predict`, the notebook and the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from posedistill.data.feed.device_augment import to_model_input
from posedistill.data.geometry import BOX_PADDING, crop_of_box, input_to_image, warp_image, warp_matrix
from posedistill.errors import UserError, shorten
from posedistill.evaluation.calibration import Calibration
from posedistill.keypoints import FLIP_INDICES
from posedistill.models.head import SPLIT_RATIO
from posedistill.models.onnx_model import PoseModel
from posedistill.models.simcc import decode

LARGEST = 1e6  # pixels of a box; beyond it the map to the input loses its precision
Score = Literal["min", "mean"]


def forward(
    model: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor, *, flip_test: bool
) -> tuple[Tensor, Tensor]:
    """SimCC logits (x [B, K, 2W], y [B, K, 2H]) of normalised `images` [B, 3, H, W].

    With `flip_test` the mean of the image's logits and its mirror's, brought back: the bins of x reversed, left and
    right keypoints swapped (published). Both go through the model as one batch.
    """
    return forward_both(model, images)[1] if flip_test else model(images)


def forward_both(
    model: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The logits without and with flip test, from one call of the model."""
    simcc_x, simcc_y = model(torch.cat((images, images.flip(-1))))
    (x, mirrored_x), (y, mirrored_y) = simcc_x.chunk(2), simcc_y.chunk(2)
    swap = _flip_indices(simcc_x.device)
    return (x, y), ((x + mirrored_x[:, swap].flip(-1)) * 0.5, (y + mirrored_y[:, swap]) * 0.5)


@cache
def _flip_indices(device: torch.device) -> Tensor:
    """Kept on the device: a copy in each batch would wait for it."""
    with torch.inference_mode(False):  # a training could not use an inference tensor
        return torch.as_tensor(FLIP_INDICES, device=device)


@dataclass(frozen=True)
class Crops:
    """Model inputs of N persons: uint8 RGB [N, H, W, 3], and where they lie in their image (pixels, [N, 2] each)."""

    images: np.ndarray | Tensor
    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        return cls(*(np.concatenate(column) for column in zip(*((p.images, p.center, p.scale) for p in parts))))

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class PoseResult:
    """N persons: keypoints in pixels of their image, raw scores, and how probable it is that each point is right."""

    keypoints: np.ndarray  # [N, 133, 2] float64: x, y; may lie outside the image
    scores: np.ndarray  # [N, 133] float64: logits, about 1 for a clear peak, about 0 for none
    confidence: np.ndarray  # [N, 133] float64 in [0, 1]; all NaN if the model has no calibration

    @property
    def points(self) -> np.ndarray:
        """[N, 133, 3] for drawing: x, y and the confidence, or the raw score if the model has no calibration."""
        third = np.where(np.isnan(self.confidence), self.scores, self.confidence)
        return np.concatenate((self.keypoints, third[..., None]), axis=2)


@dataclass(frozen=True)
class Decoded:
    """What the device finds in a batch of crops, perhaps still on its way to the host."""

    keypoints: Tensor  # [B, 133, 2] in input pixels
    scores: Tensor  # [B, 133]
    smaller: Tensor  # [B, 133], of both axes' maxima
    ready: torch.cuda.Event | None  # None: it has arrived

    def wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keypoints, scores and smaller maxima in float64."""
        if self.ready is not None:
            self.ready.synchronize()
        return self.keypoints.double().numpy(), self.scores.double().numpy(), self.smaller.double().numpy()


class Pose:
    """A model on its device. Call it with an image and boxes; or `crop` several images, then `find` in all crops."""

    def __init__(
        self,
        model: PoseModel,
        device: torch.device | str = "cpu",
        flip_test: bool = False,
        padding: float = BOX_PADDING,
        calibration: Calibration | None = None,
        score: Score = "min",
    ) -> None:
        """The model is put in eval mode.

        padding: factor by which boxes are enlarged before cropping, as in the model's training. score: the smaller of
        the two axes' maxima (min, as in mmpose) or their mean (mean, as in rtmlib). Confidence is always that of the
        smaller.
        """
        self.model: PoseModel = model.to(device).eval()
        self.device = device
        self.flip_test = flip_test
        self.padding = padding
        self.calibration = calibration
        self.score: Score = score
        self.input_size = model.input_size

    def __call__(self, image: np.ndarray, boxes: ArrayLike | None = None) -> PoseResult:
        """The persons in `boxes` [N, 4] (x, y, width, height in pixels; None: the whole image is one person).

        `image` is RGB uint8 [H, W, 3]. Raises UserError for anything else.
        """
        _check_image(image)
        return self.find(self.crop(image, _checked_boxes(boxes, image.shape)))

    def crop(self, image: np.ndarray, boxes: np.ndarray) -> Crops:
        """Persons of `image` (RGB uint8 [H, W, 3]) in `boxes` [N, 4] (x, y, width, height in pixels)."""
        center, scale = crop_of_box(np.asarray(boxes, np.float64).reshape(-1, 4), self.padding, self.input_size)
        images = np.empty((len(center), *self.input_size, 3), np.uint8)
        for i in range(len(center)):
            images[i] = warp_image(image, warp_matrix(center[i], scale[i], 0.0, self.input_size), self.input_size)
        return Crops(images, center, scale)

    def find(self, crops: Crops, batch: int = 32) -> PoseResult:
        """The persons in the crops, `batch` at a time; keypoints in pixels of the image that each came from."""
        parts = [self.start(crops.images[first : first + batch]) for first in range(0, len(crops), batch)]
        return self.finish(parts, crops)

    def finish(self, parts: Sequence[Decoded], crops: Crops) -> PoseResult:
        """Wait for what `start` began on the images of `crops`, in one part or several."""
        if not parts:
            return PoseResult(np.empty((0, 133, 2)), np.empty((0, 133)), np.empty((0, 133)))
        inputs, scores, smaller = (np.concatenate(one) for one in zip(*(part.wait() for part in parts)))
        keypoints = input_to_image(inputs, crops.center[:, None], crops.scale[:, None], self.input_size)
        if self.calibration is None:
            return PoseResult(keypoints, scores, np.full(scores.shape, np.nan))
        return PoseResult(keypoints, scores, self.calibration.confidence(smaller, flip_test=self.flip_test))

    def predict(self, crops: Crops, batch: int = 32) -> np.ndarray:
        """`find` as one array [N, 133, 3]: x and y in pixels of the image, and the raw score."""
        found = self.find(crops, batch)
        return np.concatenate((found.keypoints, found.scores[..., None]), axis=2)

    @torch.inference_mode()
    def start(self, images: np.ndarray | Tensor) -> Decoded:
        """Begin on crops (uint8 [B, H, W, 3]); a card works on while the host prepares the next."""
        return self.decode(*self.logits(images))

    @torch.inference_mode()
    def logits(self, images: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """SimCC logits (x [B, K, 2W], y [B, K, 2H]) of crops (uint8 [B, H, W, 3]), at least in float32."""
        return forward(self.model, self.inputs(images), flip_test=self.flip_test)

    @torch.inference_mode()
    def inputs(self, images: np.ndarray | Tensor) -> Tensor:
        """Normalised inputs [B, 3, H, W] of crops (uint8 [B, H, W, 3]) on the model's device."""
        crops = torch.as_tensor(images)
        if torch.device(self.device).type == "cuda":
            crops = crops.pin_memory()  # from other memory, the copy would wait for the batches before
        return to_model_input(crops.to(self.device, non_blocking=True), None)

    @torch.inference_mode()
    def decode(self, simcc_x: Tensor, simcc_y: Tensor) -> Decoded:
        """Decode logits on their device, and begin to fetch the result."""
        simcc_x, simcc_y = _full(simcc_x), _full(simcc_y)
        keypoints, smaller = decode(simcc_x, simcc_y)
        scores = smaller
        if self.score == "mean":
            keypoints, scores = _decode_mean(simcc_x, simcc_y)
        fetched = [tensor.to("cpu", non_blocking=True) for tensor in (keypoints, scores, smaller)]
        ready = torch.cuda.current_stream(simcc_x.device).record_event() if simcc_x.is_cuda else None
        return Decoded(fetched[0], fetched[1], fetched[2], ready)


def _full(logits: Tensor) -> Tensor:
    """In half precision bins beyond 256 could not be told apart."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _decode_mean(simcc_x: Tensor, simcc_y: Tensor) -> tuple[Tensor, Tensor]:
    """`simcc.decode` with rtmlib's score: the mean of both maxima, and no position where that is not positive."""
    (score_x, best_x), (score_y, best_y) = simcc_x.max(dim=-1), simcc_y.max(dim=-1)
    scores = 0.5 * (score_x + score_y)
    best = torch.where((scores > 0)[..., None], torch.stack((best_x, best_y), dim=-1), -1)
    return best.to(simcc_x.dtype) / SPLIT_RATIO, scores


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
