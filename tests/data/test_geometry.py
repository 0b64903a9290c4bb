"""Boxes, warps and flips against the published implementation."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedistill.data import geometry
from posedistill.data.feed.augment import draw_box_jitter

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
SIZES = {"s256": (256, 192), "s384": (384, 288)}


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "transforms.npz"))


def relative(found, expected):
    return np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", SIZES)
def test_center_and_scale(golden, name):
    boxes = golden["boxes"]
    center, scale = geometry.box_to_center_scale(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1))
    assert relative(center, golden[f"{name}_center"]) < 1e-6
    assert relative(scale, golden[f"{name}_scale_padded"]) < 1e-6
    assert relative(geometry.fix_aspect(scale, SIZES[name]), golden[f"{name}_scale_fixed"]) < 1e-6


@pytest.mark.parametrize("name", SIZES)
def test_warp_matrix_and_the_way_back(golden, name):
    size = SIZES[name]
    for i, rotation in enumerate(golden["rots"]):
        center, scale = golden[f"{name}_center"][i], golden[f"{name}_scale_fixed"][i]
        matrix = geometry.warp_matrix(center, scale, rotation, size)
        assert relative(matrix, golden[f"{name}_warp"][i]) < 1e-9
        assert relative(geometry.transform_points(golden["kps"][i], matrix), golden[f"{name}_kp"][i]) < 1e-7
        back = geometry.input_to_image(golden[f"{name}_back_in"][i], center, scale, size)
        assert relative(back, golden[f"{name}_back_out"][i]) < 1e-9


def test_warped_pixels(golden):
    for row, expected in zip(golden["s256_img_rows"], golden["s256_img"]):
        found = geometry.warp_image(golden["img"], golden["s256_warp"][row], (256, 192))
        difference = np.abs(found.astype(int) - expected)
        assert difference.max() <= 3 and difference.mean() < 0.1  # other OpenCV release: other rounding


def test_half_body_boxes(golden):
    for name, ids in (("half_upper", geometry.UPPER_BODY), ("half_lower", geometry.LOWER_BODY)):
        center, scale = geometry.half_body_box(golden["kps"][0], ids)
        assert relative(center, golden[f"{name}_c"]) < 1e-9
        assert relative(scale, golden[f"{name}_s"]) < 1e-9


def test_flip(golden):
    assert relative(geometry.flip_points(golden["kps"][0], 640), golden["flip_kp"][0]) < 1e-9


@pytest.mark.parametrize(("name", "size"), [("256", (256, 192)), ("384", (384, 288))])
def test_label_weight_outside_the_input(name, size):
    codec = np.load(GOLDEN / "codec_weights.npz")
    weight = (codec[f"{name}_vis"] > 0) & geometry.in_frame(codec[f"{name}_kp"], size)
    np.testing.assert_array_equal(weight, codec[f"{name}_w"] > 0)
    assert 0 < weight.mean() < 1


def test_half_body_choice():
    visible = np.zeros(133)
    visible[[0, 1, 2, 5, 6]] = 1
    assert geometry.half_body_choices(visible) is None  # fewer than 9 labelled
    visible[23:40] = 1  # the face counts for the total, never for a half
    choices = geometry.half_body_choices(visible)
    assert choices.choose(False) == choices.choose(True) == (0, 1, 2, 5, 6)
    visible[[11, 12, 13]] = 1
    choices = geometry.half_body_choices(visible)
    assert choices.choose(False) == (11, 12, 13) and choices.choose(True) == (0, 1, 2, 5, 6)
    visible[[0, 1, 2, 5]] = 0
    assert geometry.half_body_choices(visible).choose(True) == (11, 12, 13)


def test_box_jitter_follows_a_truncated_normal():
    rng = np.random.default_rng(0)
    ranges = SimpleNamespace(shift=0.16, shift_p=0.3, scale=(0.6, 1.4), rotation=80.0, rotation_p=0.6)
    shifted, factor, turned = map(np.array, zip(*(draw_box_jitter(ranges, rng) for _ in range(4000))))
    assert 0.6 <= factor.min() < 0.62 and 1.38 < factor.max() <= 1.4
    assert abs(factor.mean() - 1) < 0.01 and abs(factor.std() / 0.4 - 0.5396) < 0.02  # std of the normal cut at ±1
    assert abs((turned != 0).mean() - 0.6) < 0.03 and np.abs(turned).max() <= 80
    assert abs((shifted != 0).any(axis=1).mean() - 0.3) < 0.03 and np.abs(shifted).max() <= 0.16
    assert ((shifted[:, 0] != 0) == (shifted[:, 1] != 0)).all()


coordinate = st.floats(-1000, 1000)
length = st.floats(1, 1000)


@settings(max_examples=60, deadline=None)
@given(x=coordinate, y=coordinate, w=length, h=length, rotation=st.floats(-90, 90))
def test_crop_keeps_the_box_inside(x, y, w, h, rotation):
    size = (256, 192)
    center, scale = geometry.box_to_center_scale(np.array([x, y, w, h], np.float64))
    scale = geometry.fix_aspect(scale, size)
    assert abs(scale[0] / scale[1] - 0.75) < 1e-6
    matrix = geometry.warp_matrix(center, scale, 0.0, size)
    corners = np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]])
    moved = geometry.transform_points(corners, matrix)
    assert (moved > -0.5).all() and (moved < np.array([192.5, 256.5])).all()
    back = geometry.input_to_image(moved, center, scale, size)
    assert np.abs(back - corners).max() < 1e-3 * max(1000, w, h)
    turned = geometry.warp_matrix(center, scale, rotation, size)
    middle = geometry.transform_points(center[None], turned)[0]
    assert np.abs(middle - [96, 128]).max() < 0.05
