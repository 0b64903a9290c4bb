"""Accuracy, agreement and the meter that keeps them on the device."""

import math

import torch

from posedistill.models.simcc import encode
from posedistill.training.distributed import Group
from posedistill.training.metrics import Meter, accuracy, agreement

SIZE = (64, 32)  # height, width


def keypoints() -> torch.Tensor:
    return torch.tensor([[[4.0, 8.0, 1.0], [20.0, 40.0, 1.0], [10.0, 10.0, 0.0]]])


def test_accuracy_counts_labelled_points_within_a_twentieth_of_the_input():
    points = keypoints()
    answer = encode(points[..., :2], SIZE)
    assert accuracy(answer, points, points[..., 2]) == 1
    near, far = points.clone(), points.clone()
    near[0, 0, 1] += 3  # of 64
    far[0, 0, 1] += 4
    assert accuracy(encode(near[..., :2], SIZE), points, points[..., 2]) == 1
    assert accuracy(encode(far[..., :2], SIZE), points, points[..., 2]) == 0.5
    unlabelled = points.clone()
    unlabelled[0, 2, 0] += 15
    assert accuracy(encode(unlabelled[..., :2], SIZE), points, points[..., 2]) == 1
    assert accuracy(answer, points, torch.zeros(1, 3)) == 0


def test_agreement_counts_all_points():
    one = encode(keypoints()[..., :2], SIZE)
    moved = keypoints()
    moved[0, 2, 0] += 15
    assert agreement(one, one) == 1
    torch.testing.assert_close(agreement(encode(moved[..., :2], SIZE), one), torch.tensor(2 / 3))


def test_meter_weights_micro_batches_by_their_share():
    meter = Meter(torch.device("cpu"))
    for step, (a, b) in enumerate([(1.0, 4.0), (2.0, 5.0)]):
        meter.add({"total": torch.tensor(a)}, 0.75)
        meter.add({"total": torch.tensor(b)}, 0.25)
        meter.end_step(step + 1)
    assert meter.means(Group()) == {"total": (1.75 + 2.75) / 2}
    copy = Meter(torch.device("cpu"))
    copy.load_state_dict(meter.state_dict())
    assert copy.means(Group()) == meter.means(Group())
    meter.clear()
    assert meter.means(Group()) == {}


def test_meter_remembers_the_first_bad_step():
    meter = Meter(torch.device("cpu"))
    for step, total in enumerate((1.0, math.inf, 2.0, math.nan), 1):
        meter.add({"total": torch.tensor(total)}, 1.0)
        meter.end_step(step)
    assert meter.first_bad_step(Group()) == 2
