"""Every step changes one thing, by exactly what it says, measured on the rendered truth."""

import numpy as np
import pytest
from PIL import Image

from posedistill.keypoints import PARTS
from posedistill.stress.shots import AXES, HIPS, Shot, reference, still
from posedistill.stress.sitters import NOISE, PICTURE, make_sitter
from posedistill.synthetic.annotate import annotate
from posedistill.synthetic.scene import Scene


def shot(sitter, name: str, step: float) -> Shot:
    return AXES[name].shoot(sitter, step)


def brightness(one: Shot) -> float:
    return float(one.picture().astype(np.float64).mean())


@pytest.mark.parametrize("name", AXES)
def test_all_axes_share_one_picture(sitters, name):
    for sitter in sitters[:2]:
        common, neutral = reference(sitter), shot(sitter, name, AXES[name].neutral)
        assert neutral.jpeg == common.jpeg
        assert np.array_equal(neutral.keypoints, common.keypoints)
        assert (neutral.box, neutral.area) == (common.box, common.area)


def test_the_reference_shows_the_whole_person_facing_the_camera(sitters):
    for sitter in sitters:
        one = reference(sitter)
        x, y, w, h = one.box
        assert (one.keypoints[:, 2] > 0).all()
        assert x > 0 and y > 0 and x + w < PICTURE and y + h < PICTURE and max(w, h) > 0.6 * PICTURE
        assert one.keypoints[HIPS[0], 0] > one.keypoints[HIPS[1], 0]  # the person's left is on the right


def test_a_person_is_the_same_whenever_it_is_made(sitters):
    again = make_sitter(sitters[1].studio, 3, 1)
    assert reference(again).jpeg == reference(sitters[1]).jpeg != reference(sitters[0]).jpeg


@pytest.mark.parametrize("degrees", AXES["view"].steps)
def test_view_turns_the_person_about_the_vertical(sitters, degrees):
    sitter = sitters[0]
    one = shot(sitter, "view", degrees)
    assert one.value == pytest.approx(degrees, abs=1e-3)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    expected = sitter.camera().project(sitter.placed.keypoints @ turn.T)[0]
    assert np.abs(one.keypoints[:, :2] - expected).max() < 0.01  # pixels
    assert (one.keypoints[:, 2] > 0).all()  # whole at every view


def test_from_behind_the_face_is_hidden_and_left_is_left(sitters):
    for sitter in sitters:
        behind = shot(sitter, "view", 180)
        assert behind.keypoints[HIPS[0], 0] < behind.keypoints[HIPS[1], 0]
        assert (behind.keypoints[PARTS["face"], 2] == 2).mean() < 0.5


@pytest.mark.parametrize("degrees", (90, 180, 240))
def test_roll_turns_the_keypoints_about_the_middle_of_the_picture(sitters, degrees):
    sitter = sitters[0]
    one, common = shot(sitter, "roll", degrees), reference(sitter)
    assert one.value == pytest.approx(degrees, abs=1e-3)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # y points down: clockwise
    expected = (common.keypoints[:, :2] - PICTURE / 2) @ turn.T + PICTURE / 2
    assert np.abs(one.keypoints[:, :2] - expected).max() < 1e-3


def test_a_quarter_turn_is_the_picture_turned(sitters):
    turned, common = (one.picture().astype(float) for one in (shot(sitters[0], "roll", 90), reference(sitters[0])))
    assert np.abs(turned - np.rot90(common, -1)).mean() < 4  # noise, JPEG
    assert np.abs(turned - np.rot90(common, 1)).mean() > 12


@pytest.mark.parametrize("index", range(4))
def test_cut_takes_its_share_and_leaves_the_rest_as_it_was(sitters, index):
    sitter, common = sitters[index], reference(sitters[index])
    for share in AXES["cut"].steps[1::3]:
        one = shot(sitter, "cut", share)
        assert one.value == pytest.approx(share, abs=0.012)  # whole rows of pixels
        height, width = one.picture().shape[:2]
        assert (height == PICTURE) == (index in (1, 3)) and (width == PICTURE) == (index in (0, 2))
        left, top = (PICTURE - width if index == 3 else 0, PICTURE - height if index == 2 else 0)
        inside = one.keypoints[:, 2] > 0
        assert np.allclose(one.keypoints[inside, :2] + [left, top], common.keypoints[inside, :2])
        assert np.array_equal(one.keypoints[inside, 2], common.keypoints[inside, 2])
        gone = common.keypoints[~inside, :2] - [left, top]
        assert ((gone < 0) | (gone >= [width, height])).any(axis=1).all()
        kept = one.picture().astype(float) - common.picture()[top : top + height, left : left + width]
        assert np.abs(kept).mean() < 3  # JPEG alone
        x, y, w, h = one.box
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        assert one.area == common.area


def test_occlusion_hides_its_share_and_its_points(sitters):
    for sitter in sitters[:2]:
        common, hidden = reference(sitter), []
        for share in (0.2, 0.5, 0.8):
            one = shot(sitter, "occluded", share)
            assert one.value == pytest.approx(share, abs=0.02)
            assert np.array_equal(one.keypoints[:, :2], common.keypoints[:, :2])
            assert (one.keypoints[:, 2] <= common.keypoints[:, 2]).all() and (one.keypoints[:, 2] >= 1).all()
            hidden.append((one.keypoints[:, 2] == 1).mean())
        assert hidden[0] <= hidden[1] <= hidden[2] and hidden[2] > 0.4


def test_visibility_is_that_of_training_labels(sitters):
    """The annotation of such a picture as training data holds the same flags."""
    sitter = sitters[0]
    one = shot(sitter, "occluded", 0.3)
    scene = Scene(one.picture(), "full", [sitter.seen.__class__(one.keypoints, sitter.seen.mask, 5000, one.box, "", 0)])
    (entry,) = annotate(scene, 0)
    assert entry["keypoints"][2::3] == one.keypoints[PARTS["body"], 2].astype(int).tolist()


def test_size_scales_everything(sitters):
    for zoom in (0.1, 0.45):
        one, common = shot(sitters[0], "size", zoom), reference(sitters[0])
        expected = (common.keypoints[:, :2] - PICTURE / 2) * zoom + PICTURE / 2
        assert np.abs(one.keypoints[:, :2] - expected).max() < 1e-4
        assert one.value == pytest.approx(zoom * max(common.box[2:]), abs=1.5)
        assert one.area == pytest.approx(zoom**2 * common.area)


def test_hand_is_zoomed_in_its_place(sitters):
    for sitter in sitters:
        common, widths = reference(sitter), []
        for zoom in (0.35, 1, 3):
            one = shot(sitter, "hand", zoom)
            widths.append(one.value / zoom)
            inside = max(
                (one.keypoints[PARTS[part]] for part in ("righthand", "lefthand")), key=lambda k: (k[:, 2] > 0).sum()
            )
            assert (inside[:, 2] > 0).all()
            assert one.area == pytest.approx(zoom**2 * common.area)
        assert widths == pytest.approx([widths[0]] * 3, abs=1e-3)


def test_blur_spreads_an_edge_by_its_sigma(sitters):
    step = np.zeros((64, 64, 3))
    step[:, 32:] = 1
    for sigma in (2, 4):
        profile = np.diff(sitters[0].develop(step, blur=sigma, noise=0)[32, :, 0].astype(float))
        x = np.arange(len(profile)) + 1
        middle = (profile * x).sum() / profile.sum()
        assert np.sqrt((profile * (x - middle) ** 2).sum() / profile.sum()) == pytest.approx(sigma, rel=0.03)


def test_darkness_halves_the_light_and_keeps_the_noise(sitters):
    sitter = sitters[0]
    levels = [brightness(shot(sitter, "darkness", stops)) for stops in (0, 1, 3)]
    assert levels[0] / levels[1] == pytest.approx(2, rel=0.03)
    assert levels[0] / levels[2] == pytest.approx(8, rel=0.1)
    grey = np.full((128, 128, 3), 0.5)
    spread = [sitter.develop(grey, exposure=exposure).std() for exposure in (1, 0.25)]
    assert spread[0] == pytest.approx(spread[1], rel=0.02) and spread[0] == pytest.approx(255 * NOISE, rel=0.05)


def test_jpeg_quality_is_the_files(sitters):
    import io

    tables = {}
    for quality in AXES["jpeg"].steps:
        one = shot(sitters[0], "jpeg", quality)
        with Image.open(io.BytesIO(one.jpeg)) as image:
            tables[quality] = image.quantization
        expected = io.BytesIO()
        Image.new("RGB", (8, 8)).save(expected, "JPEG", quality=int(quality), subsampling=0)
        with Image.open(expected) as image:
            assert image.quantization == tables[quality]


def test_noise_has_its_strength_and_frames_differ_in_it_alone(sitters):
    grey = np.full((128, 128, 3), 0.5)
    first, second = (sitters[0].develop(grey, noise=0.04, frame=frame).astype(float) for frame in (0, 1))
    assert (first - second).std() == pytest.approx(255 * 0.04 * np.sqrt(2), rel=0.03)
    frames = still(sitters[0], 0.04)
    assert len({one.jpeg for one in frames}) == len(frames)
    assert frames[0].jpeg == shot(sitters[0], "noise", 0.04).jpeg
    assert all(np.array_equal(one.keypoints, frames[0].keypoints) and one.box == frames[0].box for one in frames)


def test_errors_of_the_box_leave_the_picture_alone(sitters):
    angles = set()
    for sitter in sitters:
        common = reference(sitter)
        x, y, w, h = common.box
        one, scaled = shot(sitter, "shift", 0.3), shot(sitter, "scale", 1.6)
        assert one.jpeg == scaled.jpeg == common.jpeg
        assert np.array_equal(one.keypoints, common.keypoints) and np.array_equal(scaled.keypoints, common.keypoints)
        assert np.hypot((one.box[0] - x) / w, (one.box[1] - y) / h) == pytest.approx(0.3) == pytest.approx(one.value)
        assert one.box[2:] == (w, h)
        assert scaled.box[2:] == pytest.approx((1.6 * w, 1.6 * h))
        assert scaled.box[0] + scaled.box[2] / 2 == pytest.approx(x + w / 2)
        angles.add(round(np.arctan2(one.box[1] - y, one.box[0] - x), 3))
    assert len(angles) == 4


def test_a_second_person_comes_nearer_from_behind(sitters):
    for sitter in sitters[:2]:
        common, seen = reference(sitter), []
        for metres in (0.2, 0.5, 1.1):
            one = shot(sitter, "crowding", metres)
            assert one.value == pytest.approx(metres, abs=1e-4)
            assert np.array_equal(one.keypoints[:, :2], common.keypoints[:, :2])
            seen.append((one.keypoints[:, 2] == 2).mean())
            assert np.abs(one.picture().astype(float) - common.picture()).mean() > 1
        assert min(seen) > 0.8 * (common.keypoints[:, 2] == 2).mean()  # little of the first one is hidden
        assert np.isinf(shot(sitter, "crowding", np.inf).value)
