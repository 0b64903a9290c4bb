"""Reading videos by PyAV, for `prepare` and `predict` alike: which frames there are, their times and their pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posedistill.sources.pixels import MISSING, BrokenImage, check_plain_file

if TYPE_CHECKING:
    from av import VideoFrame

NO_VIDEO = "video unreadable"
VIDEO_MISSING = "video missing"
USUAL_RATE = 30.0  # frames per second where the file does not say
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg"  # no playlists: they name other files
MOST_ERRORS = 1000  # damaged places in a file before the rest is given up


@dataclass(frozen=True)
class Video:
    """A video as its container describes it.

    times: seconds at which the frames are shown, in order, from 0. rate: frames per second. width, height: of its first
    frame as it is shown, in pixels. expected: frames of the whole video, more than there are times if it was cut off.
    stamps: the container's own times of the frames, which the decoder gives with each of them; None if it has none.
    """

    path: Path
    times: NDArray[np.float64]
    rate: float
    width: int
    height: int
    expected: int
    stamps: list[int] | None

    def frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """(place, frame) of every frame that can be decoded, in order; `rgb` gives its pixels. Damaged frames are left
        out, the others keep their places."""
        places: dict[int | None, int] = {stamp: place for place, stamp in enumerate(self.stamps or [])}
        place = -1
        with _open(self.path) as (container, stream):
            for frame in _decoded(container, stream):
                place = places.get(frame.pts, place + 1)
                yield place, frame


def probe(path: str | Path) -> Video:
    """Read the container, and one frame for its size. BrokenImage if it is no readable video."""
    stamps: list[int | None] = []
    last, cut, discarded = 0.0, False, 0
    with _open(Path(path)) as (container, stream):
        for packet in _packets(container, None):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                last = max(last, float((stamp + (packet.duration or 0)) * packet.time_base))
            cut = packet.is_corrupt
            if packet.stream.index == stream.index:
                discarded += packet.is_discard  # frames before the first that is shown
                if not packet.is_corrupt and not packet.is_discard:
                    stamps.append(packet.pts)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        rate = rate if math.isfinite(rate) and rate > 0 else USUAL_RATE
        expected = max(len(stamps), stream.frames - discarded)
        duration = (container.duration or 0) / 1e6
        if "matroska" in container.format.name and duration - last > 1.5 / rate:  # it has no number of frames
            expected = max(len(stamps) + 1, round(duration * rate))
        expected = max(expected, len(stamps) + cut)
        base, in_order_of_decoding = float(stream.time_base), container.format.name == "avi"
    with _open(Path(path)) as (container, stream):
        first = next(_decoded(container, stream), None)
        if first is None:
            raise BrokenImage(NO_VIDEO)
        height, width = rgb(first).shape[:2]
    known = sorted(stamp for stamp in stamps if stamp is not None)
    if len(set(known)) == len(stamps) and not in_order_of_decoding:
        times = (np.array(known, np.float64) - known[0]) * base
        return Video(Path(path), times, rate, width, height, expected, known)
    return Video(Path(path), np.arange(len(stamps)) / rate, rate, width, height, expected, None)


def rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] of a frame as it is shown, the same that OpenCV reads: it scales chroma bicubically, to BGR."""
    pixels = frame.to_ndarray(format="bgr24", interpolation="BICUBIC")[..., ::-1]
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    """(container, its video stream). Opened as a file object: any name will do, and none is taken for a protocol."""
    import av

    try:
        check_plain_file(path)
    except BrokenImage as error:
        raise BrokenImage(VIDEO_MISSING if str(error) == MISSING else NO_VIDEO) from None
    try:
        with path.open("rb") as file:
            options = {"format_whitelist": FORMATS}
            with av.open(file, options=options, metadata_errors="ignore", buffer_size=1 << 20) as container:
                stream: Any = container.streams.best("video")
                if stream is None:
                    raise BrokenImage(NO_VIDEO)
                stream.thread_type = "AUTO"
                yield container, stream
    except (OSError, av.FFmpegError):
        raise BrokenImage(NO_VIDEO) from None


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream (None: of all), past damaged places of the file."""
    import av

    for _ in range(MOST_ERRORS):
        try:
            yield from (packet for packet in container.demux(stream) if packet.size)
            return
        except av.FFmpegError:
            continue


def _decoded(container: Any, stream: Any) -> Iterator[VideoFrame]:
    import av

    def decode(packet: Any) -> list[VideoFrame]:
        try:
            return [frame for frame in stream.decode(packet) if not frame.is_corrupt]
        except av.FFmpegError:
            return []

    for packet in _packets(container, stream):
        if not packet.is_corrupt:  # the last packet of a file that was cut off
            yield from decode(packet)
    yield from decode(None)
