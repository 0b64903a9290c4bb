"""Pixels of pictures and video frames, in the order in which they are asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posedistill.data import pixels
from posedistill.data.person import ImageRef
from posedistill.data.pixels import BrokenImage

RATE = 30.0  # frames a second at which frame numbers count
SAME_RATE = 0.05  # 29.97 counts as 30
NO_FRAME = "video frame missing"
NO_VIDEO = "video unreadable"
VIDEO_MISSING = "video missing"

Loaded = tuple[bytes, NDArray[np.uint8]] | BrokenImage


def load_all(refs: Sequence[ImageRef], *, keep_bytes: bool, labelled: Collection[str] = ()) -> Iterator[Loaded]:
    """Encoded bytes and RGB pixels of each picture, or why it is broken.

    Frames of one video should follow one another in rising order: the video is read once. keep_bytes: video frames are
    encoded losslessly (PNG), so that the validation store holds exactly the decoded pixels; otherwise their bytes are
    empty. labelled: paths of the videos whose frames carry labels: where such a file is damaged, the frames after the
    damage are told by their times, and those that are lost are broken.
    """
    for key, group in groupby(refs, key=lambda ref: (ref.path, ref.frame is None)):
        if key[1]:
            for ref in group:
                yield _file(ref)
        else:
            yield from _video(key[0], list(group), keep_bytes, key[0] in labelled)


def _file(ref: ImageRef) -> Loaded:
    try:
        return pixels.load(ref)
    except BrokenImage as error:
        return error


def source_frames(numbers: Sequence[int], rate: float) -> list[int]:
    """Which frame of a video of `rate` frames a second is shown at each frame number of 30 a second.

    As ffmpeg's constant-rate output: the last frame whose time, rounded to the 30-a-second grid, has come.
    """
    if not math.isfinite(rate) or rate <= 0 or abs(rate - RATE) < SAME_RATE:
        return list(numbers)
    return [max(0, math.floor((number + 0.5) * rate / RATE - 1e-9)) for number in numbers]


def _video(path: str, refs: list[ImageRef], keep_bytes: bool, timed: bool) -> Iterator[Loaded]:
    video = cv2.VideoCapture(path)
    try:
        if not video.isOpened():
            for _ in refs:
                yield BrokenImage(NO_VIDEO if Path(path).exists() else VIDEO_MISSING)
            return
        rate = video.get(cv2.CAP_PROP_FPS)
        wanted = source_frames([ref.frame or 0 for ref in refs], rate)
        position, frame = -1, None
        for ref, target in zip(refs, wanted):
            while position < target:  # seeking is not exact in many files; decoding through is
                good = video.grab()
                if not good:
                    frame, position = None, 1 << 60  # the end
                    break
                position += 1
                if timed:
                    position = max(position, _frame_by_time(video, rate))
            if position == target:
                _, frame = video.retrieve()
            yield _checked(frame if position == target else None, ref, keep_bytes)
    finally:
        video.release()


def _frame_by_time(video: cv2.VideoCapture, rate: float) -> int:
    """The place in the video of the frame just read, by its time stamp; -1 where there is none. It is ahead of the
    count where the decoder has left out damaged frames."""
    seconds = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
    return round(seconds * rate) if math.isfinite(seconds * rate) else -1


def _checked(frame: Any, ref: ImageRef, keep_bytes: bool) -> Loaded:
    if frame is None:
        return BrokenImage(NO_FRAME)
    if ref.width and frame.shape[:2] != (ref.height, ref.width):
        return BrokenImage(pixels.WRONG_SIZE)
    content = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes() if keep_bytes else b""
    return content, np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
