"""The distillation terms that DWPose does not have: values by hand, gradients, and what every term must do."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from posedistill.errors import UserError
from posedistill.keypoints import NAMES, NUM_KEYPOINTS, SKELETON
from posedistill.losses import (
    EXTRA_TERMS,
    bone_loss,
    expected_position,
    logit_loss,
    mean_teacher,
    standardised,
    standardised_logit_loss,
)
from posedistill.params import load_params, read_settings
from posedistill.pipeline.stage import checked_settings
from posedistill.training.stage1 import check_extra, stage1_losses

ROOT = Path(__file__).parents[1]
TERMS = pytest.mark.parametrize("term", [extra.loss for extra in EXTRA_TERMS.values()], ids=EXTRA_TERMS)


def pair(seed, persons=3, scale=0.3):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((persons, NUM_KEYPOINTS, 24), (persons, NUM_KEYPOINTS, 32))
    return tuple(scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def at(points, length=40):
    """Logits whose whole mass lies in one bin: positions [N, K] in pixels."""
    bins = torch.arange(length, dtype=torch.float64)
    return 100.0 * (bins == 2 * torch.as_tensor(points, dtype=torch.float64)[..., None])


def test_standardised_logits_by_hand():
    """Four bins, τ = 1/2: the teacher's z are (−1, −1, 1, 1), the student's (−1, 1, −1, 1)."""
    np.testing.assert_allclose(standardised(torch.tensor([[[3.0, 3, 7, 7]]], dtype=torch.float64)), [[[-1, -1, 1, 1]]])
    teacher, student = torch.tensor([[[0.0, 0, 2, 2]]]).double(), torch.tensor([[[5.0, 9, 5, 9]]]).double()
    high, low = np.exp(2) / (2 * np.exp(2) + 2 * np.exp(-2)), np.exp(-2) / (2 * np.exp(2) + 2 * np.exp(-2))
    divergence = low * np.log(low / high) + high * np.log(high / low)  # bins 1 and 2; in 0 and 3 both are equal
    found = standardised_logit_loss((student, student), (teacher, teacher)).item()
    assert found == pytest.approx(2 * 0.25 * divergence, rel=1e-12)


def test_only_the_shape_of_the_students_logits_counts():
    teacher = pair(0)
    stretched = tuple(3 * axis + 5 for axis in teacher)
    assert standardised_logit_loss(stretched, teacher).item() == pytest.approx(0, abs=1e-12)
    assert logit_loss(stretched, teacher).item() > 1


def test_an_expected_position_is_in_input_pixels():
    assert expected_position(at([[3.5, 12.0]])).tolist() == [[3.5, 12.0]]
    two = torch.full((1, 1, 40), -100.0).double()
    two[..., [4, 10]] = 0  # half at 2, half at 5 pixels
    assert expected_position(two).item() == pytest.approx(3.5)


def test_bones_by_hand():
    """One wrist moved by 3 pixels in x and half a pixel in y: both its bones differ by that."""
    points = torch.full((1, NUM_KEYPOINTS), 8.0)
    moved_x, moved_y = points.clone(), points.clone()
    wrist = NAMES.index("left_wrist")
    moved_x[0, wrist] += 3
    moved_y[0, wrist] -= 0.5
    bones = sum(wrist in link for link in SKELETON)
    assert bones == 1
    teacher, student = (at(points), at(points)), (at(moved_x), at(moved_y))
    expected = bones * ((3 - 0.5) + 0.5**2 / 2) / len(SKELETON)
    assert bone_loss(student, teacher).item() == pytest.approx(expected)
    weight = torch.ones(1, NUM_KEYPOINTS)
    weight[0, wrist] = 0
    assert bone_loss(student, teacher, weight).item() == 0


def test_a_person_elsewhere_has_the_same_bones():
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(2, 12, (2, NUM_KEYPOINTS), generator=generator).double()
    teacher, student = (at(points), at(points)), (at(points + 4), at(points + 6))
    assert bone_loss(student, teacher).item() == pytest.approx(0, abs=1e-12)


@TERMS
def test_gradients_are_those_of_the_values(term):
    teacher, student = pair(0, persons=1), tuple(axis.requires_grad_() for axis in pair(1, persons=1))
    generator = torch.Generator().manual_seed(2)
    direction = [torch.randn(axis.shape, generator=generator, dtype=torch.float64) for axis in student]
    gradient = torch.autograd.grad(term(student, teacher, None), student)
    slope = sum((g * d).sum() for g, d in zip(gradient, direction)).item()
    step = 1e-5
    ends = [tuple(axis.detach() + sign * step * d for axis, d in zip(student, direction)) for sign in (1, -1)]
    difference = (term(ends[0], teacher, None) - term(ends[1], teacher, None)).item() / (2 * step)
    assert slope == pytest.approx(difference, rel=1e-5)


@TERMS
def test_every_term_is_a_mean_that_teaches_the_student_alone(term):
    teacher, student = (tuple(axis.requires_grad_() for axis in pair(seed)) for seed in (0, 1))
    assert term(teacher, teacher, None).item() == pytest.approx(0, abs=1e-12)
    whole = term(student, teacher, None)
    assert whole.shape == () and whole.item() > 0
    parts = [term(*(tuple(axis[i : i + 1] for axis in one) for one in (student, teacher)), None) for i in range(3)]
    assert whole.item() == pytest.approx(sum(part.item() for part in parts) / 3)
    assert term(student, teacher, torch.ones(3, NUM_KEYPOINTS)).item() == pytest.approx(whole.item())
    assert term(student, teacher, torch.zeros(3, NUM_KEYPOINTS)).item() == 0
    whole.backward()
    assert all(axis.grad.abs().sum() > 0 for axis in student) and all(axis.grad is None for axis in teacher)


def test_several_teachers_are_the_mean_of_their_distributions():
    one, other = pair(0), pair(1)
    assert mean_teacher([one]) is one
    for mean, a, b in zip(mean_teacher([one, other]), one, other):
        expected = (torch.softmax(10 * a, -1) + torch.softmax(10 * b, -1)) / 2
        torch.testing.assert_close(torch.softmax(10 * mean, -1), expected)


def test_stage1_adds_the_terms_with_their_weight_and_the_decay():
    loss = load_params().loss
    weight = torch.ones(3, NUM_KEYPOINTS).double()
    step = (pair(1), pair(0), None, None, pair(2), weight)
    plain = stage1_losses(*step, loss=loss, epoch=1, epochs=4)
    assert list(plain) == ["label", "feature", "logit", "total"]
    found = stage1_losses(*step, loss=loss.replaced(extra={"bones": 0.5, "standardised": 2.0}), epoch=1, epochs=4)
    assert list(found) == ["label", "feature", "logit", "bones", "standardised", "total"]
    assert found["bones"].item() == pytest.approx(0.5 * 0.75 * bone_loss(pair(1), pair(0)).item())
    added = found["bones"] + found["standardised"]
    assert found["total"].item() == pytest.approx((plain["total"] + added).item())


def test_an_unknown_term_is_one_line():
    with pytest.raises(UserError, match=r"^loss.extra: found skeleton, allowed: standardised, bones$"):
        check_extra({"bones": 1.0, "skeleton": 1.0})


def test_an_unknown_term_fails_before_the_first_stage(tmp_path, monkeypatch):
    settings = read_settings(ROOT / "params.yaml")
    for section in ("teacher", "student"):
        settings[section] |= {"backbone": None, "init": None} if section == "teacher" else {"backbone": None}
    settings["loss"]["extra"] = {"skeleton": 1.0}
    (tmp_path / "params.yaml").write_text(json.dumps(settings))
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^loss.extra: found skeleton"):
        checked_settings("prepare")
