"""Drawn videos: H.264 in MP4, each frame shown at the time of the original."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from posedistill.errors import UserError
from posedistill.files import printable

TIME_BASE = Fraction(1, 60_000)  # exact for 24, 25 and 30 frames per second and for television's 30000/1001
QUALITY = {"crf": "18", "preset": "veryfast"}  # keeps lines sharp


class VideoOut:
    """An MP4 video of pictures of one size; H.264 needs even sizes: the last row and column of odd ones are repeated.

    A context manager that completes the file if its block raises nothing. Writes to `temporary`; messages name the
    later `path`. rate: frames per second; 1 / rate is the duration of the last frame. Raises OSError if the disk is
    full.
    """

    def __init__(self, path: Path, temporary: Path, width: int, height: int, rate: float) -> None:
        import av

        self.right, self.below = width % 2, height % 2
        self.last = -1  # time of the last frame, in TIME_BASE
        self.file = temporary.open("wb")  # a file object takes names of any encoding
        self.container = av.open(self.file, "w", format="mp4")
        self.stream = self.container.add_stream("libx264", Fraction(rate).limit_denominator(1001), options=QUALITY)
        self.stream.width, self.stream.height = width + self.right, height + self.below
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.time_base = TIME_BASE
        try:
            self.stream.codec_context.open()
        except av.FFmpegError as error:
            self._abandon()
            raise UserError(
                f"{printable(path)}: H.264 cannot encode frames of {width}x{height} pixels; "
                "use --no-drawings to write keypoints alone"
            ) from error

    def add(self, picture: np.ndarray, seconds: float) -> None:
        """Append a picture, RGB uint8 [H, W, 3], shown from `seconds` on."""
        from av import VideoFrame

        if self.right or self.below:
            picture = cv2.copyMakeBorder(picture, 0, self.below, 0, self.right, cv2.BORDER_REPLICATE)
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.time_base = TIME_BASE
        frame.pts = self.last = max(round(seconds / TIME_BASE), self.last + 1)
        self._encode(frame)

    def _encode(self, frame: Any) -> None:
        import av

        try:
            for packet in self.stream.encode(frame):
                self.container.mux(packet)
            if frame is None:
                self.container.close()
        except av.FFmpegError as error:
            if isinstance(error.__context__, OSError):  # of the file object
                raise error.__context__ from None
            raise

    def _abandon(self) -> None:
        with suppress(Exception):  # the cause of the failure is already reported
            self.container.close()
        with suppress(OSError):
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._encode(None)
                self.file.close()
        finally:
            self._abandon()
