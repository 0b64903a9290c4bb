"""The card's numbers: means, paired intervals, halves, jitter."""

import numpy as np
import pytest

from posedistill.errors import UserError
from posedistill.evaluation.bootstrap import draws
from posedistill.evaluation.mean_oks import PersonOks, mean_of, mean_oks_intervals, paired_mean_oks_difference
from posedistill.keypoints import NUM_KEYPOINTS, PARTS
from posedistill.stress.card import half, model_names, summary
from posedistill.stress.judge import jitter_of, oks_of
from posedistill.stress.shots import AXES, reference

NUMBERS = np.arange(30)


def made_up(seed: int) -> np.ndarray:
    """OKS [30 persons, 1 step, 6]; some without feet, nobody with a face."""
    oks = np.random.default_rng(seed).random((30, 1, 6))
    oks[::3, :, 1] = np.nan
    oks[:, :, 2] = np.nan
    return oks


def test_means_and_intervals_are_those_of_mean_oks():
    oks, weights = made_up(0), draws(30, 1000, 5).astype(float)
    persons = PersonOks(NUMBERS, NUMBERS, oks[:, 0])
    means, intervals, found = mean_of(persons), mean_oks_intervals(persons, 1000, 5), summary(oks, weights)
    assert found.keys() == means.keys()
    assert found["face"] == {"mean": [None], "low": [None], "high": [None]}
    for part in set(means) - {"face"}:
        assert found[part]["mean"] == pytest.approx([means[part]])
        assert (found[part]["low"][0], found[part]["high"][0]) == pytest.approx(intervals[part])


def test_differences_are_paired():
    a, b, weights = made_up(0), made_up(1), draws(30, 1000, 5).astype(float)
    runs = [PersonOks(NUMBERS, NUMBERS, oks[:, 0]) for oks in (a, b)]
    expected = paired_mean_oks_difference(runs[:1], runs[1:], 1000, 5)
    found = summary(a - b, weights)
    for part in ("body", "foot", "hand", "wholebody"):
        assert [found[part][key][0] for key in ("mean", "low", "high")] == pytest.approx(expected[part])


def test_half_is_interpolated_on_both_sides_of_the_best():
    x = np.array([0.0, 1, 2, 3, 4])
    assert half(x, [0.2, 0.8, 0.6, 0.4, 0.1], False, False) == pytest.approx([1 / 3, 3])
    assert half(x, [0.8, 0.7, 0.6, 0.5, 0.45], False, False) == [None, None]
    assert half(x, [0.8, None, 0.2, 0.1, 0.1], False, False) == [None, pytest.approx(4 / 3)]
    assert half(x, [None] * 5, False, False) == [None, None]
    assert half(np.log([1, 2, 4]), [0.1, 0.3, 0.8], False, True) == [pytest.approx(2 ** (1 + 1 / 5)), None]


def test_half_of_a_cyclic_axis_goes_around():
    x = np.array([0.0, 90, 180, 270])
    assert half(x, [0.8, 0.6, 0.0, 0.2], True, False) == pytest.approx([360 - 60, 90 + 30])
    assert half(x, [0.2, 0.8, 0.6, 0.0], True, False) == pytest.approx([30, 210])
    assert half(x, [0.2, 0.6, 0.0, 0.8], True, False) == pytest.approx([(270 - 45), 330])


def test_oks_counts_every_point_inside_the_picture(sitters):
    sitter = sitters[0]  # the frame cuts from below: the feet leave first
    row = [reference(sitter), AXES["occluded"].shoot(sitter, 0.8), AXES["cut"].shoot(sitter, 0.6)]
    points = np.stack([shot.keypoints for shot in row])
    oks = oks_of(row, points)
    assert np.isnan(oks[2, 1]) and (np.delete(oks, 7 + 6, None).reshape(-1)[:12] == 1).all()
    hidden = points.copy()
    hidden[1, row[1].keypoints[:, 2] == 1, 0] += 1000  # hidden points count as well
    share = (row[1].keypoints[:, 2] == 1).mean()
    assert oks_of(row, hidden)[1, -1] == pytest.approx(1 - share)


def test_the_tolerance_is_that_of_the_reference(sitters):
    """The same error in the same picture pixels, whatever is hidden; and relative to the size where it is zoomed."""
    sitter = sitters[1]
    row = [reference(sitter), AXES["occluded"].shoot(sitter, 0.8), AXES["size"].shoot(sitter, 0.3)]
    points = np.stack([shot.keypoints for shot in row])
    points[:2, :, 0] += 5
    points[2, :, 0] += 5 * 0.3
    oks = oks_of(row, points)
    assert oks[1] == pytest.approx(oks[0]) and oks[2] == pytest.approx(oks[0]) and oks[0, 0] < 1


def test_jitter_is_the_spread_around_the_mean(sitters):
    shot = reference(sitters[0])
    points = np.tile(shot.keypoints, (2, 4, 1, 1))  # 2 strengths, 4 frames
    points[1, ::2, PARTS["body"], 0] += 3
    points[1, 1::2, PARTS["body"], 0] -= 3
    found = jitter_of(points, shot)
    size = max(shot.box[2:])
    assert (found[0] == 0).all()
    assert found[1, 0] == pytest.approx(3 / size) and found[1, 2] == 0
    assert found[1, -1] == pytest.approx(3 * np.sqrt(17 / NUM_KEYPOINTS) / size)


def test_models_of_one_name_are_told_apart(tmp_path):
    paths = [tmp_path / "a" / "m.onnx", tmp_path / "b" / "m.onnx", tmp_path / "n.pth"]
    assert model_names(paths) == ["a/m.onnx", "b/m.onnx", "n"]
    with pytest.raises(UserError, match="give each model once"):
        model_names([paths[0], paths[0]])
