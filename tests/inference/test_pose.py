"""Boxes to keypoints: where a crop's answer lies in the image, in batches, with flip test, from each kind of file."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import posedistill
from posedistill.devices import choose_device
from posedistill.errors import UserError
from posedistill.export.onnx_file import export_onnx
from posedistill.inference.pose import Crops, Pose
from posedistill.inference.weights import describe_device, load_model
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.rtmpose import build_rtmpose

SIZE = (64, 96)


class Brightest(torch.nn.Module):
    """A "model" whose keypoints are all the brightest pixel of its input: any slip in the geometry moves it."""

    input_size = SIZE
    keypoints = 133

    def forward(self, images):
        light = images.mean(1)  # [B, H, W]
        across, down = light.amax(1), light.amax(2)  # [B, W], [B, H]
        return tuple(axis.repeat_interleave(2, dim=-1)[:, None].repeat(1, 133, 1) + 10 for axis in (across, down))


def spot(x, y, height=200, width=300):
    image = np.zeros((height, width, 3), np.uint8)
    image[y - 1 : y + 2, x - 1 : x + 2] = 255
    return image


@pytest.mark.parametrize("box", [(50, 40, 100, 80), (20, 10, 250, 30), (90, -10, 30, 180), (60.5, 50.25, 60, 40)])
@pytest.mark.parametrize("flip_test", [False, True])
def test_keypoints_come_back_to_where_they_are_in_the_image(box, flip_test):
    pose = Pose(Brightest(), flip_test=flip_test)
    keypoints = pose.predict(pose.crop(spot(100, 60), np.array([box])))
    pixel = 1.25 * max(box[2] / 96, box[3] / 64)  # image pixels per input pixel
    assert keypoints.shape == (1, 133, 3)
    assert keypoints[0, :, :2] == pytest.approx(np.tile((100, 60), (133, 1)), abs=2 * pixel)


def test_the_crop_is_the_one_of_the_evaluation():
    """Box padding 1.25, widened to the aspect ratio of the input."""
    crops = Pose(Brightest()).crop(spot(100, 60), np.array([[50, 40, 100, 80]]))
    assert crops.images.shape == (1, 64, 96, 3)
    assert crops.center.tolist() == [[100, 80]]
    assert crops.scale.tolist() == [[150, 100]]  # 80 × 1.25 high, and 96/64 of it wide


def test_boxes_are_widened_as_the_model_was_trained():
    crops = Pose(Brightest(), padding=1.5).crop(spot(100, 60), np.array([[50, 40, 100, 80]]))
    assert crops.scale.tolist() == [[180, 120]]


def test_batches_give_what_single_crops_give(random_model):
    pose = Pose(random_model(input_size=SIZE))
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    boxes = np.array([[5, 6, 30, 40], [20, 10, 50, 60], [0, 0, 90, 80]])
    crops = pose.crop(image, boxes)
    one_by_one = np.concatenate([pose.predict(pose.crop(image, boxes[i : i + 1])) for i in range(3)])
    joined = Crops.join([pose.crop(image, boxes[:1]), pose.crop(image, boxes[1:])])
    for keypoints in (pose.predict(crops), pose.predict(crops, batch=2), pose.predict(joined)):
        assert (np.abs(keypoints - one_by_one) < 1e-3).mean() > 0.99  # a tie of two bins may fall either way


def test_no_box_is_no_person():
    pose = Pose(Brightest())
    assert pose.predict(pose.crop(spot(9, 9), np.empty((0, 4)))).shape == (0, 133, 3)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "onnx"])
def test_any_kind_of_file_gives_the_same_model(random_model, tmp_path, kind):
    model = random_model(input_size=SIZE)
    path = tmp_path / f"model.{kind}"
    if kind == "onnx":
        export_onnx(model, path)
    else:
        save_checkpoint(model, path, layout="own" if kind == "safetensors" else "mmpose")
    loaded = load_model(path)
    assert loaded.input_size == SIZE
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, *SIZE)).astype(np.float32))
    with torch.inference_mode():
        for ours, theirs in zip(model(images), loaded.eval()(images)):
            assert (ours - theirs).abs().max() < 1e-4
    assert "CPU" in describe_device(loaded, "cpu")


def test_weights_for_other_keypoints_are_refused(tmp_path):
    save_checkpoint(build_rtmpose("n", SIZE, keypoints=17), tmp_path / "body.safetensors")
    with pytest.raises(UserError, match=r"expected 133 keypoints .* found 17"):
        load_model(tmp_path / "body.safetensors")


def test_missing_weights_say_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"models/student.safetensors.*make repro"):
        load_model("models/student.safetensors")


def test_a_gpu_that_is_not_there_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(UserError, match="no GPU"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"


@pytest.fixture
def brightest():
    return Pose(Brightest())


def test_a_call_gives_keypoints_and_scores_of_each_box(brightest):
    result = brightest(spot(100, 60), [[50, 40, 100, 80], [20, 10, 250, 30]])
    assert (result.keypoints.shape, result.scores.shape) == ((2, 133, 2), (2, 133))
    assert result.keypoints[0] == pytest.approx(np.tile((100, 60), (133, 1)), abs=3)
    assert result.scores == pytest.approx(np.full((2, 133), result.scores[0, 0]), rel=0.2)


def test_without_boxes_the_whole_image_is_one_person(brightest):
    image = spot(100, 60)
    whole, boxed = brightest(image), brightest(image, [[0, 0, 300, 200]])
    assert np.array_equal(whole.keypoints, boxed.keypoints) and np.array_equal(whole.scores, boxed.scores)


@pytest.mark.parametrize("boxes", [[], np.empty((0, 4))])
def test_an_empty_list_of_boxes_gives_no_persons(brightest, boxes):
    result = brightest(spot(9, 9), boxes)
    assert (result.keypoints.shape, result.scores.shape) == ((0, 133, 2), (0, 133))


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("photo.jpg", "found str"),
        (None, "found NoneType"),
        (np.zeros((20, 20, 3), np.float32), r"found float32 \[20, 20, 3\]"),
        (np.zeros((20, 20), np.uint8), r"found uint8 \[20, 20\]"),
        (np.zeros((20, 20, 4), np.uint8), r"found uint8 \[20, 20, 4\]"),
        (np.zeros((0, 20, 3), np.uint8), r"found uint8 \[0, 20, 3\]"),
    ],
)
def test_what_is_no_image_is_one_clear_error(brightest, image, found):
    with pytest.raises(UserError, match=rf"^image: expected an RGB array, uint8 \[height, width, 3\], {found}"):
        brightest(image)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([50, 40, 100, 80], r"found an array of shape \[4\]"),
        ([[50, 40, 100]], r"found an array of shape \[1, 3\]"),
        ([[1, 2, 3, 4], [1, 2]], "expected N rows of x, y, width, height"),
        ("all", "expected N rows of x, y, width, height in pixels, found all"),
        (
            [[1, 2, 3, 4], [1, float("nan"), 3, 4]],
            r"boxes\[1\]: expected finite pixels and a size above 0, found .*nan",
        ),
        ([[1, 2, float("inf"), 4]], r"boxes\[0\]"),
        ([[1, 2, 1e30, 4]], r"boxes\[0\]"),
        ([[1, 2, 0, 4]], r"boxes\[0\]: .* found \[1\.0, 2\.0, 0\.0, 4\.0\]"),
    ],
)
def test_malformed_boxes_are_one_clear_error(brightest, boxes, message):
    with pytest.raises(UserError, match=message):
        brightest(spot(9, 9), boxes)


@pytest.mark.parametrize(("stated", "expected"), [(None, 1.25), ({"box_padding": 1.5}, 1.5)])
def test_load_takes_the_box_padding_from_the_file(random_model, tmp_path, stated, expected):
    save_checkpoint(random_model(input_size=SIZE), tmp_path / "model.safetensors", metadata=stated)
    pose = posedistill.load(tmp_path / "model.safetensors", device="cpu")
    assert (pose.padding, pose.input_size) == (expected, SIZE)


def test_load_gives_the_same_keypoints_from_onnx(random_model, tmp_path):
    model = random_model(input_size=SIZE)
    export_onnx(model, tmp_path / "model.onnx", padding=1.5)
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    boxes = [[5, 6, 30, 40], [20, 10, 50, 60]]
    loaded = posedistill.load(tmp_path / "model.onnx", device="cpu")(image, boxes)
    ours = Pose(model, padding=1.5)(image, boxes)
    assert (np.abs(loaded.keypoints - ours.keypoints) < 1e-3).mean() > 0.99  # a tie of two bins may fall either way
    assert loaded.scores == pytest.approx(ours.scores, abs=1e-4)


def test_load_names_the_devices(tmp_path):
    with pytest.raises(UserError, match="device: found tpu, allowed: auto, cpu, cuda"):
        posedistill.load(tmp_path / "model.onnx", device="tpu")


def test_importing_the_package_does_not_import_torch():
    program = "import sys, posedistill; assert callable(posedistill.load) and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
