"""evaluate says what odd scores and labels mean."""

from dataclasses import replace

import numpy as np
import pytest

from posedistill.evaluation.advice import advice
from posedistill.evaluation.records import GroundTruth, Predictions
from posedistill.evaluation.wholebody import match_wholebody, metrics_of


@pytest.fixture
def found():
    """Twenty persons of one keypoint pattern, one an image, each found; scores differ."""
    rng = np.random.default_rng(0)
    keypoints = rng.random((20, 133, 3)) * 100 + 1
    truth = GroundTruth(
        image_ids=np.arange(20),
        image=np.arange(20),
        annotation_id=np.arange(20),
        keypoints=keypoints,
        box=np.tile([0.0, 0, 100, 100], (20, 1)),
        area=np.full(20, 1e4),
        crowd=np.zeros(20, dtype=bool),
    )
    score = np.repeat(np.linspace(0.1, 0.9, 20)[:, None], 6, axis=1)
    return truth, Predictions(np.arange(20), keypoints.copy(), score, np.full(20, 1e4), np.arange(20))


def said(truth, predictions):
    return list(advice(truth, predictions, metrics_of(match_wholebody(truth, predictions))))


def test_nothing_is_said_of_usual_files(found):
    assert said(*found) == []


def test_persons_without_labels(found):
    truth, predictions = found
    truth.keypoints[3:5, :, 2] = 0
    (line,) = said(truth, predictions)
    assert line.startswith("2 of 20 persons have no labelled keypoint: they are ignored")


def test_constant_scores(found):
    truth, predictions = found
    (line,) = said(truth, replace(predictions, score=np.ones((20, 6))))
    assert line.startswith("all 20 predictions have the score 1: AP ranks by it")


def test_scores_that_rank_the_wrong_way_round(found):
    truth, predictions = found
    many = Predictions(
        image=np.repeat(np.arange(20), 4),
        keypoints=np.repeat(predictions.keypoints, 4, axis=0),
        score=np.repeat(predictions.score, 4, axis=0),
        area=np.repeat(predictions.area, 4),
        annotation_id=np.full(80, -1),
    )
    wrong = np.arange(80) % 4 > 0
    many.keypoints[wrong, :, :2] += 500
    many.score[wrong] += 1
    (line,) = said(truth, many)
    assert line.startswith("whole body: AP") and "lies far below AR 100.0" in line
    assert "60 more predictions than labelled persons" in line
