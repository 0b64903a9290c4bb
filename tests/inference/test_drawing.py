"""Drawings: the right colours at the right places, nothing for points that are not seen."""

import numpy as np
import pytest

from posedistill.inference.drawing import draw_openpose, draw_skeletons, visible
from posedistill.keypoints import KEYPOINT_COLORS, NAMES


def person(**points):
    """Keypoints [1, 133, 3], all unseen but the named ones, which are (x, y)."""
    keypoints = np.zeros((1, 133, 3), np.float32)
    for name, (x, y) in points.items():
        keypoints[0, NAMES.index(name)] = x, y, 1
    return keypoints


def test_skeleton_colours_are_those_of_coco_wholebody():
    image = np.full((200, 200, 3), 90, np.uint8)
    drawn = draw_skeletons(image, person(left_shoulder=(150, 50), left_elbow=(150, 150), nose=(50, 20)), 0.3)
    assert drawn[50, 150].tolist() == list(KEYPOINT_COLORS[NAMES.index("left_shoulder")])
    assert drawn[100, 150].tolist() == pytest.approx([0, 255, 0], abs=16)  # a limb of the person's left side is green
    assert drawn[20, 50].tolist() == [51, 153, 255]
    assert drawn[100, 50].tolist() == [90, 90, 90]
    assert (image == 90).all()  # the picture handed in stays as it was


def test_points_below_the_threshold_are_not_drawn():
    image = np.zeros((100, 100, 3), np.uint8)
    keypoints = person(nose=(50, 50))
    keypoints[0, 0, 2] = 0.2
    assert (draw_skeletons(image, keypoints, 0.3) == 0).all()
    assert (draw_skeletons(image, keypoints, 0.1) != 0).any()


def test_openpose_body_has_a_neck_and_its_colours():
    points = person(left_shoulder=(150, 50), right_shoulder=(50, 50), right_elbow=(50, 150))
    drawn = draw_openpose((200, 200), points, 0.3)
    assert drawn[50, 100].tolist() == [255, 85, 0]  # the neck, in the middle of the shoulders
    assert drawn[50, 75].tolist() == [153, 0, 0]  # the first limb, neck to right shoulder: red at 0.6
    assert drawn[50, 125].tolist() == [153, 51, 0]  # the second, neck to left shoulder
    assert drawn[100, 50].tolist() == [153, 102, 0]  # the third, right upper arm
    assert drawn[150, 50].tolist() == [255, 255, 0]  # right elbow, point 3
    assert drawn[180, 180].tolist() == [0, 0, 0]


def test_openpose_leaves_out_a_neck_without_both_shoulders():
    drawn = draw_openpose((200, 200), person(left_shoulder=(150, 50), nose=(100, 20)), 0.3)
    assert drawn[35, 125].tolist() == [0, 0, 0]


def test_openpose_hands_and_face():
    keypoints = person(left_hand_root=(20, 100), left_thumb1=(60, 100))
    keypoints[0, 23] = 150, 150, 1
    drawn = draw_openpose((200, 200), keypoints, 0.3)
    assert drawn[100, 20].tolist() == [0, 0, 255]
    assert drawn[100, 40].tolist() == [255, 0, 0]  # first bone of the thumb, first colour of the circle
    assert drawn[150, 150].tolist() == [255, 255, 255]


@pytest.mark.parametrize("value", [1e9, -1e9, np.nan, np.inf])
def test_points_far_outside_or_undefined_do_no_harm(value):
    keypoints = person(left_shoulder=(value, 50), left_elbow=(20, 20))
    assert draw_skeletons(np.zeros((50, 50, 3), np.uint8), keypoints, 0.3).shape == (50, 50, 3)
    assert draw_openpose((50, 50), keypoints, 0.3).shape == (50, 50, 3)


def test_no_person_is_an_empty_canvas():
    assert (draw_openpose((50, 60), np.zeros((0, 133, 3)), 0.3) == 0).all()


def test_openpose_lines_grow_with_large_pictures_alone():
    def arm(side):
        person = np.zeros((133, 3))
        person[[5, 7]] = [(0.2 * side, side // 2, 1), (0.8 * side, side // 2, 1)]  # left shoulder and elbow
        return draw_openpose((side, side), person[None], 0.3)[:, side // 2].any(axis=1).sum()  # its width in the middle

    assert arm(256) == arm(512)
    assert arm(2048) == pytest.approx(4 * arm(512), rel=0.15)


def test_no_joint_lies_under_somebody_elses_limb():
    arm = person(left_shoulder=(40, 100), left_elbow=(160, 100))
    other = person(nose=(100, 100))
    for people in (np.concatenate((arm, other)), np.concatenate((other, arm))):
        drawn = draw_openpose((200, 200), people, 0.3)
        assert drawn[100, 100].tolist() == [255, 0, 0]  # the nose, over the upper arm
        assert drawn[100, 130].tolist() == [102, 153, 0]


@pytest.mark.parametrize(
    ("point", "drawn"),
    [
        ((0, 0), True),
        ((-0.4, 59.4), True),
        ((99.4, 0), True),
        ((-0.6, 30), False),
        ((50, 59.6), False),
        ((99.6, 5), False),
    ],
)
def test_only_points_whose_pixel_lies_in_the_picture_are_drawn(point, drawn):
    keypoints = person(nose=point, left_ear=(50, 30))
    seen = visible(keypoints, (60, 100, 3), 0.3)
    assert seen[0, [0, 3]].tolist() == [drawn, True] and seen.sum() == 1 + drawn


def test_what_lies_outside_leaves_no_trace_on_the_border():
    keypoints = person(left_shoulder=(-20, 30), left_elbow=(50, 30), left_wrist=(130, 30))
    for drawn in (
        draw_skeletons(np.zeros((60, 100, 3), np.uint8), keypoints, 0.3),
        draw_openpose((60, 100), keypoints, 0.3),
    ):
        assert drawn[:, 50].any() and not drawn[:, :40].any() and not drawn[:, 60:].any()
