"""The statistics of the training samples are those of the published pipeline, and labels move with pixels."""

import cv2
import numpy as np
import pytest
import torch

from posedistill.data import geometry
from posedistill.data.feed import augment as augmentation
from posedistill.data.feed import device_augment, pixel_changes
from posedistill.data.store import jpeg
from posedistill.data.store.arrow import TrainRecord
from posedistill.keypoints import FLIP_INDICES
from posedistill.params import load_params

PUBLISHED = {
    **{"box_padding": 1.25, "flip": 0.5, "half_body": 0.3, "shift": 0.16, "shift_p": 0.3, "scale": (0.6, 1.4)},
    **{"rotation": 80.0, "rotation_p": 0.6, "hsv": True, "blur_p": 0.1, "median_blur_p": 0.1, "dropout_p": 1.0},
    "dropout_size": (0.2, 0.4),
}
MARKED = (3, 60, 110)  # a left ear, a face point, a left-hand point


@pytest.fixture(scope="module")
def augment():
    return load_params().augment.replaced(PUBLISHED)


@pytest.fixture(scope="module")
def inputs():
    return load_params().input.replaced(height=256, width=192)


def record_with_markers():
    """A crop with three bright discs of different colours at three keypoints."""
    rng = np.random.default_rng(0)
    image = np.full((400, 300, 3), 40, np.uint8)
    keypoints = np.column_stack([rng.uniform(60, 240, 133), rng.uniform(60, 340, 133), np.ones(133)]).astype(np.float32)
    places = [(120, 150), (200, 180), (150, 260)]
    for color, (index, place) in enumerate(zip(MARKED, places)):
        keypoints[index, :2] = place
        tint = [0, 0, 0]
        tint[color] = 255
        cv2.circle(image, place, 9, tint, -1, cv2.LINE_AA)
    crop = jpeg.encode(image)
    box = np.array([50, 50, 200, 300], np.float32)
    return TrainRecord(*crop, keypoints, box, np.zeros(2, np.int32), np.ones(2), 1, 2, 0)


def centroid(image, channel):
    other = image.astype(int).sum(axis=2) - image[..., channel]
    weight = np.clip(image[..., channel].astype(int) - 90, 0, None) * (other < 150)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / max(weight.sum(), 1), weight.sum()


def test_markers_are_found_at_the_moved_keypoints(augment, inputs):
    record, found, flips = record_with_markers(), 0, 0
    for seed in range(80):
        sample = augmentation.sample_train(record, augment, inputs, np.random.default_rng(seed))
        flip = np.linalg.det(sample.matrix[:, :2]) < 0
        flips += flip
        for channel, index in enumerate(MARKED):
            place = int(np.flatnonzero(index == FLIP_INDICES)[0]) if flip else index
            keypoint = sample.keypoints[place]
            if not (15 < keypoint[0] < 177 and 15 < keypoint[1] < 241):
                continue
            assert keypoint[2] == 1
            seen, weight = centroid(sample.image, channel)
            assert weight > 0 and np.abs(seen - keypoint[:2]).max() < 0.5
            found += 1
    assert found > 100 and 25 < flips < 55


def test_keypoints_far_outside_lose_their_weight(augment, inputs):
    record = record_with_markers()
    outside = near = 0
    for seed in range(60):
        sample = augmentation.sample_train(record, augment, inputs, np.random.default_rng(seed))
        labelled = sample.keypoints[:, 2] > 0
        points = sample.keypoints[labelled, :2]
        assert (points > -9.5).all() and (points < [192 + 9, 256 + 9]).all()  # 3 sigma of the label
        near += ((points < -1) | (points > [192, 256])).any()
        outside += (~labelled).any()
    assert outside > 10 and near > 5


def test_a_sample_depends_on_its_generator_alone(augment, inputs):
    record = record_with_markers()
    first, second = (augmentation.sample_train(record, augment, inputs, np.random.default_rng([3, 1, 7])) for _ in "ab")
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)


def recipes(augment, count=6000, size=(256, 192)):
    rng = np.random.default_rng(0)
    return np.array([augmentation.draw_changes(augment, size, rng) for _ in range(count)])


def test_rates_and_ranges_of_the_pixel_changes(augment):
    drawn = recipes(augment)
    gains = drawn[:, pixel_changes.HSV]
    assert (np.abs(gains).max(axis=0) == [4, 29, 29]).all()  # below 5, 30, 30, cut towards zero
    changed = (gains != 0).mean(axis=0)
    assert abs(changed[1] - 0.5 * 29 / 30) < 0.03 and abs(changed[0] - 0.5 * 4 / 5) < 0.03
    for column in (pixel_changes.BLUR, pixel_changes.MEDIAN_BLUR):
        assert abs((drawn[:, column] > 0).mean() - 0.1) < 0.015
        sides, counts = np.unique(drawn[:, column], return_counts=True)
        assert sides.tolist() == [0, 3, 5, 7] and counts[1:].min() > 140
    x0, y0, x1, y1 = drawn[:, pixel_changes.DROPOUT].T
    assert ((x1 - x0) >= 38).all() and ((x1 - x0) <= 76).all() and ((y1 - y0) >= 51).all() and ((y1 - y0) <= 102).all()
    assert x0.min() == 0 and y0.min() == 0 and x1.max() == 192 and y1.max() == 256


def test_nothing_is_drawn_where_everything_is_off(augment):
    off = {"hsv": False, "blur_p": 0.0, "median_blur_p": 0.0, "dropout_p": 0.0}
    assert (recipes(augment.replaced(off), 200) == 0).all()


def test_half_body_rate_and_choice(augment):
    only = augment.replaced({"flip": 0.0, "shift_p": 0.0, "scale": (1.0, 1.0), "rotation_p": 0.0})
    record = record_with_markers()
    keypoints, box = record.keypoints.astype(np.float64), record.box
    keypoints[:11, 1] -= 30  # upper and lower body have different centres
    centers = []
    rng = np.random.default_rng(0)
    for _ in range(3000):
        view, _ = augmentation.draw_view(keypoints, box, only, (256, 192), rng)
        centers.append(view.center[1])
    centers = np.array(centers)
    whole = np.isclose(centers, 200)
    upper = np.isclose(centers, keypoints[:11, 1].mean())
    lower = np.isclose(centers, keypoints[11:23, 1].mean())
    assert (whole | upper | lower).all()
    assert abs(1 - whole.mean() - 0.3) < 0.03 and abs(upper.sum() / (upper | lower).sum() - 0.7) < 0.05


def test_a_view_beyond_the_picture_is_black(augment, inputs):
    record = record_with_markers()
    image = augmentation.view_of(record, np.array([[1.0, 0, 5000], [0, 1, 0]]), (256, 192))
    assert image.shape == (256, 192, 3) and not image.any()


def test_warps_exactly_as_opencv_does(picture):
    image, rng = picture(0, 150, 131), np.random.default_rng(0)
    for _ in range(30):
        angle, zoom = rng.uniform(-2, 2), rng.uniform(0.3, 3)
        matrix = zoom * np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
        matrix[:, 2] = [48, 64] - matrix[:, :2] @ rng.uniform(0, 150, 2)
        part = image[: rng.integers(1, 150), : rng.integers(1, 131)]
        expected = geometry.warp_image(part, matrix, (128, 96))
        np.testing.assert_array_equal(augmentation._warp(part, matrix, (128, 96)), expected)


# --- the device part ---------------------------------------------------------------------------------------------


def batch_of(picture, count=16):
    return np.stack([picture(i, 96, 128) for i in range(count)])


def test_batched_and_image_by_image_agree(picture, augment):
    """PyTorch on the device and OpenCV on the CPU: the same within a grey level or two (OpenCV's HSV has 8 bits)."""
    images = batch_of(picture)
    changes = recipes(augment, 16, (128, 96))
    changes[:6, pixel_changes.BLUR] = [3, 5, 7, 0, 3, 0]
    changes[:, pixel_changes.MEDIAN_BLUR] = 0  # is left to OpenCV
    expected = pixel_changes.apply(images, changes).astype(float)
    batched = device_augment.apply_torch(torch.from_numpy(images), torch.from_numpy(changes))
    difference = np.abs(batched.permute(0, 2, 3, 1).numpy() - expected)
    assert difference.mean() < 1 and np.quantile(difference, 0.99) < 6
    on_cpu = device_augment.to_model_input(torch.from_numpy(images), torch.from_numpy(changes))
    assert (on_cpu - device_augment.normalise(batched)).abs().mean() < 0.02


@pytest.mark.parametrize("side", [3, 5, 7])
def test_box_blur_equals_opencv(picture, side):
    image = batch_of(picture, 1)[0]
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    mean = device_augment.box_blur(x, side)[0].permute(1, 2, 0).numpy()
    assert np.abs(mean - cv2.blur(image, (side, side))).max() <= 0.51


def test_only_the_rows_that_ask_for_it_change(picture):
    images = torch.from_numpy(batch_of(picture))
    changes = torch.zeros(16, pixel_changes.CHANGES_LENGTH)
    changes[[3, 12], pixel_changes.BLUR] = torch.tensor([5.0, 7.0])
    changes[[5, 12], 1] = torch.tensor([20.0, -20.0])
    changed = (device_augment.apply_torch(images, changes) != images.permute(0, 3, 1, 2)).flatten(1).any(1)
    assert changed.nonzero().ravel().tolist() == [3, 5, 12]


def test_median_blur_happens_in_the_published_order_for_the_cpu_and_for_a_gpu(augment, inputs):
    record = record_with_markers()
    always = augment.replaced({"median_blur_p": 1.0, "blur_p": 1.0})
    plain = augment.replaced({"median_blur_p": 0.0, "blur_p": 1.0})
    for seed in range(5):
        done = augmentation.sample_train(record, always, inputs, np.random.default_rng(seed))
        side = int(done.changes[pixel_changes.MEDIAN_BLUR])
        on_cpu = pixel_changes.apply(done.image[None], done.changes[None])[0]
        done = done._replace(image=pixel_changes.apply_median(done.image, done.changes))
        raw = augmentation.sample_train(record, plain, inputs, np.random.default_rng(seed))
        assert not done.changes[: pixel_changes.DROPOUT.start].any() and raw.changes[pixel_changes.BLUR] > 0
        np.testing.assert_array_equal(done.changes[pixel_changes.DROPOUT], raw.changes[pixel_changes.DROPOUT])
        before = pixel_changes.blur(pixel_changes.jitter(raw.image, raw.changes), raw.changes)
        np.testing.assert_array_equal(done.image, cv2.medianBlur(before, side))
        np.testing.assert_array_equal(on_cpu, pixel_changes.apply(done.image[None], done.changes[None])[0])


def test_dropout_is_black_before_normalisation_and_inside_only(picture):
    images = torch.from_numpy(batch_of(picture, 2)).clamp(min=1)
    changes = torch.zeros(2, pixel_changes.CHANGES_LENGTH)
    changes[1, pixel_changes.DROPOUT] = torch.tensor([10.0, 20, 40, 60])
    for result in (
        device_augment.apply_torch(images, changes).permute(0, 2, 3, 1),
        torch.from_numpy(pixel_changes.apply(images.numpy(), changes.numpy())),
    ):
        assert (result[1, 20:60, 10:40] == 0).all() and (result[0] != 0).all()
        rest = result[1].clone()
        rest[20:60, 10:40] = 1
        assert (rest != 0).all()


def test_normalisation(picture):
    images = torch.from_numpy(batch_of(picture, 2))
    found = device_augment.to_model_input(images, None)
    assert found.shape == (2, 3, 128, 96) and found.dtype == torch.float32 and found.is_contiguous()
    mean, std = torch.tensor(device_augment.MEAN), torch.tensor(device_augment.STD)
    torch.testing.assert_close(found.permute(0, 2, 3, 1), (images.float() - mean) / std)
    torch.testing.assert_close(device_augment.normalise(images.permute(0, 3, 1, 2).float()), found)
