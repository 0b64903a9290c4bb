"""The exported file in other hands: rtmlib, and a script of 30 lines with onnxruntime, find what we find."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from posedistill.export.onnx_file import export_onnx
from posedistill.inference.pose import Pose
from posedistill.models.onnx_model import OnnxModel

SCRIPT = Path(__file__).parents[2] / "examples" / "onnx_predict.py"
SIZE = (128, 96)
BOXES = np.array([[40, 30, 120, 150], [100.5, 20.25, 60, 170], [-20, 0, 240, 200]])  # x, y, width, height


@pytest.fixture(scope="module")
def model(random_model):
    return random_model("n", SIZE)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("clients") / "student.onnx"
    export_onnx(model, path)
    return path


@pytest.fixture(scope="module")
def image():
    """RGB uint8 [200, 240, 3], smooth and with other values in each channel."""
    coarse = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
    return cv2.resize(coarse, (240, 200), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def ours(model, image):
    """Keypoints [3, 133, 3] by PyTorch."""
    pose = Pose(model)
    return pose.predict(pose.crop(image, BOXES))


def mean_distance(a, b):
    return np.linalg.norm(a - b, axis=-1).mean()


@pytest.mark.parametrize("backend", ["onnxruntime", "opencv"])
def test_rtmlib_finds_the_same_keypoints(exported, image, ours, backend):
    rtmlib = pytest.importorskip("rtmlib", reason="pip install --no-deps rtmlib (its OpenCV would replace ours)")
    client = rtmlib.RTMPose(str(exported), model_input_size=SIZE[::-1], backend=backend, device="cpu")
    corners = [[x, y, x + w, y + h] for x, y, w, h in BOXES]
    keypoints, scores = client(image, bboxes=corners)
    answered = scores > 0  # rtmlib gives no position to points whose mean logit is not positive
    assert answered.mean() > 0.9
    assert mean_distance(keypoints[answered], ours[answered][:, :2]) <= 1


def test_rtmlib_needs_rgb(exported, image, ours):
    """It does not swap channels: what cv2.imread gives it would be answered wrongly."""
    rtmlib = pytest.importorskip("rtmlib", reason="pip install --no-deps rtmlib (its OpenCV would replace ours)")
    client = rtmlib.RTMPose(str(exported), model_input_size=SIZE[::-1], backend="onnxruntime", device="cpu")
    x, y, w, h = BOXES[0]
    keypoints, _ = client(np.ascontiguousarray(image[..., ::-1]), bboxes=[[x, y, x + w, y + h]])
    assert mean_distance(keypoints[0], ours[0, :, :2]) > 5


@pytest.mark.parametrize("person", range(len(BOXES)))
def test_the_script_of_the_readme_finds_the_same_keypoints(exported, image, ours, tmp_path, person):
    picture = tmp_path / "picture.png"
    Image.fromarray(image).save(picture)
    box = [str(value) for value in BOXES[person]]
    done = subprocess.run(
        [sys.executable, SCRIPT, exported, picture, *box], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    rows = np.array([line.split("\t") for line in done.stdout.splitlines()], float)
    assert rows[:, 0].tolist() == list(range(133))
    assert mean_distance(rows[:, 1:3], ours[person, :, :2]) <= 1
    assert rows[:, 3] == pytest.approx(ours[person, :, 2], abs=0.05)


def test_the_script_widens_boxes_as_the_file_says(model, image, tmp_path):
    export_onnx(model, tmp_path / "wide.onnx", padding=1.75)
    Image.fromarray(image).save(tmp_path / "picture.png")
    box = [str(value) for value in BOXES[0]]
    command = [sys.executable, SCRIPT, tmp_path / "wide.onnx", tmp_path / "picture.png", *box]
    rows = np.array([line.split("\t") for line in subprocess.check_output(command, text=True).splitlines()], float)
    pose = Pose(model, padding=1.75)
    assert mean_distance(rows[:, 1:3], pose.predict(pose.crop(image, BOXES[:1]))[0, :, :2]) <= 1


def test_the_script_is_short_enough_to_read():
    assert len(SCRIPT.read_text().splitlines()) <= 35


def test_our_own_onnx_prediction_is_the_same(exported, image, ours):
    pose = Pose(OnnxModel(exported))
    found = pose.predict(pose.crop(image, BOXES))
    assert mean_distance(found[..., :2], ours[..., :2]) <= 0.01
