"""Which frame of a video the official cut of UBody, `ffmpeg -r 30`, shows under each of its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

RATE = 30.0  # frames a second of the official cut
FAR = 1.1  # output frames: what ffmpeg lets a picture be early or late before it leaves one out or repeats one
GAP = 2.5  # usual intervals between two frames: where there is more, frames have been lost
LOST = -1


class Timing(NamedTuple):
    """The frames of a video. times: when each is shown, in seconds, in order. rate: frames a second.

    stamped: the times are the container's own, and the decoder tells them with each frame.
    """

    times: NDArray[np.float64]
    rate: float
    stamped: bool


def read_timing(path: str | Path) -> Timing:
    """From the container alone, nothing is decoded. No times for a file that is no readable video."""
    video = cv2.VideoCapture(str(path))
    try:
        rate = video.get(cv2.CAP_PROP_FPS)
        rate = rate if math.isfinite(rate) and rate > 0 else RATE
        count = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        milliseconds = []
        if video.set(cv2.CAP_PROP_FORMAT, -1):  # packets instead of pictures
            while video.grab():
                milliseconds.append(video.get(cv2.CAP_PROP_POS_MSEC))
    finally:
        video.release()
    times = np.sort(np.array(milliseconds, np.float64)) / 1000
    in_order_of_decoding = Path(path).suffix.lower() == ".avi"
    if len(times) and np.isfinite(times).all() and times[-1] > 0 and not in_order_of_decoding:
        return Timing(times, rate, stamped=True)
    return Timing(np.arange(len(times) or count) / rate, rate, stamped=False)


def shown_at_30(times: Sequence[float] | NDArray[np.float64], rate: float) -> list[int]:
    """For each frame of the cut, from 0, the frame of the video it shows, from 0; LOST in a gap of the times.

    times: of the video's frames, in order, in seconds. rate: frames a second, from which ffmpeg takes how long one is
    shown. ffmpeg goes from picture to picture and asks how far it is from the next free place of the output: more than
    1.1 places too early, it is left out; more than 1.1 too late, it or the one before fills the gap. So pictures of a
    fast video come up to three frames of the video late, as they do in the published cut. A gap is not filled: whether
    the video stood still there or is damaged cannot be told.
    """
    shown: list[int] = []
    previous = 0.0
    for index, time in enumerate(times):
        place = time * RATE
        if place != round(place):
            place += 2**-17  # ffmpeg's way to round halves up
        early = place - len(shown)
        end = early + RATE / rate
        copies, of_previous = 1, 0
        if end < -FAR:
            copies = 0
        elif end > FAR:
            copies = round(end)
            if early > FAR:
                of_previous = round(early - 0.6)
        if time - previous > GAP / rate:
            shown += [LOST] * (copies - 1) + [index]
        else:
            shown += [index - 1 if copy < of_previous and index else index for copy in range(copies)]
        previous = time
    return shown
