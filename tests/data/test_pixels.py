"""Odd and broken picture files: each has one defined treatment."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from posedistill.data import pixels
from posedistill.data.pixels import BrokenImage


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
