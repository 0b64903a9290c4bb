from pathlib import Path

import numpy as np
import pytest
import torch

from posedistill.data.geometry import label_sigma
from posedistill.models.simcc import decode, encode, label_weight

GOLDEN = np.load(Path(__file__).parents[1] / "golden/simcc/codec.npz")
SIZES = {"256": (256, 192), "384": (384, 288)}


def keypoints_of(name):
    visible = torch.tensor(GOLDEN[f"{name}_vis"]).double()
    return torch.cat((torch.tensor(GOLDEN[f"{name}_kp"]), visible[..., None]), dim=-1)


@pytest.mark.parametrize(("name", "input_size"), SIZES.items())
def test_labels_and_weights_are_the_published(name, input_size):
    keypoints = keypoints_of(name)
    weight = label_weight(keypoints, input_size)
    outside = (weight == 0) & (keypoints[..., 2] > 0)
    assert outside.any() and (weight > 0).any()  # both cases are among the golden values
    np.testing.assert_array_equal(weight, GOLDEN[f"{name}_w"])
    for axis, labels in zip("xy", encode(keypoints, input_size)):
        assert labels.dtype == torch.float32
        np.testing.assert_array_equal(labels, GOLDEN[f"{name}_{axis}"])


@pytest.mark.parametrize(("name", "input_size"), SIZES.items())
def test_decoding_is_the_published(name, input_size):
    found, scores = decode(torch.tensor(GOLDEN[f"{name}_pred_x"]), torch.tensor(GOLDEN[f"{name}_pred_y"]))
    assert (GOLDEN[f"{name}_dec_kp"] < 0).any()  # a keypoint without a positive logit
    np.testing.assert_array_equal(found, GOLDEN[f"{name}_dec_kp"])
    np.testing.assert_array_equal(scores, GOLDEN[f"{name}_dec_score"])


def test_sigmas():
    assert label_sigma((256, 192)) == (4.9, 5.66)
    assert label_sigma((384, 288)) == (6.0, 6.93)
    assert label_sigma((128, 96)) == (3.46, 4.0)


@pytest.mark.parametrize("input_size", [(32, 32), (128, 96), (96, 352)])
def test_what_is_encoded_is_decoded_to_half_a_pixel(input_size):
    height, width = input_size
    points = torch.rand(4, 133, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [width - 1.0, height - 1.0]
    )
    found, scores = decode(*encode(points, input_size))
    assert (found - points).abs().max() <= 0.25 + 1e-6
    torch.testing.assert_close(scores, torch.ones(4, 133))


def test_a_point_beside_the_input_still_counts_and_one_far_away_does_not():
    keypoints = torch.tensor([[[-6.0, 50.0, 1.0], [-9.0, 50.0, 1.0], [30.0, 140.0, 1.0], [30.0, 50.0, 0.0]]])
    weight = label_weight(keypoints, (128, 96))  # three sigma: 5.2 px in x, 6 px in y
    assert weight.tolist() == [[0.0, 0.0, 0.0, 0.0]]
    keypoints[0, :2, 0] = torch.tensor([-5.0, 100.0])
    assert label_weight(keypoints, (128, 96)).tolist() == [[1.0, 1.0, 0.0, 0.0]]
    x, y = encode(keypoints, (128, 96))
    assert x[0, 0].argmax() == 0 and 0 < x[0, 0].max() < 1  # the flank of a Gaussian outside
    assert not x[0, 2:].any() and not y[0, 2:].any()
