"""The input of `predict`: a picture, a folder of pictures, or a video, as a stream of frames.

An unreadable input does not end the run: it is recorded as `Skipped`, and the stream continues.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posedistill.errors import UserError
from posedistill.files import printable
from posedistill.sources import pixels, videos
from posedistill.sources.folders import PICTURES, VIDEOS, is_picture, is_video, list_folder
from posedistill.sources.names import ids_are_numbers, numbers_in
from posedistill.sources.pixels import BrokenImage


@dataclass(frozen=True)
class Frame:
    """One picture: RGB uint8 [H, W, 3] and its name, the file's or `video.mp4#frame`.

    image_id: the number in the file name, as in COCO, or the place from 0: see `Source.image_ids`. seconds: its time
    in the video.
    """

    image: np.ndarray
    name: str
    image_id: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Unreadable:
    """A picture or a frame of a video that could not be read: its place in the stream is kept."""

    name: str
    image_id: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Skipped:
    """An input that could not be read, and why."""

    name: str
    reason: str


@dataclass
class Source:
    """A stream of frames: iterate `entries()` or `frames()`, which add to `skipped` what could not be read.

    kind: pictures | video. video: None if it is unreadable. count: expected frames. left_out: names of a folder's
    subfolders and videos. numbered: whether a picture's image_id is the number in its name.
    """

    path: Path
    kind: str
    files: list[Path]
    count: int | None
    video: videos.Video | None = None
    skipped: list[Skipped] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    numbered: bool = False

    def __post_init__(self) -> None:
        self.numbered = self.kind == "pictures" and 0 < len(self.numbers()) == len(self.files)

    def numbers(self) -> dict[str, int]:
        """File name → the number in it; empty if two names have the same number (1.jpg and 01.jpg)."""
        return numbers_in(file.name for file in self.files)

    def image_ids(self) -> list[int]:
        """The image_id of each picture: the number in its name if `numbered` (names without one follow after the
        largest), else its place in the sorted names, from 0."""
        if not self.numbered:
            return list(range(len(self.files)))
        numbers = self.numbers()
        further = itertools.count(max(numbers.values()) + 1)
        return [numbers[file.name] if file.name in numbers else next(further) for file in self.files]

    def number_as(self, wanted: set[int]) -> None:
        """Choose the meaning of image_id with which the ids `wanted` of boxes match the pictures: `ids_are_numbers`."""
        numbers = set(self.numbers().values())
        if wanted and numbers:
            self.numbered = ids_are_numbers(wanted, numbers, range(len(self.files)))

    def frames(self) -> Iterator[Frame]:
        """What can be read."""
        return (entry for entry in self.entries() if isinstance(entry, Frame))

    def entries(self) -> Iterator[Frame | Unreadable]:
        """One for every picture, and for every frame that the video's file holds, in order."""
        return self._video() if self.kind == "video" else self._pictures()

    def _pictures(self) -> Iterator[Frame | Unreadable]:
        for image_id, file in zip(self.image_ids(), self.files):
            try:
                image = pixels.load(file)[1]
            except BrokenImage as error:
                self.skipped.append(Skipped(file.name, str(error)))
                yield Unreadable(file.name, image_id)
                continue
            yield Frame(image, file.name, image_id)

    def _video(self) -> Iterator[Frame | Unreadable]:
        if self.video is None:
            yield Unreadable(self.path.name, 0)
        read = following = 0
        for place, frame in self.video.frames() if self.video else ():
            yield from self._damaged(following, place)
            yield Frame(videos.rgb(frame), f"{self.path.name}#{place}", place, self._seconds(place))
            read, following = read + 1, place + 1
        yield from self._damaged(following, len(self.video.times) if self.video else 0)
        if read == 0:
            self.skipped.append(Skipped(self.path.name, "no frame of the video can be decoded"))
        elif self.count is not None and read < self.count:
            reason = f"{read} of {self.count} frames can be read; the video is cut off or damaged"
            self.skipped.append(Skipped(self.path.name, reason))

    def _damaged(self, start: int, stop: int) -> Iterator[Unreadable]:
        for place in range(start, stop):
            yield Unreadable(f"{self.path.name}#{place}", place, self._seconds(place))

    def _seconds(self, place: int) -> float:
        assert self.video is not None
        times = self.video.times
        return float(times[place] if place < len(times) else place / self.video.rate)


def open_source(path: str | Path) -> Source:
    """A picture, a folder of pictures (sorted by name, without its subfolders, videos and hidden files) or a video.

    Raises UserError for anything else.
    """
    path = Path(path)
    try:
        path.stat()
    except OSError as error:
        raise UserError(f"{printable(path)!s:.100}: there is no such file or folder ({error.strerror})") from error
    if path.is_dir():
        found = list_folder(path)
        if not found.pictures:
            raise UserError(
                f"{printable(path)}: no pictures in this folder, expected files ending in {_list(PICTURES)} "
                "or any other kind that Pillow reads"
            )
        left_out = [file.name for file in found.left_out]
        return Source(path, "pictures", found.pictures, len(found.pictures), left_out=left_out)
    if not path.is_file():
        raise UserError(f"{printable(path)}: {pixels.NOT_A_FILE}")
    if is_picture(path):
        return Source(path, "pictures", [path], 1)
    if not is_video(path):
        kinds = f"a picture ({_list(PICTURES)} or any other kind that Pillow reads), a video ({_list(VIDEOS)})"
        raise UserError(f"{printable(path)}: unknown kind of file, expected {kinds} or a folder of pictures")
    try:
        video = videos.probe(path)
    except BrokenImage:
        return Source(path, "video", [path], None)
    return Source(path, "video", [path], video.expected, video)


def read_image(path: str | Path) -> np.ndarray:
    """RGB uint8 [H, W, 3] of a picture file as `predict` sees it. UserError if it cannot be read."""
    try:
        return pixels.load(path)[1]
    except BrokenImage as error:
        raise UserError(f"{printable(path)}: {error}") from error


def _list(suffixes: frozenset[str]) -> str:
    return " ".join(sorted(suffixes))
