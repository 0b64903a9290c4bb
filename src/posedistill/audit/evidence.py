"""How likely a model finds a keypoint at any position: log-likelihoods from the SimCC distributions of crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from posedistill.audit.labels import Labelled
from posedistill.data.geometry import input_to_image
from posedistill.errors import UserError
from posedistill.inference.pose import Crops, Pose
from posedistill.keypoints import PARTS
from posedistill.losses import INVERSE_TEMPERATURE
from posedistill.models.simcc import decode

VIEWS = 2  # crops a person: the box as the model wants it, and one with all body labels and more around it
WIDER = 1.1
SHARE = 0.05  # of each distribution is spread evenly over the axis: no position is impossible
BLUR = 2.0  # bins (one input pixel): labels are no more exact than that


@dataclass(frozen=True)
class Evidence:
    """The model's view of one person, from V crops.

    x: log-densities [V, 133, 2W], y: [V, 133, 2H]. center, scale: the crops in the picture, [V, 2] pixels each.
    points: float64 [133, 3], mean position over the crops in pixels of the picture, and mean score (raw logits).
    spread: [133] mean distance of the crops' positions from their mean, pixels of the picture. peak: [133] the highest
    mean log-likelihood that each keypoint reaches: how sure the model is.
    """

    x: np.ndarray
    y: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    points: np.ndarray
    spread: np.ndarray
    peak: np.ndarray

    @property
    def size(self) -> float:
        """Geometric mean of the first crop's sides, in pixels of the picture."""
        return float(np.sqrt(self.scale[0].prod()))

    def likelihood(self, keypoints: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Mean log-likelihood over the crops of keypoints [N] (indices) at positions [N, 2] in the picture → [N].

        The unit is nats above a position drawn evenly from the crop: 0 means that the model has no opinion.
        """
        total = np.zeros(len(keypoints))
        for axis, densities in enumerate((self.x, self.y)):
            bins = densities.shape[-1]
            along = (positions[:, axis] - self.center[:, axis, None]) / self.scale[:, axis, None] + 0.5  # [V, N]
            place = np.clip(np.rint(along * bins), 0, bins - 1).astype(int)
            total += np.take_along_axis(densities[:, keypoints], place[..., None], axis=2)[..., 0].mean(axis=0)
        return total


def look(pose: Pose, image: np.ndarray, persons: Sequence[Labelled]) -> list[Evidence]:
    """Evidence on the persons of an RGB picture [H, W, 3]. UserError if the model's output is not finite."""
    crops = [pose.crop(image, np.stack(crop_boxes(person))) for person in persons]
    if not crops:
        return []
    joined = Crops.join(crops)
    simcc = pose.logits(joined.images)
    x, y = (_log_density(logits).reshape(len(crops), VIEWS, logits.shape[1], -1) for logits in simcc)
    found, scores = (tensor.double().cpu().numpy() for tensor in decode(*simcc))
    placed = input_to_image(found, joined.center[:, None], joined.scale[:, None], pose.input_size)
    points = np.concatenate((placed, scores[..., None]), axis=2).reshape(len(crops), VIEWS, -1, 3)
    if not np.isfinite(points).all():
        raise UserError("the model predicts values that are not finite: its training diverged, or it is damaged")
    mean = points.mean(axis=1)
    spread = np.linalg.norm(points[..., :2] - mean[:, None, :, :2], axis=-1).mean(axis=1)
    peak = sum(densities.max(axis=-1).mean(axis=1) for densities in (x, y))
    return [Evidence(x[i], y[i], crop.center, crop.scale, mean[i], spread[i], peak[i]) for i, crop in enumerate(crops)]


def crop_boxes(person: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """The annotated box and, in case it is wrong, a wider one that also holds all labelled body points: [4] each."""
    low, high = person.box[:2], person.box[:2] + person.box[2:]
    body = person.keypoints[PARTS["body"], :2][person.shown[PARTS["body"]]]
    low, high = np.vstack((low, body)).min(axis=0), np.vstack((high, body)).max(axis=0)
    grown = (high - low) * WIDER
    return person.box, np.concatenate(((low + high - grown) / 2, grown))


def _log_density(logits: torch.Tensor) -> np.ndarray:
    """log of density × bins, blurred and with a floor: logits [N, K, L] → float32 [N, K, L]."""
    bins = logits.shape[-1]
    density = torch.softmax(logits.float() * INVERSE_TEMPERATURE, dim=-1) * bins
    reach = int(3 * BLUR)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * BLUR**2)).to(density)
    flat = density.reshape(-1, 1, bins)
    blurred = torch.nn.functional.conv1d(flat, (kernel / kernel.sum()).reshape(1, 1, -1), padding=reach)
    mixed = (1 - SHARE) * blurred.reshape(density.shape) + SHARE
    return mixed.log().cpu().numpy()
