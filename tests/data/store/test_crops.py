"""Stored crops: every augmentation sees in them what it would see in the whole picture."""

import cv2
import numpy as np
import pytest

from posedistill.data import geometry
from posedistill.data.feed import augment as augmentation
from posedistill.data.store import crops, jpeg
from posedistill.data.store.arrow import TrainRecord
from posedistill.errors import UserError
from posedistill.params import load_params
from posedistill.sources.person import ImageRef, Person


@pytest.fixture(scope="module")
def strongest():
    """The strongest augmentation that the stores serve."""
    augment = load_params().augment
    values = {"scale": (0.5, 1.5), "rotation": 90.0, "rotation_p": 0.8, "shift": 0.16, "shift_p": 1.0, "half_body": 0.5}
    return augment.replaced(values)


def compose(outer, inner):
    """The affine map [2, 3] that first applies `inner`, then `outer`."""
    linear = outer[:, :2] @ inner
    linear[:, 2] += outer[:, 2]
    return linear


def photograph(width, height, seed=0):
    """Like a photograph: more contrast in coarse structures than in fine ones."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for cells in (4, 8, 16, 32, 64):
        coarse = rng.standard_normal((cells, cells, 3)) * 60 / np.sqrt(cells / 4)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + 128, 0, 255).astype(np.uint8)


def person_in(width, height, box, seed=0):
    rng = np.random.default_rng(seed)
    x, y, w, h = box
    keypoints = np.column_stack([rng.uniform(x, x + w, 133), rng.uniform(y, y + h, 133), np.ones(133)])
    ref = ImageRef("", None, width, height, "")
    return Person(ref, 1, 2, np.array(box, np.float32), keypoints.astype(np.float32))


def stored(image, person, size):
    labels = person.labels(use_valid_flags=False, parts="all")
    crop = crops.plan(person, labels, image.shape[:2], size)
    encoded = jpeg.encode(crops.cut(image, crop))
    labels[:, :2] = crops.to_crop(labels[:, :2].astype(np.float64), crop)
    corner = crops.to_crop(person.box[:2].astype(np.float64), crop)
    box = np.concatenate([corner, person.box[2:] * np.array(crop.factor)])
    origin = np.array([crop.x0, crop.y0], np.int32)
    record = TrainRecord(
        encoded.jpeg,
        encoded.lengths,
        encoded.width,
        encoded.height,
        labels,
        box.astype(np.float32),
        origin,
        np.array(crop.factor),
        1,
        2,
        0,
    )
    return record, crop


def sample_from_picture(image, person, augment, size, rng):
    """The published way: the whole picture is flipped and warped."""
    labels = person.labels(use_valid_flags=False, parts="all").astype(np.float64)
    view, keypoints = augmentation.draw_view(labels, person.box, augment, size, rng)
    matrix = geometry.warp_matrix(view.center, view.scale, view.rotation, size)
    moved = geometry.transform_points(keypoints[:, :2], matrix)
    if view.flip:  # draw_view mirrors about x = 0
        image = np.ascontiguousarray(image[:, ::-1])
        shift = np.eye(2, 3)
        shift[0, 2] = -(image.shape[1] - 1)
        matrix = compose(matrix, shift)
    return matrix, geometry.warp_image(image, matrix, size), moved, view


BOXES = [(100, 40, 180, 300), (5, 3, 90, 200), (480, 300, 150, 170), (300, 200, 40, 60)]


@pytest.mark.parametrize("box", BOXES)
def test_sees_what_the_whole_picture_shows(strongest, box):
    """Mean difference at most 2 grey levels where nothing was reduced."""
    size = (256, 192)
    image = photograph(640, 480)
    person = person_in(640, 480, box)
    record, crop = stored(image, person, size)
    assert crop.factor == (1, 1)
    settings = load_params().input.replaced(height=256, width=192)
    for seed in range(12):
        sample = augmentation.sample_train(record, strongest, settings, np.random.default_rng(seed))
        _, expected, keypoints, _ = sample_from_picture(image, person, strongest, size, np.random.default_rng(seed))
        difference = np.abs(sample.image.astype(int) - expected)
        assert difference.mean() <= 2
        assert np.quantile(difference, 0.999) < 25  # no border cut away
        inside = sample.keypoints[:, 2] > 0
        np.testing.assert_allclose(sample.keypoints[inside, :2], keypoints[inside], atol=2e-3)


def test_reduced_crops_match_the_area_filtered_picture(strongest):
    """At least 35 dB where the crop was reduced."""
    size = (128, 96)
    image = photograph(1920, 1080, seed=4)
    person = person_in(1920, 1080, (600, 60, 500, 980))
    only_box = np.zeros(133, np.float32)
    only_box[23:60] = 1  # face alone: no half-body, which would need the full resolution
    person.keypoints[:, 2] = only_box
    record, crop = stored(image, person, size)
    assert crop.factor[0] < 0.5 and crop.factor[0] == pytest.approx(crop.factor[1], rel=2e-3)
    assert record.width * record.height < image.shape[0] * image.shape[1] / 4
    settings = load_params().input.replaced(height=128, width=96)
    fx, fy = crop.factor
    small = cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA)
    sx, sy = small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]
    for seed in range(8):
        sample = augmentation.sample_train(record, strongest, settings, np.random.default_rng(seed))
        matrix, _, _, view = sample_from_picture(image, person, strongest, size, np.random.default_rng(seed))
        reference = np.ascontiguousarray(small[:, ::-1]) if view.flip else small
        enlarge = np.array([[1 / sx, 0, 0.5 / sx - 0.5], [0, 1 / sy, 0.5 / sy - 0.5]])
        expected = geometry.warp_image(reference, compose(matrix, enlarge), size)
        error = np.mean((sample.image.astype(float) - expected) ** 2)
        assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 35


def test_never_enlarged_and_not_larger_than_needed():
    size = (256, 192)
    for box in [(10, 10, 4, 8), (10, 10, 20, 40), (100, 100, 400, 600)]:
        person = person_in(800, 800, box)
        person.keypoints[:, 2] = 0
        plan = crops.plan(person, person.keypoints, (800, 800), size)
        assert plan.width <= plan.x1 - plan.x0 and plan.height <= plan.y1 - plan.y0
        needed = size[0] / (max(box[3], box[2] / 0.75) * 1.25 * crops.LIMITS.scale_min)
        assert plan.factor[0] <= min(1, needed * crops.SPARE) + 0.01
    small = crops.plan(person_in(800, 800, (400, 400, 20, 40)), np.zeros((133, 3), np.float32), (800, 800), size)
    assert small.x1 - small.x0 < 150


def test_box_at_the_very_edge_of_the_picture():
    person = person_in(100, 80, (98, 0, 1, 79))
    plan = crops.plan(person, np.zeros((133, 3), np.float32), (80, 100), (128, 96))
    assert 0 <= plan.x0 < plan.x1 <= 100 and 0 <= plan.y0 < plan.y1 <= 80


@pytest.mark.parametrize(
    "values", [{"scale": (0.4, 1.0)}, {"scale": (0.6, 1.6)}, {"shift": 0.3, "shift_p": 0.1}, {"box_padding": 1.5}]
)
def test_stronger_augmentation_than_stored_is_an_error(values):
    with pytest.raises(UserError, match=f"augment.{next(iter(values))}"):
        crops.LIMITS.check(load_params().augment.replaced(values), "augment")
    crops.LIMITS.check(load_params().augment.replaced({"shift": 0.3, "shift_p": 0.0}), "augment")


def test_a_narrower_box_magnifies(tmp_path):
    augment = load_params().augment
    with pytest.raises(UserError, match=r"scale: 0\.5 with a box_padding of 1 magnifies .* allowed: from 0\.625"):
        crops.LIMITS.check(augment.replaced({"box_padding": 1.0, "scale": (0.5, 1.5)}), "augment")
    crops.LIMITS.check(augment.replaced({"box_padding": 1.0, "scale": (0.625, 1.5)}), "augment")


def test_a_crop_fits_into_a_jpeg():
    """All keypoints on one spot magnify without end; a picture may be larger than a JPEG can be."""
    person = person_in(70_000, 60, (0, 0, 69_999, 59))
    person.keypoints[:, :2] = 30
    plan = crops.plan(person, person.keypoints, (60, 70_000), (128, 96))
    assert (
        plan.width <= 65_000 and jpeg.encode(crops.cut(np.zeros((60, 70_000, 3), np.uint8), plan)).width == plan.width
    )
