"""Which frame of a video the official cut of UBody, `ffmpeg -r 30`, shows under each of its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RATE = 30.0  # frames per second of the official cut
DRIFT = 1.1  # ffmpeg's drift tolerance, in output frames: beyond it a picture is dropped or repeated
GAP = 2.5  # usual intervals between two frames: a longer one means lost frames
LOST = -1


def shown_at_30(times: Sequence[float] | NDArray[np.float64], rate: float) -> list[int]:
    """For each frame of the cut, from 0, the frame of the video it shows, from 0; LOST in a gap of the times.

    times: of the video's frames, in order, in seconds. rate: frames per second, from which ffmpeg takes how long one is
    shown. ffmpeg compares each picture's time with the next free place of the output: a picture more than 1.1 places
    early is dropped; if it is more than 1.1 late, it or its predecessor is repeated. So pictures of a fast video come
    up to three frames of the video late, as they do in the published cut. A gap stays empty: whether the video stood
    still there or is damaged cannot be told.
    """
    shown: list[int] = []
    previous = 0.0
    for index, time in enumerate(times):
        place = time * RATE
        if place != round(place):
            place += 2**-17  # ffmpeg rounds halves up
        early = place - len(shown)
        end = early + RATE / rate
        copies, of_previous = 1, 0
        if end < -DRIFT:
            copies = 0
        elif end > DRIFT:
            copies = round(end)
            if early > DRIFT:
                of_previous = round(early - 0.6)
        if time - previous > GAP / rate:
            shown += [LOST] * (copies - 1) + [index]
        else:
            shown += [index - 1 if copy < of_previous and index else index for copy in range(copies)]
        previous = time
    return shown
