"""Pixels of pictures and video frames, in the order of their references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posedistill.sources import pixels, videos
from posedistill.sources.frame_rate import LOST, shown_at_30
from posedistill.sources.person import ImageRef
from posedistill.sources.pixels import BrokenImage

NO_FRAME = "video frame missing"
END = 1 << 60  # a place behind all frames

Loaded = tuple[bytes, NDArray[np.uint8]] | BrokenImage


def load_all(refs: Sequence[ImageRef], *, keep_bytes: bool) -> Iterator[Loaded]:
    """Encoded bytes and RGB pixels of each picture, or why it is broken.

    Frames of one video should follow one another in rising order: the video is read once. keep_bytes: encode video
    frames losslessly (PNG), so that the validation store holds exactly the decoded pixels; otherwise their bytes are
    empty. Frames after damage in a video keep their numbers by their time stamps (AVI files have none); those that are
    lost are broken.
    """
    for (path, is_file), group in groupby(refs, key=lambda ref: (ref.path, ref.frame is None)):
        if is_file:
            yield from map(_picture, group)
        else:
            yield from _frames(path, list(group), keep_bytes)


def _picture(ref: ImageRef) -> Loaded:
    try:
        return pixels.load(ref.path, ref.width, ref.height)
    except BrokenImage as error:
        return error


def _frames(path: str, refs: list[ImageRef], keep_bytes: bool) -> Iterator[Loaded]:
    try:
        video = videos.probe(path)
    except BrokenImage as error:
        for _ in refs:
            yield error
        return
    at_30 = shown_at_30(video.times, video.rate) if any(ref.at_30 for ref in refs) else []
    frames = video.frames()
    place, frame = -1, None
    for ref in refs:
        wanted = _place(ref.frame or 0, at_30 if ref.at_30 else range(len(video.times)))
        while place < wanted:  # decode through: seeking is not exact in many files
            place, frame = next(frames, (END, None))
        yield _checked(frame, ref, keep_bytes) if frame is not None and place == wanted else BrokenImage(NO_FRAME)


def _place(number: int, shown: Sequence[int]) -> int:
    """The frame of the video that is shown under a number, or LOST."""
    return shown[number] if 0 <= number < len(shown) else LOST


def _checked(frame: Any, ref: ImageRef, keep_bytes: bool) -> Loaded:
    image = videos.rgb(frame)
    if ref.width and image.shape[:2] != (ref.height, ref.width):
        return BrokenImage(pixels.WRONG_SIZE)
    if not keep_bytes:
        return b"", image
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes(), image
