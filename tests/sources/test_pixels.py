"""Odd and broken picture files: each has one defined treatment."""

import io
import os
import socket
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from posedistill.sources import pixels
from posedistill.sources.pixels import BrokenImage


@pytest.fixture
def image(picture):
    return picture(3, 60, 40)


def encoded(image, format, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


def test_greyscale_becomes_rgb(image):
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = pixels.decode(encoded(grey, "PNG"), 60, 40)
    assert (found == grey[..., None]).all()


def test_cmyk_jpeg_becomes_rgb(image):
    found = pixels.decode(encoded(Image.fromarray(image).convert("CMYK"), "JPEG", quality=95, subsampling=0), 60, 40)
    assert np.abs(found.astype(int) - image).mean() < 8


def test_16_bit_png_keeps_the_high_byte(image):
    ok, buffer = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257)
    assert ok
    assert np.abs(pixels.decode(buffer.tobytes(), 60, 40).astype(int) - image).max() <= 1


def test_transparency_is_dropped(image):
    alpha = np.dstack([image, np.full(image.shape[:2], 7, np.uint8)])
    assert (pixels.decode(encoded(alpha, "PNG"), 60, 40) == image).all()


def test_palette_png(image):
    quantised = Image.fromarray(image).quantize(16)
    assert (pixels.decode(encoded(quantised, "PNG"), 60, 40) == np.asarray(quantised.convert("RGB"))).all()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_exif_orientation_is_applied_where_the_annotation_is_upright(image):
    content = encoded(image, "JPEG", quality=95, subsampling=0, exif=exif(6))
    assert pixels.decode(content, 40, 60).shape == (60, 40, 3)  # turned by 90 degrees
    stored = pixels.decode(content, 60, 40)  # annotated on the unturned picture
    assert np.abs(stored.astype(int) - image).mean() < 6
    upright = pixels.decode(content, 40, 60)
    assert np.abs(upright.astype(int) - np.rot90(image, -1)).mean() < 6


def test_wrong_size(image):
    with pytest.raises(BrokenImage, match="size differs"):
        pixels.decode(encoded(image, "PNG"), 61, 40)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_cut_off_jpeg(tmp_path, picture, options, share):
    content = encoded(picture(0), "JPEG", quality=95, **options)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert pixels.read_file(path) == content
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BrokenImage, match="cut off"):
        pixels.read_file(path)


def test_cut_off_jpeg_with_a_thumbnail(picture):
    """A thumbnail's end marker inside the EXIF block is not the picture's."""
    thumbnail = encoded(picture(1, 32, 24), "JPEG")
    content = encoded(picture(0), "JPEG", quality=95)
    block = b"Exif\x00\x00" + thumbnail
    whole = content[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + content[2:]
    assert not pixels.is_cut_off(whole)
    assert pixels.is_cut_off(whole[:-100])


def test_cut_off_png(image):
    content = encoded(image, "PNG")
    assert not pixels.is_cut_off(content) and pixels.is_cut_off(content[:-20])


@pytest.mark.parametrize(("content", "reason"), [(None, "missing"), (b"", "empty"), (b"not a picture", "unreadable")])
def test_unusable_files(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BrokenImage, match=reason):
        pixels.decode(pixels.read_file(path))


@pytest.mark.parametrize(
    ("mode", "format", "expected"),
    [
        ("RGB", "JPEG", []),
        ("RGB", "PNG", []),
        ("L", "JPEG", [pixels.GREY]),
        ("CMYK", "JPEG", [pixels.CMYK]),
        ("P", "PNG", [pixels.PALETTE]),
        ("RGBA", "PNG", [pixels.TRANSPARENT]),
        ("I;16", "PNG", [pixels.DEEP, pixels.GREY]),
    ],
)
def test_oddities(image, mode, format, expected):
    source = Image.fromarray(np.zeros((40, 60), np.uint16)) if mode == "I;16" else Image.fromarray(image).convert(mode)
    assert pixels.oddities(encoded(source, format)) == expected


def test_16_bit_colour_tiff(tmp_path, image):
    cv2.imwrite(str(tmp_path / "deep.tif"), np.zeros((8, 8, 3), np.uint16))
    cv2.imwrite(str(tmp_path / "flat.tif"), np.zeros((8, 8, 3), np.uint8))
    assert pixels.oddities((tmp_path / "deep.tif").read_bytes()) == [pixels.DEEP]
    assert pixels.oddities((tmp_path / "flat.tif").read_bytes()) == []


def test_oddities_of_turned_and_16_bit_colour_pictures(image):
    content = encoded(image, "JPEG", exif=exif(6))
    assert pixels.oddities(content, 40, 60) == [pixels.TURNED]
    assert pixels.oddities(content, 60, 40) == [pixels.NOT_TURNED]
    deep = cv2.imencode(".png", image.astype(np.uint16) * 257)[1].tobytes()
    assert pixels.oddities(deep) == [pixels.DEEP]
    assert pixels.oddities(b"no picture") == []


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_what_follows_the_end_of_a_picture_does_not_count(picture, format):
    """A motion photo carries its film behind the picture, bytes of any value."""
    content = encoded(picture(0), format)
    for seed in range(20):
        film = np.random.default_rng(seed).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
        assert not pixels.is_cut_off(content + film)
        assert pixels.is_cut_off(content[: len(content) // 2])


def zeros_png(width, height):
    """A black PNG of one bit per pixel: a few kilobytes, whatever its size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compress = zlib.compressobj(9)
    rows = b"".join(compress.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + compress.flush()
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "annotated", "reason"),
    [
        ((20_000, 20_000), (160, 120), pixels.TOO_LARGE),
        ((20_000, 20_000), (20_000, 20_000), pixels.TOO_LARGE),
        ((20_000, 20_000), (0, 0), pixels.TOO_LARGE),
        ((13_000, 13_000), (160, 120), pixels.WRONG_SIZE),
    ],
)
def test_the_size_in_the_header_is_compared_before_a_pixel_is_decoded(tmp_path, monkeypatch, size, annotated, reason):
    (tmp_path / "a.png").write_bytes(zeros_png(*size))
    monkeypatch.setattr(pixels, "decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(BrokenImage, match=reason):
        pixels.load(tmp_path / "a.png", *annotated)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_says_how_a_picture_is_decoded(tmp_path, image, format, orientation):
    path = tmp_path / "a"
    path.write_bytes(encoded(image, format, exif=exif(orientation)))
    found = pixels.header(path)
    height, width = pixels.load(path)[1].shape[:2]
    assert found.upright == (width, height) and found.stored == (60, 40) and found.orientation == orientation
    assert found.upright == ((60, 40) if orientation < 5 else (40, 60))


def test_only_plain_files_are_read(tmp_path):
    """Reading a named pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s.jpg"))
        for name, reason in (
            ("pipe", pixels.NOT_A_FILE),
            ("folder", pixels.NOT_A_FILE),
            ("link", pixels.NOT_A_FILE),
            ("s", pixels.NOT_A_FILE),
            ("loop", pixels.NOT_OPENED),
            ("none", pixels.MISSING),
        ):
            for read in (pixels.load, pixels.header):
                with pytest.raises(BrokenImage, match=reason):
                    read(tmp_path / f"{name}.jpg")


@pytest.mark.parametrize("format", ["ICO", "TGA", "PCX", "GIF", "AVIF", "JPEG2000", "PPM", "WEBP"])
def test_formats_that_opencv_or_pillow_alone_reads(tmp_path, image, format):
    options = {"sizes": [(60, 40)]} if format == "ICO" else {"lossless": True} if format == "WEBP" else {}
    (tmp_path / "a").write_bytes(encoded(image, format, **options))
    found = pixels.load(tmp_path / "a", 60, 40)[1]
    assert np.abs(found.astype(int) - image).mean() < (25 if format in ("GIF", "AVIF", "JPEG2000") else 0.1)
