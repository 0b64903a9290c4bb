"""Person boxes from an ONNX detector: outputs `dets` [1, N, 5] (x1, y1, x2, y2, score) and `labels` [1, N].

RTMDet as mmdeploy exports it: input BGR, scaled to fit into the top left corner of a grey canvas, normalised.
"""

from pathlib import Path

import cv2
import numpy as np

from posedistill.data.feed.device_augment import MEAN, STD
from posedistill.errors import UserError
from posedistill.inference.sources import Frame
from posedistill.models.onnx_session import open_session, reason

# RTMDet normalises as RTMPose does, but its input is BGR.
_MEAN = np.array(MEAN[::-1], np.float32)
_STD = np.array(STD[::-1], np.float32)
_GREY = 114
_PERSON = 0
_DEFAULT_SIDE = 640  # of the input, if it is dynamic in the file


class Detector:
    """Call it with a frame: persons as float32 [N, 5], x, y, width, height in pixels and score, best first."""

    def __init__(self, path: str | Path, minimum_score: float = 0.3, threads: int = 1, device: str = "cpu") -> None:
        self.session = open_session(path, threads, device)
        outputs = [output.name for output in self.session.get_outputs()]
        if "dets" not in outputs or "labels" not in outputs:
            raise UserError(f"{path}: expected the outputs dets and labels as mmdeploy exports RTMDet, found {outputs}")
        item = self.session.get_inputs()[0]
        if len(item.shape) != 4 or (item.shape[1] not in (3, None) and not isinstance(item.shape[1], str)):
            raise UserError(f"{path}: expected an input [1, 3, height, width], found {item.shape}")
        if item.type != "tensor(float)":
            raise UserError(f"{path}: expected an input of float32, found {item.type}")
        self.path, self.name = path, item.name
        self.size = tuple(side if isinstance(side, int) else _DEFAULT_SIDE for side in item.shape[2:])
        self.minimum_score = minimum_score

    def __call__(self, frame: Frame) -> np.ndarray:
        canvas, ratio = fit(frame.image, (self.size[0], self.size[1]))
        tensor = ((canvas[..., ::-1].astype(np.float32) - _MEAN) / _STD).transpose(2, 0, 1)[None]
        try:
            dets, labels = self.session.run(["dets", "labels"], {self.name: np.ascontiguousarray(tensor)})
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise UserError(f"{self.path}: the detector failed ({reason(error)})") from error
        if dets.ndim != 3 or dets.shape[-1] != 5 or labels.shape != dets.shape[:2]:
            raise UserError(
                f"{self.path}: expected dets [1, N, 5] and labels [1, N], found {list(dets.shape)} and "
                f"{list(labels.shape)}"
            )
        return _persons(dets[0], labels[0], ratio, frame.image.shape[:2], self.minimum_score)


def fit(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """`image` scaled by one factor into the top left corner of a grey canvas of `size` (height, width); the factor."""
    height, width = image.shape[:2]
    ratio = min(size[0] / height, size[1] / width)
    inner = max(1, int(width * ratio)), max(1, int(height * ratio))
    canvas = np.full((*size, 3), _GREY, np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    return canvas, ratio


def _persons(
    dets: np.ndarray, labels: np.ndarray, ratio: float, shape: tuple[int, ...], minimum_score: float
) -> np.ndarray:
    keep = (labels == _PERSON) & (dets[:, 4] >= minimum_score)
    dets = dets[keep][np.argsort(-dets[keep][:, 4], kind="stable")]
    corners = dets[:, :4] / ratio
    corners[:, 0::2] = corners[:, 0::2].clip(0, shape[1])
    corners[:, 1::2] = corners[:, 1::2].clip(0, shape[0])
    boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2], dets[:, 4:5]), axis=1)
    return boxes[(boxes[:, 2] > 1) & (boxes[:, 3] > 1)].astype(np.float32)
