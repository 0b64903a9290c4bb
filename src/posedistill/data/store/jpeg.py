"""JPEG crops of which any rectangle can be decoded alone.

A training sample looks at a part of its stored crop, and decoding is the most expensive step of the worker. The crops
are ordinary JPEG files (quality 95, 4:4:4) with restart markers every 16 pixels (which cost 2 % in size): there the
entropy coder starts afresh. The segments of a rectangle, put behind a header of the rectangle's size, are therefore a
JPEG file of their own, with exactly the pixels of the whole (libjpeg's usual integer transform works block by block
at 4:4:4).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

QUALITY = 95
BLOCK = 8  # pixels; one MCU at 4:4:4
SEGMENT = 2  # MCUs between restart markers
STEP = BLOCK * SEGMENT  # pixels
_RESTARTS = bytes(range(0xD0, 0xD8))  # second bytes of restart markers, which count modulo 8 from the start of the scan

_ENCODE = [
    *(cv2.IMWRITE_JPEG_QUALITY, QUALITY),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    *(cv2.IMWRITE_JPEG_RST_INTERVAL, SEGMENT),
]


class Crop(NamedTuple):
    """An encoded crop. lengths: bytes of each segment with its two-byte marker, uint16, row by row."""

    jpeg: bytes
    lengths: NDArray[np.uint16]
    width: int
    height: int


def encode(image: NDArray[np.uint8]) -> Crop:
    """Encode RGB pixels [H, W, 3]. The JPEG is up to 15 pixels wider than the image (its edge is repeated)."""
    height, width = image.shape[:2]
    padding = -width % STEP
    if padding:
        image = cv2.copyMakeBorder(image, 0, 0, 0, padding, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    ok, buffer = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _ENCODE)
    if not ok:
        raise RuntimeError(f"cannot encode an image of {width}x{height} pixels")
    jpeg = buffer.tobytes()
    start = _header(jpeg).scan_at
    scan = buffer.ravel()[start:]
    marker = (scan[:-1] == 0xFF) & (scan[1:] >= 0xD0) & (scan[1:] <= 0xD9)
    ends = np.flatnonzero(marker) + 2
    expected = -(-height // BLOCK) * ((width + padding) // STEP)
    if len(ends) != expected:
        raise RuntimeError(f"{len(ends)} JPEG segments instead of {expected}")
    return Crop(jpeg, np.diff(ends, prepend=0).astype(np.uint16), width, height)


class _Header(NamedTuple):
    """Positions in a JPEG: of the frame's height and width (two big-endian uint16), and of the entropy-coded data."""

    size_at: int
    scan_at: int
    interval: int  # MCUs between restart markers


def _header(jpeg: bytes | memoryview) -> _Header:
    position, size_at, interval = 2, -1, 0
    while True:
        marker, length = _MARKER.unpack_from(jpeg, position)
        if marker == 0xFFC0:  # start of a baseline frame
            size_at = position + 5
        elif marker == 0xFFDD:
            interval = _MARKER.unpack_from(jpeg, position + 2)[1]
        position += 2 + length
        if marker == 0xFFDA:  # start of scan
            return _Header(size_at, position, interval)


_MARKER = struct.Struct(">HH")


def decode(
    jpeg: bytes | memoryview,
    lengths: NDArray[np.uint16],
    width: int,
    height: int,
    box: tuple[float, float, float, float] | None = None,
) -> tuple[NDArray[np.uint8], int, int]:
    """Pixels [h, w, 3] RGB of the part of a crop that covers box (x0, y0, x1, y1), and the part's place (x, y).

    Coordinates are clipped to the crop; the part is rounded outwards to whole segments. None decodes everything.
    """
    try:
        header = _header(jpeg)
    except struct.error:
        raise ValueError(_DAMAGED) from None
    step = BLOCK * header.interval
    columns, rows = -(-width // step), -(-height // BLOCK)
    c0, r0, c1, r1 = 0, 0, columns, rows
    if box is not None:
        c0 = min(max(int(box[0]) // step, 0), columns - 1)
        r0 = min(max(int(box[1]) // BLOCK, 0), rows - 1)
        c1 = min(max(int(box[2]) // step + 1, c0 + 1), columns)
        r1 = min(max(int(box[3]) // BLOCK + 1, r0 + 1), rows)
    if (c0, r0, c1, r1) == (0, 0, columns, rows):
        data = np.frombuffer(jpeg, np.uint8)
    else:
        data = _cut(jpeg, header, lengths.reshape(rows, columns), (c0, r0, c1, r1), height)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError(_DAMAGED)
    x, y = c0 * step, r0 * BLOCK
    return image[: height - y, : width - x], x, y  # type: ignore[return-value]


_DAMAGED = "a stored crop cannot be decoded: the store is damaged"


def _cut(
    jpeg: bytes | memoryview,
    header: _Header,
    lengths: NDArray[np.uint16],
    part: tuple[int, int, int, int],
    height: int,
) -> NDArray[np.uint8]:
    """The JPEG file of segment columns c0..c1 and block rows r0..r1."""
    c0, r0, c1, r1 = part
    columns = lengths.shape[1]
    start = header.scan_at
    ends = start + np.cumsum(lengths, dtype=np.int64)  # [rows * columns]
    beginning = bytearray(jpeg[:start])
    pixel_rows = min(r1 * BLOCK, height) - r0 * BLOCK
    _MARKER.pack_into(beginning, header.size_at, pixel_rows, (c1 - c0) * BLOCK * header.interval)
    rows = np.arange(r0, r1) * columns
    firsts = (ends[rows + c0] - lengths[r0:r1, c0]).tolist()
    lasts = ends[rows + c1 - 1].tolist()
    if c1 - c0 == columns:
        pieces = [beginning, jpeg[firsts[0] : lasts[-1]]]
    else:
        pieces = [beginning, *(jpeg[first:last] for first, last in zip(firsts, lasts))]
    data = np.frombuffer(bytearray().join(pieces), np.uint8)
    places = start - 1 + np.cumsum(lengths[r0:r1, c0:c1], dtype=np.int64)
    data[places] = np.frombuffer(_RESTARTS * (len(places) // 8 + 1), np.uint8, len(places))
    data[places[-1]] = 0xD9  # end of image
    return data
