"""The method on one batch: code that is the source's own, and numbers that are the training's."""

import dataclasses

import pytest
import torch

from posedistill import losses
from posedistill.keypoints import NAMES
from posedistill.models import simcc
from posedistill.reporting import style, teaching


def test_the_code_shown_is_the_code_that_runs_without_its_docstring():
    shown = str(teaching.source(losses.feature_loss, losses.decay))
    assert shown.startswith("```python\ndef feature_loss(student: Tensor, teacher: Tensor,")
    assert 'return error if reduction == "sum"' in shown and "return 1.0 - epoch / epochs" in shown
    assert "Args:" not in shown and '"""' not in shown


def test_each_keypoint_has_a_joint_beside_it():
    beside = {name: NAMES[teaching._neighbour(k)] for k, name in enumerate(NAMES)}
    assert beside["left_pinky_finger4"] == "left_wrist" and beside["face-30"] == "nose"
    assert beside["right_wrist"] == "right_elbow" and beside["left_heel"] == "left_ankle"
    assert all(name != other for name, other in beside.items())


@pytest.fixture
def worked() -> teaching.Worked:
    """Two persons with all points in a row; the left hand of the second is not labelled."""
    size = (64, 48)
    keypoints = torch.zeros(2, 133, 3)
    keypoints[..., 0], keypoints[..., 1], keypoints[..., 2] = torch.linspace(14, 34, 133), 32.0, 1.0
    teacher = simcc.encode(keypoints, size, torch.float32)
    keypoints[1, 91:112, 2] = 0
    flat = tuple(torch.zeros_like(axis) for axis in teacher)
    terms = {"label": (0.02, 64.0, 1.28, 0.5), "feature": (2e4, 7e-5, 1.4, None), "logit": (4.0, 1.0, 4.0, 0.6)}
    shapes = {"images": ((2, 3, *size), "the batch")}
    return teaching.Worked(torch.zeros(2, 3, *size), keypoints, teacher, flat, teacher, shapes, terms, True)


def test_values_times_factors_are_the_products(worked: teaching.Worked):
    frame = teaching.terms_table(worked, {"label": "B", "feature": "α", "logit": "β"}).frame
    assert frame.loc["L_fea", "factor"] == "α = 7e-05" and frame.loc["L_fea", "product after training"] == "–"
    assert frame.loc["total", "product"] == "6.680"
    assert teaching.shapes_table(worked).frame.loc["images", "shape"] == "2 × 3 × 64 × 48"


def test_the_figure_shows_a_labelled_and_an_unlabelled_point(worked: teaching.Worked):
    style.use_style()
    assert teaching._unlabelled(worked)[0] == 1 and 91 <= teaching._unlabelled(worked)[1] < 112
    figure = teaching.axes_figure(worked)
    above, below = figure.axes[1], figure.axes[3]
    assert ", labelled: label and teacher" in above.get_title(loc="left")
    assert "only the teacher" in below.get_title(loc="left")
    assert [line.get_label() for line in below.lines] == ["teacher", "student, before", "student, after"]
    assert [line.get_label() for line in above.lines][1] == "label"
    assert sum(above.lines[0].get_ydata()) == pytest.approx(100)
    alone = dataclasses.replace(worked, keypoints=worked.keypoints.clone().index_fill_(2, torch.tensor([2]), 1.0))
    assert len(teaching.axes_figure(alone).axes) == 2  # everything is labelled
