"""Tables of where a model loses add up and name the right persons."""

import numpy as np
import pytest
from test_mean_oks import own_box_case

from posedistill.analysis import weaknesses as tables
from posedistill.evaluation.mean_oks import mean_oks
from posedistill.evaluation.wholebody import match_wholebody
from posedistill.keypoints import NAMES


@pytest.fixture(scope="module")
def case():
    truth, predictions = own_box_case(2)
    return truth, predictions, match_wholebody(truth, predictions)


def test_lost_oks_adds_up_to_what_is_missing(case):
    truth, predictions, matched = case
    table = tables.lost_oks_table(tables.pair_persons(matched))
    assert table["lost"].sum() == pytest.approx(1 - mean_oks(truth, predictions)["wholebody"])
    assert table["share"].sum() == pytest.approx(1)


def test_keypoint_errors(case):
    truth, predictions, matched = case
    nose, moved = NAMES.index("nose"), 40.0
    for one in predictions:
        one["keypoints"][0] += moved
    shifted = tables.pair_persons(match_wholebody(truth, predictions))
    for one in predictions:
        one["keypoints"][0] -= moved
    before, after = tables.keypoint_table(tables.pair_persons(matched)), tables.keypoint_table(shifted)
    assert list(before["keypoint"]) == list(NAMES)
    assert after["error"][nose] > before["error"][nose]
    assert after["PCK@0.05"][nose] < before["PCK@0.05"][nose]
    assert after["error"][nose + 1 :].equals(before["error"][nose + 1 :])


def test_worst_persons_come_first(case):
    _, predictions, matched = case
    paired = tables.pair_persons(matched)
    worst = tables.worst_persons(matched, paired, count=5)
    assert worst["oks"].is_monotonic_increasing
    assert worst["oks"].max() <= np.sort(paired.oks)[5]
    assert worst["annotation_id"].tolist() == [predictions[d]["annotation_id"] for d in worst["predicted"]]


def test_without_own_boxes_the_nearest_prediction_stands_for_a_person(case):
    truth, predictions, matched = case
    for one in predictions:
        one["annotation_id"] = None
    nearest = tables.pair_persons(match_wholebody(truth, predictions))
    own = tables.pair_persons(matched)
    assert (nearest.oks >= own.oks - 1e-12).all()
    for one, annotation in zip(predictions, truth["annotations"]):
        one["annotation_id"] = annotation["id"]


def test_size_table_counts_each_person_once(case):
    _, _, matched = case
    table = tables.size_table(matched)
    assert table["persons"].sum() == matched.parts["wholebody"].persons[0].sum()
    assert table["wholebody"].dropna().between(0, 1).all()
