"""Partial decoding gives exactly the pixels of the whole."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedistill.data.store import jpeg


def texture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 300),
    x=st.tuples(st.floats(-50, 350), st.floats(-50, 350)),
    y=st.tuples(st.floats(-50, 250), st.floats(-50, 250)),
)
def test_any_part_equals_the_whole(height, width, x, y):
    image = texture(height, width)
    crop = jpeg.encode(image)
    whole, _, _ = jpeg.decode(*crop)
    assert whole.shape == image.shape
    box = (min(x), min(y), max(x), max(y))
    part, left, top = jpeg.decode(*crop, box)
    np.testing.assert_array_equal(part, whole[top : top + part.shape[0], left : left + part.shape[1]])
    assert left <= max(box[0], 0) or left + part.shape[1] == width
    assert left + part.shape[1] >= min(box[2], width) and top + part.shape[0] >= min(box[3], height)


def test_is_an_ordinary_jpeg():
    image = texture(100, 130)
    crop = jpeg.encode(image)
    read = cv2.cvtColor(cv2.imdecode(np.frombuffer(crop.jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(read[:, :130].astype(int) - image).mean() < 2
    header = crop.jpeg[: crop.jpeg.index(b"\xff\xda")]
    frame = header.index(b"\xff\xc0")
    sampling = [header[frame + 11 + 3 * i] for i in range(3)]
    assert sampling == [0x11, 0x11, 0x11]  # 4:4:4


def test_damaged_bytes_are_reported():
    crop = jpeg.encode(texture(32, 64))
    with pytest.raises(ValueError, match="damaged"):
        jpeg.decode(b"\xff\xd8nothing", crop.lengths, crop.width, crop.height)
