"""Pixels of pictures and video frames, in the order in which they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posedistill.data import pixels
from posedistill.data.person import ImageRef
from posedistill.data.pixels import BrokenImage
from posedistill.data.sources.frame_rate import LOST, read_timing, shown_at_30

NO_FRAME = "video frame missing"
NO_VIDEO = "video unreadable"
VIDEO_MISSING = "video missing"
END = 1 << 60  # a place behind all frames

Loaded = tuple[bytes, NDArray[np.uint8]] | BrokenImage


def load_all(refs: Sequence[ImageRef], *, keep_bytes: bool) -> Iterator[Loaded]:
    """Encoded bytes and RGB pixels of each picture, or why it is broken.

    Frames of one video should follow one another in rising order: the video is read once. keep_bytes: video frames are
    encoded losslessly (PNG), so that the validation store holds exactly the decoded pixels; otherwise their bytes are
    empty. Where a video is damaged, the frames after the damage are told by their times (AVI files have none), and
    those that are lost are broken.
    """
    for key, group in groupby(refs, key=lambda ref: (ref.path, ref.frame is None)):
        if key[1]:
            for ref in group:
                yield _file(ref)
        else:
            yield from _video(key[0], list(group), keep_bytes)


def _file(ref: ImageRef) -> Loaded:
    try:
        return pixels.load(ref)
    except BrokenImage as error:
        return error


def _video(path: str, refs: list[ImageRef], keep_bytes: bool) -> Iterator[Loaded]:
    video = cv2.VideoCapture(path)
    try:
        if not video.isOpened():
            for _ in refs:
                yield BrokenImage(NO_VIDEO if Path(path).exists() else VIDEO_MISSING)
            return
        timing = read_timing(path)
        at_30 = shown_at_30(timing.times, timing.rate) if any(ref.at_30 for ref in refs) else []
        position, frame = -1, None
        for ref in refs:
            target = _place(ref.frame or 0, at_30 if ref.at_30 else range(len(timing.times)))
            while position < target:  # seeking is not exact in many files; decoding through is
                if not video.grab():
                    position = END
                    break
                position += 1
                if timing.stamped:
                    position = max(position, _by_time(video, timing.times))
                frame = None
            here = position == target != LOST
            if here and frame is None:
                _, frame = video.retrieve()
            yield _checked(frame if here else None, ref, keep_bytes)
    finally:
        video.release()


def _place(number: int, shown: Sequence[int]) -> int:
    """The frame of the video that is shown under a number, or LOST."""
    return shown[number] if 0 <= number < len(shown) else LOST


def _by_time(video: cv2.VideoCapture, times: NDArray[np.float64]) -> int:
    """The place of the frame just read, by its time stamp. It is ahead of the count where the decoder has left out
    damaged frames."""
    time = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
    after = int(np.searchsorted(times, time))
    return min((i for i in (after - 1, after) if 0 <= i < len(times)), key=lambda i: abs(times[i] - time), default=-1)


def _checked(frame: Any, ref: ImageRef, keep_bytes: bool) -> Loaded:
    if frame is None:
        return BrokenImage(NO_FRAME)
    if ref.width and frame.shape[:2] != (ref.height, ref.width):
        return BrokenImage(pixels.WRONG_SIZE)
    content = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes() if keep_bytes else b""
    return content, np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
