"""What `predict` reads: a picture, a folder of pictures, or a video, as a stream of frames.

What cannot be read is not an error of the whole: it is recorded as `Skipped`, and the stream goes on.
"""

import itertools
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from posedistill.data.sources.names import ids_are_numbers, numbers_in
from posedistill.errors import UserError
from posedistill.inference.videos import cut_short, opencv_name

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"))  # those to name in messages
UNREADABLE = frozenset((".heic", ".heif", ".jxl", ".svg"))  # pictures, too, which Pillow cannot open: they are listed
VIDEOS = frozenset((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"))


@dataclass(frozen=True)
class Frame:
    """One picture: RGB uint8 [H, W, 3], the name it goes by (file name, or `video.mp4#frame`) and its number.

    `image_id` is the number in the file name, as in COCO, or the place from 0: see `Source.image_ids`.
    """

    image: np.ndarray
    name: str
    image_id: int


@dataclass(frozen=True)
class Skipped:
    """An input that could not be read, and why."""

    name: str
    reason: str


@dataclass
class Source:
    """A stream of frames of unknown quality: iterate `frames()`; `skipped` fills up on the way."""

    path: Path
    kind: str  # pictures | video
    files: list[Path]
    count: int | None  # frames expected; None where a video does not say
    fps: float = 25.0
    skipped: list[Skipped] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # subfolders and videos of a folder, by name
    numbered: bool = False  # whether a picture's image_id is the number in its name

    def __post_init__(self) -> None:
        self.numbered = self.kind == "pictures" and 0 < len(self.numbers()) == len(self.files)

    def numbers(self) -> dict[str, int]:
        """File name → the number that it is; empty where two are the same number (1.jpg and 01.jpg)."""
        return numbers_in(file.name for file in self.files)

    def image_ids(self) -> list[int]:
        """The image_id of each picture: the number in its name if `numbered` (names without one count on after the
        largest), else its place in the sorted names, from 0."""
        if not self.numbered:
            return list(range(len(self.files)))
        numbers = self.numbers()
        further = itertools.count(max(numbers.values()) + 1)
        return [numbers[file.name] if file.name in numbers else next(further) for file in self.files]

    def number_as(self, wanted: set[int]) -> None:
        """Choose the reading of image_id under which boxes with the ids `wanted` belong to pictures of the folder.

        See `ids_are_numbers`. Without such ids or names nothing changes.
        """
        numbers = set(self.numbers().values())
        if wanted and numbers:
            self.numbered = ids_are_numbers(wanted, numbers, range(len(self.files)))

    def frames(self) -> Iterator[Frame]:
        return self._video() if self.kind == "video" else self._pictures()

    def _pictures(self) -> Iterator[Frame]:
        for image_id, file in zip(self.image_ids(), self.files):
            try:
                image = read_image(file)
            except UserError as error:
                self.skipped.append(Skipped(file.name, str(error)))
                continue
            yield Frame(image, file.name, image_id)

    def _video(self) -> Iterator[Frame]:
        capture = cv2.VideoCapture(opencv_name(self.path))
        place = 0
        try:
            while True:
                good, image = capture.read()
                if not good:
                    break
                yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), f"{self.path.name}#{place}", place)
                place += 1
        finally:
            capture.release()
        if place == 0:
            self.skipped.append(Skipped(self.path.name, "no frame of the video can be decoded"))
        elif self.count is not None and place < self.count and cut_short(self.path, place, self.count):
            self.skipped.append(Skipped(self.path.name, f"the video ends after {place} of {self.count} frames"))


def open_source(path: str | Path) -> Source:
    """A picture, a folder of pictures (sorted by name, without its subfolders, videos and hidden files) or a video.

    UserError if it is none. Of a moving GIF, the first picture.
    """
    path = Path(path)
    try:
        path.stat()
    except OSError as error:
        raise UserError(f"{path!s:.100}: there is no such file or folder ({error.strerror})") from error
    if path.is_dir():
        inside = sorted(file for file in path.iterdir() if not file.name.startswith("."))
        files = [file for file in inside if _is_picture(file)]
        left_out = [file.name for file in inside if file.is_dir() or file.suffix.lower() in VIDEOS]
        if not files:
            raise UserError(f"{path}: no pictures in this folder, expected files ending in {_list(PICTURES)}")
        return Source(path, "pictures", files, len(files), left_out=left_out)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file or folder")
    if path.suffix.lower() in VIDEOS:
        return _open_video(path)
    if _is_picture(path):
        return Source(path, "pictures", [path], 1)
    raise UserError(f"{path}: unknown kind of file, expected one ending in {_list(PICTURES | VIDEOS)}, or a folder")


def read_image(path: str | Path) -> np.ndarray:
    """RGB uint8 [H, W, 3] as a viewer shows it: turned as its EXIF data say, transparency dropped.

    A UserError if the file is missing, damaged or cut short: half a picture is not passed off as a whole one.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return np.array(_eight_bits(ImageOps.exif_transpose(picture)).convert("RGB"))
    except Exception as error:  # damaged headers make Pillow raise errors of many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable picture ({reason})") from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Levels 0 to 255: Pillow's own conversion of 16-bit grey would cut them off at 255 instead of scaling them."""
    if picture.mode in ("I", "F"):
        raise ValueError("32 bits a level, expected 8 or 16")
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
    return picture


def _is_picture(file: Path) -> bool:
    """Whether a file is meant as a picture, readable or not: what cannot be read shall be listed."""
    suffix = file.suffix.lower()
    known = Image.registered_extensions().get(suffix, "")  # to Pillow, which also registers films and documents
    kinds = (Image.MIME.get(known, ""), mimetypes.guess_type(file.name)[0] or "")
    picture = suffix in PICTURES | UNREADABLE or any(kind.startswith("image/") for kind in kinds)
    return picture and not file.is_dir()


def _open_video(path: Path) -> Source:
    capture = cv2.VideoCapture(opencv_name(path))
    try:
        if not capture.isOpened():
            return Source(path, "video", [path], None)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    return Source(path, "video", [path], count if count > 0 else None, fps if 0 < fps < 1000 else 25.0)


def _list(suffixes: frozenset[str]) -> str:
    return " ".join(sorted(suffixes))
