from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, kl_div, log_softmax, softmax

from posedistill.losses import decay, feature_loss, label_loss, logit_loss
from posedistill.models.simcc import encode, label_weight

GOLDEN = np.load(Path(__file__).parent / "golden/losses/losses.npz")
PERSONS, KEYPOINTS = 3, 133
SOME = GOLDEN["keypoints"]  # the keypoints that the cut-down golden values keep


def golden(name):
    return torch.tensor(GOLDEN[name])


def spread(name):
    """A golden pair [N, some, L] among all 133 keypoints, the others 0."""
    pair = []
    for axis in "xy":
        values = golden(f"{name}_{axis}")
        whole = torch.zeros(PERSONS, KEYPOINTS, values.shape[-1], dtype=values.dtype)
        whole[:, SOME] = values
        pair.append(whole)
    return tuple(pair)


def student():
    return tuple(axis.requires_grad_() for axis in spread("s"))


def labels():
    points = torch.cat((golden("gt_keypoints"), golden("gt_visible").double()[..., None]), dim=-1)
    whole = torch.zeros(PERSONS, KEYPOINTS, 3, dtype=torch.float64)
    whole[:, SOME] = points
    pair = encode(whole, (256, 192))  # float32, as published
    return tuple(axis.double() for axis in pair), label_weight(whole, (256, 192))


def distance(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def check_gradients(pred, name):
    for axis, logits in zip("xy", pred):
        assert distance(logits.grad[:, SOME], golden(f"{name}_grad_{axis}")) < 1e-9


def test_label_loss_has_the_published_gradients():
    pred, (target, weight) = student(), labels()
    np.testing.assert_array_equal(weight[:, SOME], GOLDEN["weight"])
    assert 0 < weight.mean() < 1
    (label_loss(pred, target, weight) * PERSONS).backward()  # published: a sum over the batch
    check_gradients(pred, "kl")


def test_label_loss_of_all_keypoints_has_the_published_gradients():
    pred, (target, weight) = student(), labels()
    (label_loss(pred, target, torch.ones_like(weight)) * PERSONS).backward()
    check_gradients(pred, "kl_now")


def test_logit_loss_has_the_published_gradients():
    pred = student()
    logit_loss(pred, spread("t")).backward()
    check_gradients(pred, "kd1")


def test_feature_loss_is_the_published():
    maps, weight, bias = (golden(name).requires_grad_() for name in ("fea_s", "fea_align_w", "fea_align_b"))
    loss = feature_loss(conv2d(maps, weight, bias), golden("fea_t")) * GOLDEN["fea_alpha"].item()
    assert loss.item() == pytest.approx(GOLDEN["fea_loss"].item(), rel=1e-12)
    loss.backward()
    for tensor, name in ((maps, "s"), (weight, "w"), (bias, "b")):
        assert distance(tensor.grad, golden(f"fea_grad_{name}")) < 1e-9


def test_feature_loss_of_the_paper_is_a_mean_over_the_map():
    teacher = golden("fea_t")
    assert feature_loss(teacher + 2, teacher, "mean").item() == pytest.approx(4)
    ratio = feature_loss(teacher + 2, teacher) / feature_loss(teacher + 2, teacher, "mean")
    assert ratio.item() == pytest.approx(teacher[0].numel())
    # At the teacher l and 256×192, with the α of each: what the README quotes.
    assert round(7e-5 * 1024 * 8 * 6 / 5e-5) == 68813


def test_decay_is_the_published():
    found = [decay(float(epoch), int(GOLDEN["decay_max_epochs"])) for epoch in GOLDEN["decay_epoch"]]
    np.testing.assert_allclose(found, GOLDEN["decay"], rtol=1e-12)
    assert decay(0, 10) == 1 and decay(9, 10) == pytest.approx(0.1)


def random_pair(seed, persons=64, scale=1.0, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(persons, 17, bins, generator=draw, dtype=dtype) for bins in (96, 128))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_losses_equal_the_divergence_of_pytorch(dtype):
    pred, target = random_pair(0, dtype=dtype), random_pair(1, scale=2.0, dtype=dtype)
    weight = (torch.rand(64, 17, generator=torch.Generator().manual_seed(2)) > 0.5).to(dtype)
    label = logit = 0.0
    for p, t in zip(pred, target):
        rows = kl_div(log_softmax(10 * p.double(), -1), softmax(10 * t.double(), -1), reduction="none")  # [N, K, L]
        label += (rows.mean(-1) * weight).sum() / 17 / 64
        logit += rows.sum() / 17 / 64
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert label_loss(pred, target, weight).item() == pytest.approx(label.item(), rel=tolerance)
    assert logit_loss(pred, target).item() == pytest.approx(logit.item(), rel=tolerance)


def test_the_loss_of_a_batch_is_the_mean_of_its_parts():
    pred, target = random_pair(0), random_pair(1)
    weight = torch.ones(64, 17)
    for loss in (lambda part: label_loss(*part), lambda part: logit_loss(*part[:2])):
        halves = [
            loss((tuple(a[rows] for a in pred), tuple(a[rows] for a in target), weight[rows]))
            for rows in (slice(0, 32), slice(32, 64))
        ]
        assert loss((pred, target, weight)).item() == pytest.approx((sum(halves) / 2).item(), rel=1e-6)


def test_a_perfect_student_has_no_loss():
    teacher = random_pair(0, scale=3.0)
    assert logit_loss(teacher, teacher).item() == 0
    assert label_loss(teacher, teacher, torch.ones(64, 17)).item() == 0
    assert feature_loss(torch.ones(2, 3, 4, 5), torch.ones(2, 3, 4, 5)).item() == 0


def test_unlabelled_keypoints_teach_only_by_logits():
    pred, target = random_pair(0), random_pair(1)
    nobody = torch.zeros(64, 17)
    assert label_loss(pred, target, nobody).item() == 0
    assert logit_loss(pred, target, nobody).item() == 0
    assert logit_loss(pred, target).item() > 1
    assert logit_loss(pred, target, torch.ones(64, 17)).item() == pytest.approx(logit_loss(pred, target).item())


def test_no_gradient_flows_into_the_teacher():
    pred, target = random_pair(0), tuple(axis.requires_grad_() for axis in random_pair(1))
    maps, teacher = torch.ones(2, 3, 4, 5, requires_grad=True), torch.zeros(2, 3, 4, 5, requires_grad=True)
    (logit_loss(tuple(axis.requires_grad_() for axis in pred), target) + feature_loss(maps, teacher)).backward()
    assert pred[0].grad.abs().sum() > 0 and maps.grad.abs().sum() > 0
    assert target[0].grad is None and teacher.grad is None
