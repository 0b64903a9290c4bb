"""What OpenCV does not do about videos by itself: names it cannot take, the times of frames, ends that are missing."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from tqdm import tqdm

from posedistill.errors import UserError
from posedistill.files import printable

LARGEST_SIDE = 8190  # even, of MPEG-4 video
_FASTEST = 60.0  # pictures a second of a drawn video whose frames are unevenly spaced, if it is not faster as a whole
_MOST_REPEATS = 100  # written pictures for one that was read, on average


def opencv_name(path: str | Path) -> str:
    """The path as OpenCV opens a video by it. Absolute, since FFmpeg takes what stands before a colon for a protocol.

    UserError for a name that is not UTF-8, on which OpenCV crashes.
    """
    name = str(Path(path).absolute())
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{printable(name)}: the path of a video must be UTF-8; rename the file or the folder"
        ) from error
    return name


@dataclass(frozen=True)
class Timing:
    """How a drawn video keeps the times of its frames: its rate, and how often each frame is shown (None: once)."""

    fps: float
    shown: list[int] | None = None
    note: str = ""

    def times(self, frame: int) -> int:
        return self.shown[frame] if self.shown is not None and frame < len(self.shown) else 1


def read_timing(path: Path, fps: float, count: int | None) -> Timing:
    """Read the times of all frames: the file has to be decoded for that."""
    capture = cv2.VideoCapture(opencv_name(path))
    seconds: list[float] = []
    try:
        with tqdm(total=count, desc="time stamps", unit="frame", dynamic_ncols=True, leave=False) as progress:
            while capture.grab():
                seconds.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                progress.update()
    finally:
        capture.release()
    return timing(seconds, fps)


def timing(seconds: list[float], fps: float) -> Timing:
    """The rate at which frames with these times are drawn, and how often each of them.

    Once each, where all lie within half a frame of a constant rate. Otherwise on the finest grid that they need, of at
    most 60 pictures a second: a frame is repeated until the next one comes.
    """
    times = np.array(seconds) - (seconds[0] if seconds else 0)
    steps = np.diff(times)
    if len(steps) == 0 or not np.isfinite(times).all() or (steps <= 0).any():
        return Timing(fps)  # no times, or none that can be trusted
    for rate in (fps, len(steps) / float(times[-1])):
        if np.abs(times * rate - np.arange(len(times))).max() <= 0.5:
            return Timing(rate)
    rate = min(1 / float(steps.min()), max(_FASTEST, fps))
    if times[-1] * rate > _MOST_REPEATS * len(times):
        note = "its frames are too unevenly spaced in time: the drawn videos show them at a constant rate"
        return Timing(fps, note=note)
    places = np.floor(times * rate + 0.5).astype(int)
    return Timing(rate, [*np.diff(places).tolist(), 1])


class VideoOut:
    """An MP4 video that takes pictures of one size, odd ones too: its last row and column are then repeated."""

    def __init__(self, path: Path, temporary: Path, fps: float, width: int, height: int) -> None:
        self.path, self.temporary = path, temporary  # where it belongs, and where it is until it is whole
        self.written = 0
        if max(width, height) > LARGEST_SIDE:
            raise UserError(
                f"{path}: frames of {width}x{height}, MPEG-4 video takes at most {LARGEST_SIDE} pixels a side; "
                "use --no-drawings for keypoints alone"
            )
        self.right, self.below = width % 2, height % 2
        size = (width + self.right, height + self.below)
        self.writer = cv2.VideoWriter(opencv_name(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        if not self.writer.isOpened():
            raise UserError(f"{path}: this OpenCV cannot write MP4 video; use --no-drawings for keypoints alone")

    def add(self, picture: np.ndarray, times: int = 1) -> None:
        """RGB uint8 [H, W, 3], shown `times` times."""
        frame = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        if self.right or self.below:
            frame = cv2.copyMakeBorder(frame, 0, self.below, 0, self.right, cv2.BORDER_REPLICATE)
        for _ in range(times):
            self.writer.write(frame)
        self.written += times

    def release(self) -> None:
        self.writer.release()

    def check(self) -> None:
        """OpenCV writes videos without a word of a full disk: what was written is counted."""
        video = cv2.VideoCapture(opencv_name(self.temporary))
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
        video.release()
        if count < self.written:
            raise UserError(f"cannot write {self.path}: {count} of {self.written} frames are in it; is the disk full?")


def cut_short(path: Path, read: int, count: int) -> bool:
    """Whether there is evidence that a video of which `read` frames were read was longer.

    An index that counts more frames (MP4, AVI), or a file that ends before its last element does (Matroska and WebM,
    fragmented MP4). OpenCV's `count` is no evidence where it is made of the duration, which may be that of the sound.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] == b"\x1a\x45\xdf\xa3":
            end = _matroska_end(file)
            return end is not None and end > size
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
            kinds, end = _boxes(file, size)
            return end > size or (b"moof" not in kinds and read < count)
        return start[:4] == b"RIFF" and read < count


def _boxes(file: BinaryIO, size: int) -> tuple[set[bytes], int]:
    """The kinds of an MP4 file's outermost boxes, and where the last one ends."""
    kinds, end = set(), 0
    while end + 8 <= size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # the length is a 64-bit one after the kind
            length = int.from_bytes(head[8:16], "big")
        kinds.add(head[4:8])
        if length < 8:  # 0: up to the end of the file; anything else is damage
            break
        end += length
    return kinds, end


def _matroska_end(file: BinaryIO) -> int | None:
    """Where a Matroska file's segment ends; None where it does not say, as in a stream."""
    file.seek(4)
    header = _matroska_length(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return None
    length = _matroska_length(file)
    return None if length is None else file.tell() + length


def _matroska_length(file: BinaryIO) -> int | None:
    """A number whose leading zero bits count its further bytes; None where all its bits are set: unknown."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    further = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> further)]) + file.read(further), "big")
    return None if value == (1 << 7 * (further + 1)) - 1 else value
