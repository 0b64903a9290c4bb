"""What is written can be read back: every keypoint is itself again, and every frame has a record."""

import json
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from posedistill.evaluation.calibration import CALIBRATED, PASSES, Calibration, Curve
from posedistill.evaluation.pose import Pose
from posedistill.evaluation.records import read_ground_truth, read_predictions
from posedistill.inference.drawing import draw_skeletons
from posedistill.inference.openpose import openpose_frame
from posedistill.inference.outputs import Persons
from posedistill.inference.predict import STEPS, Wanted, _writers, predict_source
from posedistill.inference.sources import open_source
from posedistill.keypoints import NAMES, PARTS

# OpenPose's own documentation: BODY_25 by its names, and how they are called here.
BODY_25 = (
    *("Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip", "RKnee"),
    *("RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar"),
    *("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"),
)
WORDS = {"BigToe": "big_toe", "SmallToe": "small_toe"}


def our_name(theirs):
    side = {"R": "right_", "L": "left_"}[theirs[0]]
    return side + WORDS.get(theirs[1:], theirs[1:].lower())


class Marked:
    """A "model" of 133 keypoints that all lie at places of their own, with scores of their own."""

    input_size, keypoints = (100, 160), 133

    def __init__(self):
        self.at = np.stack((np.arange(133) + 10, 90 - np.arange(133) // 2), axis=1)  # x, y of the input
        self.scores = 0.201 + np.arange(133) / 200

    def to(self, device):
        return self

    def eval(self):
        return self

    def __call__(self, images):
        import torch

        x, y = torch.zeros(len(images), 133, 320), torch.zeros(len(images), 133, 200)
        for k, ((column, row), score) in enumerate(zip(self.at, self.scores)):
            x[:, k, 2 * column], y[:, k, 2 * row] = score, score + 0.1
        return x, y


def linear():
    """Confidence = score / 2 in every part."""
    curve = Curve((0.0, 2.0), (0.0, 1.0))
    return Calibration({name: dict.fromkeys(CALIBRATED, curve) for name in PASSES}, 1, "made up")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (160, 100), (9, 9, 9)).save(path / name)
    (path / "d.png").write_bytes(b"nothing")
    return path


def one_person(frame):
    """The whole of picture a as a box; nobody in the others."""
    return np.array([[0, 0, 160, 100, 1]] if frame.name == "a.png" else np.empty((0, 5)), np.float32)


def predict(folder, out, calibration=None, **wanted):
    wanted = Wanted(**{"threshold": 0.0, "formats": ("coco", "openpose"), "drawings": False, **wanted})
    pose = Pose(Marked(), padding=1.0, calibration=calibration)
    return pose, predict_source(open_source(folder), one_person, pose, out, wanted)


def openpose(out, name="a"):
    return json.loads((out / "openpose_json" / f"{name}_keypoints.json").read_text())


def test_every_keypoint_comes_back_from_every_writer(folder, tmp_path):
    pose, _ = predict(folder, tmp_path, linear())
    expected = np.concatenate(
        (pose.model.at, pose.model.scores[:, None]), axis=1
    )  # the box is the input, so its pixels
    called = pose(np.full((100, 160, 3), 9, np.uint8))
    np.testing.assert_allclose(called.keypoints[0], expected[:, :2], atol=1e-6)
    np.testing.assert_allclose(called.scores[0], expected[:, 2], atol=1e-6)
    np.testing.assert_allclose(called.confidence[0], expected[:, 2] / 2, atol=1e-6)

    content = json.loads((tmp_path / "keypoints.json").read_text())
    (record,) = content["annotations"]
    np.testing.assert_allclose(np.reshape(record["keypoints"], (133, 3)), expected, atol=6e-4)
    np.testing.assert_allclose(record["confidence"], expected[:, 2] / 2, atol=6e-4)

    truth = {
        "images": [{"id": 0, "file_name": "a.png", "width": 160, "height": 100}],
        "annotations": [],
        "categories": [],
    }
    read = read_predictions(tmp_path / "keypoints.json", read_ground_truth(truth))
    np.testing.assert_allclose(read.keypoints[0], expected, atol=6e-4)

    (person,) = openpose(tmp_path)["people"]
    lists = {
        part: np.reshape(person[f"{part}_keypoints_2d"], (-1, 3))
        for part in ("pose", "face", "hand_left", "hand_right")
    }
    assert {part: len(points) for part, points in lists.items()} == {
        "pose": 25,
        "face": 70,
        "hand_left": 21,
        "hand_right": 21,
    }
    back = np.full((133, 3), np.nan)
    for place, name in enumerate(BODY_25):
        if name not in ("Neck", "MidHip"):
            back[NAMES.index(name.lower() if name == "Nose" else our_name(name))] = lists["pose"][place]
    back[PARTS["face"]] = lists["face"][:68]
    back[PARTS["lefthand"]], back[PARTS["righthand"]] = lists["hand_left"], lists["hand_right"]
    np.testing.assert_allclose(back, expected * (1, 1, 0.5), atol=6e-4)


def test_openpose_points_that_coco_lacks(folder, tmp_path):
    pose, _ = predict(folder, tmp_path, linear())
    (person,) = openpose(tmp_path)["people"]
    points, face = (np.reshape(person[f"{part}_keypoints_2d"], (-1, 3)) for part in ("pose", "face"))

    def ours(*names):
        rows = [NAMES.index(name) for name in names]
        return [*pose.model.at[rows].mean(axis=0), pose.model.scores[rows].min() / 2]

    assert points[1] == pytest.approx(ours("left_shoulder", "right_shoulder"), abs=6e-4)
    assert points[8] == pytest.approx(ours("left_hip", "right_hip"), abs=6e-4)
    assert face[68] == pytest.approx(ours("right_eye"), abs=6e-4)
    assert face[69] == pytest.approx(ours("left_eye"), abs=6e-4)


def test_drawings_keep_the_order(tmp_path):
    """Each keypoint alone is drawn at its own place: in no part another's."""
    at = Marked().at
    for k in range(0, 133, 7):
        person = np.full((1, 133, 3), np.nan)
        person[0, k] = *at[k], 1
        drawn = draw_skeletons(np.zeros((100, 160, 3), np.uint8), person, 0.5)
        rows, columns = drawn.any(axis=2).nonzero()
        assert (round(columns.mean()), round(rows.mean())) == tuple(at[k])


def test_every_picture_has_a_record(folder, tmp_path):
    _, done = predict(folder, tmp_path)
    images = json.loads((tmp_path / "keypoints.json").read_text())["images"]
    assert [(one["id"], one["file_name"], one["width"], one["height"], one["status"]) for one in images] == [
        (0, "a.png", 160, 100, "ok"),
        (1, "b.png", 160, 100, "nobody"),
        (2, "c.png", 160, 100, "nobody"),
        (3, "d.png", None, None, "unreadable"),
    ]
    assert [len(openpose(tmp_path, name)["people"]) for name in "abcd"] == [1, 0, 0, 0]
    assert (done.frames, done.persons, done.empty, len(done.skipped)) == (3, 1, 2, 1)


def test_openpose_files_are_as_openpose_writes_them(folder, tmp_path):
    predict(folder, tmp_path)
    content = openpose(tmp_path)
    assert content["version"] == 1.3 and content["people"][0]["person_id"] == [-1]
    parts = ("pose", "face", "hand_left", "hand_right")
    assert set(content["people"][0]) == {"person_id", *(f"{part}_keypoints_{n}d" for part in parts for n in (2, 3))}
    assert openpose(tmp_path, "b") == {"version": 1.3, "people": []}


def test_points_below_the_threshold_are_zeros_for_openpose_alone(folder, tmp_path):
    pose, done = predict(folder, tmp_path, threshold=0.5)
    (person,) = openpose(tmp_path)["people"]
    right = np.reshape(person["hand_right_keypoints_2d"], (21, 3))
    body = np.reshape(person["pose_keypoints_2d"], (25, 3))
    assert (right[:, 2] >= 0.5).all() and not body.any()
    assert done.shown.total() == (pose.model.scores >= 0.5).sum() and done.points.total() == 133
    assert done.reached["hands"].tolist() == [(pose.model.scores[91:] >= step).sum() for step in STEPS]
    record = json.loads((tmp_path / "keypoints.json").read_text())["annotations"][0]
    assert np.count_nonzero(record["keypoints"]) == 399 and record["confidence"] is None  # not calibrated


@pytest.mark.parametrize("parts", [("body",), ("feet", "face"), ("hands",)])
def test_parts(folder, tmp_path, parts):
    wanted = {"body": ["body"], "feet": ["foot"], "face": ["face"], "hands": ["lefthand", "righthand"]}
    chosen = np.zeros(133, bool)
    for part in parts:
        for one in wanted[part]:
            chosen[PARTS[one]] = True
    _, done = predict(folder, tmp_path, linear(), parts=parts, drawings=True)
    record = json.loads((tmp_path / "keypoints.json").read_text())["annotations"][0]
    assert (np.reshape(record["keypoints"], (133, 3)).any(axis=1) == chosen).all()
    assert ((np.array(record["confidence"]) > 0) == chosen).all()
    assert done.points.total() == done.shown.total() == chosen.sum()
    (person,) = openpose(tmp_path)["people"]
    lengths = {part: len(person[f"{part}_keypoints_2d"]) for part in ("pose", "face", "hand_left", "hand_right")}
    assert lengths["pose"] == (75 if {"body", "feet"} & set(parts) else 0)
    assert lengths["face"] == (210 if "face" in parts else 0)
    assert lengths["hand_left"] == lengths["hand_right"] == (63 if "hands" in parts else 0)
    drawn = np.array(Image.open(tmp_path / "overlay" / "a.jpg")).max(axis=2) > 90
    columns = drawn.any(axis=0).nonzero()[0]
    low, high = np.flatnonzero(chosen)[[0, -1]] + 10
    assert low - 6 <= columns.min() and columns.max() <= high + 6


def test_points_outside_the_picture_are_written_as_they_are(folder, tmp_path):
    source = open_source(folder / "a.png")
    frame = next(source.frames())
    keypoints = np.full((1, 133, 2), 50.0)
    keypoints[0, :3] = (-30, 40), (500, 40), (20, 1000)
    full = np.ones((1, 133))
    persons = Persons(np.array([[0, 0, 9, 9, 1.0]]), keypoints, full, full, np.ones(1), np.ones(133, bool))
    wanted = Wanted(0.5, drawings=False, formats=("coco", "openpose"))
    with ExitStack() as stack:
        for writer in _writers(source, tmp_path, wanted, True, stack):
            writer.add(frame, persons)
    record = json.loads((tmp_path / "keypoints.json").read_text())["annotations"][0]
    assert record["keypoints"][:9] == [-30, 40, 1, 500, 40, 1, 20, 1000, 1]
    assert openpose(tmp_path)["people"][0]["pose_keypoints_2d"][:3] == [-30, 40, 1]


def test_what_rounds_to_no_confidence_is_not_found():
    people = np.full((1, 133, 3), 7.0)
    people[:, :, 2] = 0.0004
    (person,) = openpose_frame(people, np.ones(133, bool))["people"]
    assert set(person["face_keypoints_2d"]) == {0.0}
