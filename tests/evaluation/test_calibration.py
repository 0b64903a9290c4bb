"""Calibrated confidence: the fit, its judgement, and what files carry of it."""

import json

import numpy as np
import pytest

from posedistill.errors import UserError
from posedistill.evaluation.calibrate import (
    BINS,
    ScoredPoints,
    cross_fitted,
    fit_calibration,
    fit_curve,
    reliabilities,
    reliability,
    scored_points,
)
from posedistill.evaluation.calibration import CALIBRATED, Calibration, Curve, read_calibration
from posedistill.evaluation.records import Predictions, read_ground_truth
from posedistill.keypoints import NUM_KEYPOINTS, PARTS, SIGMAS


def made_up(persons: int = 300, seed: int = 0, steepness: float = 4.0) -> ScoredPoints:
    """Points that are right with the probability 1 / (1 + exp(−steepness · (score − 0.5)))."""
    rng = np.random.default_rng(seed)
    scores = rng.gamma(2, 0.3, (persons, NUM_KEYPOINTS))
    right = rng.random(scores.shape) < 1 / (1 + np.exp(-steepness * (scores - 0.5)))
    return ScoredPoints(np.arange(persons), scores, right, rng.random(scores.shape) < 0.7)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit_calibration(made_up(), made_up(seed=1, steepness=8.0), "made up")


def test_confidence_is_the_share_of_right_points(calibration):
    for flip_test, steepness in ((False, 4.0), (True, 8.0)):
        unseen = made_up(2000, seed=2, steepness=steepness)
        confidence = calibration.confidence(unseen.scores, flip_test=flip_test)
        found = reliabilities(unseen, confidence)
        assert list(found) == list(CALIBRATED)
        assert max(one.error for one in found.values()) < 0.03
        assert confidence.min() >= 0 and confidence.max() <= 1


def test_confidence_never_falls_with_the_score(calibration):
    scores = np.repeat(np.linspace(-1, 5, 200)[:, None], NUM_KEYPOINTS, axis=1)
    assert (np.diff(calibration.confidence(scores, flip_test=False), axis=0) >= 0).all()


def test_confidence_of_what_is_no_number_is_0(calibration):
    scores = np.full((1, NUM_KEYPOINTS), np.nan)
    scores[0, :3] = (np.inf, -np.inf, 0.5)
    confidence = calibration.confidence(scores, flip_test=False)[0]
    curve = calibration.curves["plain"]["body"]
    assert confidence[:2].tolist() == [curve.probabilities[-1], curve.probabilities[0]]
    assert confidence[2] == curve(np.array(0.5)) and not confidence[3:].any()


def test_curve_is_isotonic_on_bin_means():
    scores = np.repeat([0.0, 1.0, 2.0, 3.0], 100)
    right = np.concatenate([np.arange(100) < n for n in (10, 60, 40, 100)])  # 1.0 and 2.0 break the order: pooled
    curve = fit_curve(scores, right)
    assert curve.scores == (0.0, 1.0, 2.0, 3.0)
    expected = (10.5 / 101, 50.5 / 101, 50.5 / 101, 100.5 / 101)
    assert curve.probabilities == pytest.approx(expected, abs=1e-4)
    assert curve(np.array([-9.0, 0.5, 9.0])) == pytest.approx(
        (expected[0], sum(expected[:2]) / 2, expected[3]), abs=1e-3
    )


def test_constant_scores_give_the_mean():
    curve = fit_curve(np.full(1000, 0.25), np.arange(1000) < 400)
    assert curve.scores == (0.25,) and curve(np.array([0.0, 1.0])) == pytest.approx(0.4, abs=0.01)


def test_parts_without_labels_have_no_confidence():
    points = made_up()
    points.labelled[:, CALIBRATED["foot"]] = False
    found = fit_calibration(points, points, "body, face and hands")
    again = Calibration.from_json(found.to_json())
    confidence = again.confidence(points.scores, flip_test=True)
    assert not confidence[:, PARTS["foot"]].any() and confidence[:, PARTS["body"]].all()
    assert list(reliabilities(points, confidence)) == ["body", "face", "hand"]


def test_too_few_points_are_refused():
    points = made_up(1)
    with pytest.raises(UserError, match=r"^few: too few labelled points"):
        fit_calibration(points, points, "few")


def test_expected_calibration_error():
    confidence = np.repeat(np.arange(BINS) / BINS, 10)
    right = np.tile(np.arange(10), BINS) < np.repeat(np.arange(BINS), 10)  # as many as said
    assert reliability(confidence, right).error == pytest.approx(0)
    assert reliability(confidence, ~right).error == pytest.approx(np.abs(1 - np.arange(BINS) / 5).mean())
    assert reliability(confidence, right).count.tolist() == [10] * BINS


def test_cross_fitting_shows_overfitting_that_the_own_curve_hides():
    points = made_up(40)
    own = fit_calibration(points, points, "").confidence(points.scores, flip_test=False)
    crossed = cross_fitted(points)
    assert not np.array_equal(own, crossed)
    changed = ScoredPoints(points.image, points.scores, points.right.copy(), points.labelled)
    changed.right[points.image % 2 == 0] = True
    assert np.array_equal(cross_fitted(changed)[points.image % 2 == 0], crossed[points.image % 2 == 0])


def test_a_point_is_right_from_an_oks_of_a_half():
    keypoints = np.zeros((1, NUM_KEYPOINTS, 3))
    keypoints[..., 2] = 2
    keypoints[0, 5, 2] = 0
    annotation = {
        **{"id": 7, "image_id": 3, "category_id": 1, "iscrowd": 0, "area": 400.0, "bbox": [0, 0, 30, 30]},
        "keypoints": keypoints.ravel().tolist(),
    }
    truth = read_ground_truth(
        {"images": [{"id": 3}], "annotations": [annotation], "categories": [{"id": 1, "name": "person"}]}
    )
    limit = np.sqrt(2 * np.log(2)) * 20 * 2 * SIGMAS  # d²/(2 s² k²) = ln 2, s² = 400, k = 2σ
    predicted = np.zeros((3, NUM_KEYPOINTS, 3))
    predicted[1, :, 0], predicted[2, :, 0], predicted[..., 2] = 0.99 * limit, 1.01 * limit, 0.5
    for row, right in ((1, True), (2, False)):
        own = np.where(np.arange(3) == row, 7, -1)  # the others are detections
        guesses = Predictions(np.zeros(3, np.int64), predicted, np.ones((3, 6)), np.ones(3), own)
        found = scored_points(truth, guesses)
        assert found.right.tolist() == [[right] * NUM_KEYPOINTS]
        assert found.labelled.sum() == NUM_KEYPOINTS - 1 and not found.labelled[0, 5]
        assert found.scores.tolist() == [[0.5] * NUM_KEYPOINTS] and found.image.tolist() == [0]


def test_json_gives_the_same_calibration(calibration):
    text = calibration.to_json()
    again = Calibration.from_json(text)
    assert again.to_json() == text and len(text) < 4000
    assert again.curves == calibration.curves and (again.persons, again.data) == (300, "made up")
    assert read_calibration({"calibration": text}, "a.onnx") == again
    assert read_calibration({}, "a.onnx") is None


def changed(calibration: Calibration, where: tuple[str, ...], value) -> str:
    content = json.loads(calibration.to_json())
    place = content
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("right",), "PCK"),
        (("score",), "mean"),
        (("persons",), 0),
        (("persons",), True),
        (("data",), 3),
        (("plain",), None),
        (("plain",), {}),
        (("flip_test",), {"ear": [[0], [0]]}),
        (("plain", "body"), [[0, 1]]),
        (("plain", "body"), [[], []]),
        (("plain", "body"), [[0, 1], [0.5]]),
        (("plain", "body"), [[1, 0], [0.5, 0.6]]),
        (("plain", "body"), [[0, 1], [0.6, 0.5]]),
        (("plain", "body"), [[0, 1], [0.5, 1.5]]),
        (("plain", "body"), [[0, "1"], [0.5, 1]]),
        (("plain", "body"), [[0, float("nan")], [0.5, 1]]),
        (("plain", "body"), [[0, 10**400], [0.5, 1]]),
        (("plain", "body"), [list(range(65)), [0.5] * 65]),
    ],
)
def test_malformed_metadata_is_one_line(calibration, where, value):
    with pytest.raises(UserError) as caught:
        read_calibration({"calibration": changed(calibration, where, value)}, "a.onnx")
    message = str(caught.value)
    assert message.startswith("a.onnx: metadata calibration: ") and where[-1] in message and "expected" in message
    assert "\n" not in message and len(message) < 500


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 10_000, "{}", "x" * 30_000, 7, None, ["{}"]])
def test_text_that_is_no_calibration_is_one_line(text):
    with pytest.raises(UserError, match=r"^b\.pth: "):
        Calibration.from_json(text, "b.pth")


def test_a_curve_is_straight_between_its_knots():
    assert Curve((0.0, 1.0), (0.2, 0.8))(np.array([-1, 0.5, 2])).tolist() == [0.2, 0.5, 0.8]
