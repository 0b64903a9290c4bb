"""Reading pictures: what counts as broken, and what each odd format becomes (always RGB, 8 bit, upright)."""

from __future__ import annotations

import io
import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from posedistill.data.person import ImageRef

MISSING = "image missing"
EMPTY = "image file empty"
TRUNCATED = "image cut off"
UNREADABLE = "image unreadable"
WRONG_SIZE = "image size differs from the annotation"


class BrokenImage(Exception):
    """A picture that cannot be used; the text is the reason, as the report counts it."""


def read_file(path: str | Path) -> bytes:
    """The bytes of an image file; BrokenImage if it is missing, empty or evidently cut off."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        raise BrokenImage(MISSING) from None
    if not content:
        raise BrokenImage(EMPTY)
    if is_cut_off(content):
        raise BrokenImage(TRUNCATED)
    return content


def is_cut_off(content: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end marker. OpenCV would fill the rest with grey without a word."""
    if content[:3] == b"\xff\xd8\xff":
        return _jpeg_is_cut_off(content)
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_is_cut_off(content)
    return False


_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)  # in entropy-coded data 0xFF is followed by 0x00


def _jpeg_is_cut_off(content: bytes) -> bool:
    """Segment by segment to the end marker; what follows it (the film of a motion photo) does not count."""
    position = 2
    while match := _MARKER.search(content, position):
        kind, position = match.group(1)[0], match.end()
        if kind == 0xD9:
            return False
        if kind != 0x01 and not 0xD0 <= kind <= 0xD7:  # those have no length
            position += int.from_bytes(content[position : position + 2], "big")
    return True


def _png_is_cut_off(content: bytes) -> bool:
    """Chunk by chunk to the last one, IEND."""
    position = 8
    while position + 12 <= len(content):
        if content[position + 4 : position + 8] == b"IEND":
            return False
        position += 12 + int.from_bytes(content[position : position + 4], "big")
    return True


BITS_A_SAMPLE = 258  # a TIFF tag
GREY = "greyscale, repeated to RGB"
CMYK = "CMYK, converted to RGB"
DEEP = "16 bits, reduced to 8"
PALETTE = "palette, converted to RGB"
TRANSPARENT = "transparency, dropped"
TURNED = "turned upright by its EXIF orientation"
NOT_TURNED = "EXIF orientation not applied: annotated as stored"
_MODES = {"L": GREY, "1": GREY, "LA": GREY, "I": DEEP, "CMYK": CMYK, "YCCK": CMYK, "P": PALETTE, "RGBA": TRANSPARENT}


def oddities(content: bytes, width: int = 0, height: int = 0) -> list[str]:
    """What `decode` changes about a picture, as the report counts it; reads the header alone."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, size, kind = image.mode, image.size, image.format
            depth = image.tag_v2.get(BITS_A_SAMPLE, 8) if isinstance(image, TiffImageFile) else 8
            orientation = image.getexif().get(0x0112, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return []
    found = []
    deep_tiff = np.max(depth) == 16 and mode == "RGB"
    if mode.startswith("I;16") or (content[:4] == b"\x89PNG" and content[24] == 16) or deep_tiff:
        found.append(DEEP)
        if mode.startswith("I"):
            found.append(GREY)
    elif mode in _MODES:
        found.append(_MODES[mode])
    if orientation in range(2, 9):
        upright = (size[1], size[0]) if orientation >= 5 and kind != "TIFF" else size  # Pillow turns TIFF itself
        found.append(TURNED if not width or upright == (width, height) else NOT_TURNED)
    return found


def decode(content: bytes | memoryview, width: int = 0, height: int = 0) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] RGB of an encoded picture of the annotated size (0: unknown).

    As the published loader: OpenCV's colour reading, which turns grey, CMYK, palette and 16-bit pictures into 8-bit
    RGB, drops transparency and applies the EXIF orientation. Where only the unturned picture has the annotated size,
    the annotation was made on that one, and the orientation is not applied. BrokenImage if neither fits.
    """
    data = np.frombuffer(content, np.uint8)
    image = _imdecode(data, cv2.IMREAD_COLOR_RGB)
    if not width or image.shape[:2] == (height, width):
        return image
    stored = _imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if stored.shape[:2] == (height, width):
        return stored
    raise BrokenImage(WRONG_SIZE)


def _imdecode(data: NDArray[np.uint8], flags: int) -> NDArray[np.uint8]:
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error:
        image = None
    if image is None:
        raise BrokenImage(UNREADABLE)
    return image  # type: ignore[return-value]


def load(ref: ImageRef) -> tuple[bytes, NDArray[np.uint8]]:
    """File bytes and RGB pixels of an image file."""
    content = read_file(ref.path)
    return content, decode(content, ref.width, ref.height)
