"""Frame numbers of UBody. The expected values were read off pictures that ffmpeg cut from videos of numbered frames."""

import cv2
import numpy as np
import pytest

from posedistill.sources.frame_rate import LOST, shown_at_30
from posedistill.sources.frames import load_all
from posedistill.sources.person import ImageRef

# Rate → frames of the video, frames of the cut, and the frame (from 1) on the cut's pictures 10, 20, 30, …
OFFICIAL = {
    30: (120, 120, [10, 20, 30, 40, 50]),
    60: (200, 102, [16, 36, 56, 76, 96, 116, 136, 156, 176, 196]),
    60000 / 1001: (200, 102, [16, 36, 56, 76, 96, 116, 136, 156, 176, 196]),
    50: (200, 122, [14, 30, 47, 64, 80, 97, 114, 130, 147, 164]),
    25: (120, 144, [8, 17, 25, 33, 42, 50, 58, 67, 75, 83]),
    24000 / 1001: (120, 150, [8, 16, 24, 32, 40, 48, 56, 64, 72, 80]),
    24: (120, 150, [8, 16, 24, 32, 40, 48, 56, 64, 72, 80]),
    20: (100, 150, [7, 13, 20, 27, 33, 40, 47, 53, 60, 67]),
    15: (80, 160, [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]),
}


@pytest.mark.parametrize("rate", OFFICIAL)
def test_constant_rates(rate):
    frames, pictures, tenth = OFFICIAL[rate]
    shown = shown_at_30(np.arange(frames) / rate, rate)
    assert len(shown) == pictures
    assert [frame + 1 for frame in shown[9 : 10 * len(tenth) : 10]] == tenth


def test_the_television_rate_falls_behind_by_one_frame_in_a_thousand():
    rate = 30000 / 1001
    shown = shown_at_30(np.arange(1000) / rate, rate)
    assert len(shown) == 1001
    assert [shown[i] + 1 for i in (9, 99, 489, 499, 509, 989, 999)] == [10, 100, 490, 500, 509, 989, 999]


def test_pictures_that_come_irregularly():
    """First 30 a second, then 15."""
    times = [*(i / 30 for i in range(10)), *(10 / 30 + i / 15 for i in range(5))]
    assert shown_at_30(times, 30)[:16] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 12, 12, 13]


def test_nothing_passes_for_what_is_lost():
    """Frames 10 to 29 are gone: their numbers stay empty, and those after the gap are right."""
    times = [i / 30 for i in range(50) if not 10 <= i < 30]
    shown = shown_at_30(times, 30)
    assert shown[:10] == list(range(10)) and shown[31:50] == list(range(11, 30))
    assert set(shown[10:30]) == {LOST}
    assert shown_at_30(times[12:], 30)[:40].count(LOST) >= 30  # a lost beginning


def write(path, rate, count, codec="mp4v"):
    """Frame i shows i in binary: eight black or white bars."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (64, 48))
    for number in range(count):
        bars = np.repeat([255 * (number >> bit & 1) for bit in range(8)], 8)
        writer.write(np.broadcast_to(bars[None, :, None], (48, 64, 3)).astype(np.uint8))
    writer.release()


def number_on(pixels):
    bars = pixels.reshape(48, 8, 8, 3)[:, :, 2:-2].mean(axis=(0, 2, 3))
    return sum(1 << bit for bit, value in enumerate(bars) if value > 128)


def seen(path, numbers, at_30):
    """The frames that are read under `numbers`; None: there is none."""
    refs = [ImageRef(str(path), number, 64, 48, f"{number}", at_30) for number in numbers]
    read = load_all(refs, keep_bytes=False)
    return [number_on(pixels[1]) if isinstance(pixels, tuple) else None for pixels in read]


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "mp4v"), ("v.webm", "VP80"), ("v.avi", "MJPG")])
def test_videos_of_60_frames_a_second(tmp_path, name, codec):
    """Numbers of the cut, and those of the video itself; one may be asked for twice."""
    write(tmp_path / name, 60, 100, codec)
    assert seen(tmp_path / name, [0, 9, 9, 19, 29, 99], at_30=True) == [0, 15, 15, 35, 55, None]
    assert seen(tmp_path / name, [0, 9, 29, 99, 100], at_30=False) == [0, 9, 29, 99, None]
