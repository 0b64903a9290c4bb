"""Reading pictures: what counts as broken, and what each odd format becomes (always RGB, 8 bit, upright)."""

from __future__ import annotations

import io
import re
import stat
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

MISSING = "image missing"
NOT_A_FILE = "not a plain file"
NOT_OPENED = "image cannot be opened"
EMPTY = "image file empty"
TRUNCATED = "image cut off"
UNREADABLE = "image unreadable"
TOO_LARGE = "image larger than 178 million pixels"
WRONG_SIZE = "image size differs from the annotation"

LARGEST = 178_956_970  # pixels, Pillow's own limit: a file of a megabyte can claim billions
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow warns from half of that on


class BrokenImage(Exception):
    """A picture that cannot be used; the text is the reason, as the report counts it."""


def check_plain_file(path: str | Path) -> None:
    """BrokenImage unless `path` is a file or a link to one: reading a named pipe would wait forever."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        raise BrokenImage(MISSING) from None
    except OSError:  # a link to itself, a folder that may not be entered
        raise BrokenImage(NOT_OPENED) from None
    if not stat.S_ISREG(mode):
        raise BrokenImage(NOT_A_FILE)


def read_file(path: str | Path) -> bytes:
    """The bytes of an image file; BrokenImage if it is missing, empty or evidently cut off."""
    check_plain_file(path)
    try:
        content = Path(path).read_bytes()
    except OSError:
        raise BrokenImage(NOT_OPENED) from None
    if not content:
        raise BrokenImage(EMPTY)
    if is_cut_off(content):
        raise BrokenImage(TRUNCATED)
    return content


def is_cut_off(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end marker. OpenCV would silently fill the rest with grey, and which blocks of
    a JPEG without the marker are complete cannot be told."""
    if content[:3] == b"\xff\xd8\xff":
        return _jpeg_is_cut_off(content)
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_is_cut_off(content)
    return False


_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)  # in entropy-coded data 0xFF is followed by 0x00


def _jpeg_is_cut_off(content: bytes) -> bool:
    """Walk the segments to the end marker; what follows it (the video of a motion photo) does not count."""
    position = 2
    while match := _MARKER.search(content, position):
        kind, position = match.group(1)[0], match.end()
        if kind == 0xD9:
            return False
        if kind != 0x01 and not 0xD0 <= kind <= 0xD7:  # those have no length
            position += int.from_bytes(content[position : position + 2], "big")
    return True


def _png_is_cut_off(content: bytes) -> bool:
    """Walk the chunks to the last one, IEND."""
    position = 8
    while position + 12 <= len(content):
        if content[position + 4 : position + 8] == b"IEND":
            return False
        position += 12 + int.from_bytes(content[position : position + 4], "big")
    return True


BITS_PER_SAMPLE = 258  # a TIFF tag
ORIENTATION = 0x0112  # an EXIF tag; from 5 on, width and height are exchanged
GREY = "greyscale, repeated to RGB"
CMYK = "CMYK, converted to RGB"
DEEP = "16 bits, reduced to 8"
PALETTE = "palette, converted to RGB"
TRANSPARENT = "transparency, dropped"
TURNED = "turned upright by its EXIF orientation"
NOT_TURNED = "EXIF orientation not applied: annotated as stored"
_MODES = {"L": GREY, "1": GREY, "LA": GREY, "I": DEEP, "CMYK": CMYK, "YCCK": CMYK, "P": PALETTE, "RGBA": TRANSPARENT}


class Header(NamedTuple):
    """The header of a picture. upright, stored: (width, height) with and without its EXIF orientation.

    changes: what `decode` changes about its pixels, as the report counts it.
    """

    upright: tuple[int, int]
    stored: tuple[int, int]
    orientation: int
    changes: list[str]


def header(source: bytes | Path) -> Header:
    """The header of a picture; no pixel is decoded. BrokenImage if there is none, or if it is too large."""
    if isinstance(source, Path):
        check_plain_file(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            size, changes, tiff = image.size, _changes(image), image.format == "TIFF"
            orientation = Image.Image.getexif(image).get(ORIENTATION, 1)  # PNG's own method would decode the picture
    except Image.DecompressionBombError:
        raise BrokenImage(TOO_LARGE) from None
    except Exception:  # damaged headers make Pillow raise errors of many kinds
        raise BrokenImage(UNREADABLE) from None
    if size[0] * size[1] > LARGEST:
        raise BrokenImage(TOO_LARGE)
    orientation = orientation if orientation in range(1, 9) else 1
    other = size[::-1] if orientation >= 5 else size
    upright, stored = (size, other) if tiff else (other, size)  # Pillow has turned a TIFF already
    return Header(upright, stored, orientation, changes)


def _changes(image: Image.Image) -> list[str]:
    mode = image.mode
    deep_tiff = (
        mode == "RGB" and isinstance(image, TiffImageFile) and np.max(image.tag_v2.get(BITS_PER_SAMPLE, 8)) == 16
    )
    deep_png = image.format == "PNG" and "16B" in str(getattr(image, "tile", ""))
    if mode.startswith("I;16") or deep_tiff or deep_png:
        return [DEEP, GREY] if mode.startswith("I") else [DEEP]
    return [_MODES[mode]] if mode in _MODES else []


def oddities(content: bytes, width: int = 0, height: int = 0) -> list[str]:
    """What `decode` changes about a picture of the annotated size (0: unknown), as the report counts it."""
    try:
        found = header(content)
    except BrokenImage:
        return []
    if found.orientation == 1:
        return found.changes
    return [*found.changes, TURNED if not width or found.upright == (width, height) else NOT_TURNED]


def decode(content: bytes | memoryview, width: int = 0, height: int = 0) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] RGB of an encoded picture of the annotated size (0: unknown).

    As the published loader: OpenCV's colour reading, which turns grey, CMYK, palette and 16-bit pictures into 8-bit
    RGB, drops transparency and applies the EXIF orientation; of an animation it takes the first picture. Where only the
    unturned picture has the annotated size, it was annotated that way, and the orientation is not applied. BrokenImage
    if neither fits.
    """
    image = _decoded(content, turn=True)
    if not width or image.shape[:2] == (height, width):
        return image
    stored = _decoded(content, turn=False)
    if stored.shape[:2] == (height, width):
        return stored
    raise BrokenImage(WRONG_SIZE)


def _decoded(content: bytes | memoryview, *, turn: bool) -> NDArray[np.uint8]:
    image = None
    if bytes(content[4:12]) != b"ftypavif":  # OpenCV does not turn AVIF pictures
        flags = cv2.IMREAD_COLOR_RGB | (0 if turn else cv2.IMREAD_IGNORE_ORIENTATION)
        with suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    return _by_pillow(content, turn) if image is None else np.asarray(image, np.uint8)


def _by_pillow(content: bytes | memoryview, turn: bool) -> NDArray[np.uint8]:
    """Formats that OpenCV does not read."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode[0] in "IF":
                raise BrokenImage(UNREADABLE)  # levels of an unknown range
            return np.array((ImageOps.exif_transpose(image) if turn else image).convert("RGB"))
    except Exception:  # of many kinds, see `header`
        raise BrokenImage(UNREADABLE) from None


def load(path: str | Path, width: int = 0, height: int = 0) -> tuple[bytes, NDArray[np.uint8]]:
    """File bytes and RGB pixels [H, W, 3] of a picture, checked by its header before a pixel is decoded.

    width, height: as annotated (0: unknown). BrokenImage says why it cannot be used. The one way to read a picture, for
    `prepare` and `predict` alike.
    """
    content = read_file(path)
    found = header(content)
    if width and (width, height) not in (found.upright, found.stored):
        raise BrokenImage(WRONG_SIZE)
    return content, decode(content, width, height)
