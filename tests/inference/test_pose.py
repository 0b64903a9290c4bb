"""Boxes to keypoints: where a crop's answer lies in the image, in batches, with flip test, from each kind of file."""

import numpy as np
import pytest
import torch

from posedistill.devices import choose_device
from posedistill.errors import UserError
from posedistill.export.onnx_file import export_onnx
from posedistill.inference.pose import Crops, PoseEstimator
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
    estimator = PoseEstimator(Brightest(), flip_test=flip_test)
    keypoints = estimator(estimator.crop(spot(100, 60), np.array([box])))
    pixel = 1.25 * max(box[2] / 96, box[3] / 64)  # image pixels per input pixel
    assert keypoints.shape == (1, 133, 3)
    assert keypoints[0, :, :2] == pytest.approx(np.tile((100, 60), (133, 1)), abs=2 * pixel)


def test_the_crop_is_the_one_of_the_evaluation():
    """Box padding 1.25, widened to the aspect ratio of the input."""
    crops = PoseEstimator(Brightest()).crop(spot(100, 60), np.array([[50, 40, 100, 80]]))
    assert crops.images.shape == (1, 64, 96, 3)
    assert crops.center.tolist() == [[100, 80]]
    assert crops.scale.tolist() == [[150, 100]]  # 80 × 1.25 high, and 96/64 of it wide


def test_boxes_are_widened_as_the_model_was_trained():
    crops = PoseEstimator(Brightest(), padding=1.5).crop(spot(100, 60), np.array([[50, 40, 100, 80]]))
    assert crops.scale.tolist() == [[180, 120]]


def test_batches_give_what_single_crops_give(random_model):
    estimator = PoseEstimator(random_model(input_size=SIZE))
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    boxes = np.array([[5, 6, 30, 40], [20, 10, 50, 60], [0, 0, 90, 80]])
    crops = estimator.crop(image, boxes)
    one_by_one = np.concatenate([estimator(estimator.crop(image, boxes[i : i + 1])) for i in range(3)])
    joined = Crops.join([estimator.crop(image, boxes[:1]), estimator.crop(image, boxes[1:])])
    for keypoints in (estimator(crops), estimator(crops, batch=2), estimator(joined)):
        assert (np.abs(keypoints - one_by_one) < 1e-3).mean() > 0.99  # a tie of two bins may fall either way


def test_no_box_is_no_person():
    estimator = PoseEstimator(Brightest())
    assert estimator(estimator.crop(spot(9, 9), np.empty((0, 4)))).shape == (0, 133, 3)


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
    with pytest.raises(UserError, match=r"models/stage2.safetensors.*make repro"):
        load_model("models/stage2.safetensors")


def test_a_gpu_that_is_not_there_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(UserError, match="no GPU"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"
