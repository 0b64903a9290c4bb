"""Person scores and OKS-NMS are the published ones."""

from pathlib import Path

import numpy as np
import pytest

from posedistill.evaluation.scoring import keep_best, oks_nms, person_scores

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "evaluation" / "metric_score.npz")


def test_person_score_is_the_published():
    assert person_scores(GOLDEN["bs"], GOLDEN["ks"]) == pytest.approx(GOLDEN["score"], abs=1e-6)


def test_a_person_without_a_confident_keypoint_scores_0():
    assert person_scores(np.array([0.9]), np.full((1, 133), 0.2)).tolist() == [0]


def test_nms_is_the_published():
    assert oks_nms(GOLDEN["kp"], GOLDEN["score"], GOLDEN["area"]).tolist() == GOLDEN["keep"].tolist()


def test_nms_within_each_image_only():
    points = np.repeat(GOLDEN["kp"][:1], 4, axis=0)
    image, scores, area = np.array([7, 5, 7, 5]), np.array([0.2, 0.3, 0.4, 0.1]), np.full(4, 1e4)
    assert keep_best(image, points, scores, area).tolist() == [1, 2]
    assert keep_best(np.arange(4), points, scores, area).tolist() == [0, 1, 2, 3]
    assert keep_best(image[:0], points[:0], scores[:0], area[:0]).tolist() == []
