"""What is drawn on the body and beside one another: errors and gains of each point, swapped sides, the same persons."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from reporting.made_up import annotations, predictions

from posedistill.analysis import body_map, gains, persons, sides
from posedistill.analysis.weaknesses import pair_persons
from posedistill.evaluation.wholebody import match_wholebody
from posedistill.keypoints import FLIP_INDICES, NAMES, PARTS


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def truth() -> dict:
    return annotations(8)


def matched(truth: dict, error: float, swapped: bool = False):
    found = predictions(truth, error)
    for one in found if swapped else ():
        one["keypoints"] = np.reshape(one["keypoints"], (-1, 3))[FLIP_INDICES].ravel().tolist()
    return match_wholebody(truth, found)


def test_each_keypoint_has_a_place_and_left_mirrors_right():
    places = body_map.layout()
    for part in ("body", "face"):
        which = np.arange(PARTS[part].start, PARTS[part].stop)
        assert places[FLIP_INDICES[which]] == pytest.approx(places[which] * (-1, 1)), part
    assert places[PARTS["lefthand"]] == pytest.approx(places[PARTS["righthand"]] * (-1, 1))
    assert places[NAMES.index("left_shoulder"), 0] > 0  # the person faces the reader
    for where in PARTS.values():
        assert len(np.unique(places[where].round(6), axis=0)) == where.stop - where.start


def test_a_map_has_all_values_in_its_panels():
    values = np.arange(133.0)
    values[3] = np.nan
    figure = body_map.body_map(values, "title", "unit", signed=True)
    drawn = np.concatenate([
        points.get_array() for axes in figure.axes[:4] for points in axes.collections if points.get_array() is not None
    ])  # fmt: skip
    assert sorted(drawn.tolist()) == np.delete(values, 3).tolist()
    assert figure.axes[4].get_ylabel() == "unit"


def test_sides_are_swapped_only_where_they_are(truth: dict):
    right, wrong = matched(truth, 0.5), matched(truth, 0.5, swapped=True)
    for found, expected in ((right, 0.0), (wrong, 1.0)):
        one = sides.sides(found, pair_persons(found))
        told = one.swapped["hands"]
        assert np.isfinite(told).any() and (told[np.isfinite(told)] == expected).all()
        assert np.isnan(one.swapped["feet"]).all()  # not labelled
        assert ("hands" in sides.swapped_names(one, 0)) == bool(expected)
    assert "100.0 (n = " in sides.models_table({"baseline": one}).markdown()
    assert "from the back" in sides.swap_table(one).markdown()


def test_the_view_follows_shoulders_and_torso():
    def person(left: float, right: float) -> np.ndarray:
        points = np.zeros((133, 3))
        points[[5, 6, 11, 12]] = [(left, 0, 2), (right, 0, 2), (5, 40, 2), (-5, 40, 2)]
        return points

    people = np.stack([person(15, -15), person(3, -3), person(-15, 15), np.zeros((133, 3))])
    assert sides._views(people).tolist() == [0, 1, 2, -1]


def test_the_same_persons_stand_in_every_column(truth: dict):
    found = {"teacher": matched(truth, 1.0), "baseline": matched(truth, 4.0)}
    paired = persons.shared({model: pair_persons(one) for model, one in found.items()})
    assert paired["teacher"].person.tolist() == paired["baseline"].person.tolist()
    rows = persons.typical_rows(found["baseline"], paired["baseline"])
    oks = paired["baseline"].oks[rows]
    assert len(set(rows)) == 4 and (np.diff(oks) >= 0).all()
    sheet = persons.side_by_side(found, paired, lambda _: Image.new("RGB", (200, 200)))
    assert sheet.width == 3 * (persons.SIZE[0] + persons.GAP) - persons.GAP


def test_persons_that_one_model_lost_are_left_out(truth: dict):
    whole, found = matched(truth, 1.0), predictions(truth, 1.0)
    less = match_wholebody(truth, found[2:])
    paired = persons.shared({"teacher": pair_persons(whole), "baseline": pair_persons(less)})
    assert len(paired["teacher"].person) == len(truth["annotations"]) - 2
    assert (paired["teacher"].person == paired["baseline"].person).all()


def test_gains_lie_where_they_were_put(truth: dict):
    worse, better = predictions(truth, 6.0), predictions(truth, 6.0)
    exact = predictions(truth, 0.0)
    hands = slice(3 * PARTS["lefthand"].start, 3 * PARTS["righthand"].stop)
    for one, right in zip(better, exact):
        one["keypoints"][hands] = right["keypoints"][hands]
    found = {"baseline": match_wholebody(truth, worse), "stage1": match_wholebody(truth, better)}
    paired = persons.shared({model: pair_persons(one) for model, one in found.items()})
    rates = np.ones(133)
    rates[PARTS["lefthand"].start :] = 0.3
    gained = gains.point_gains(paired, "stage1")
    assert np.isnan(gained[PARTS["foot"]]).all()
    assert gained[PARTS["body"]] == pytest.approx(0) and (gained[PARTS["lefthand"].start :] > 5).all()
    (figure,) = gains.gain_maps(paired, ("stage1",)).values()
    assert figure.get_suptitle() == "stage 1 − baseline: gain in similarity"
    image = found["baseline"].truth.image[paired["baseline"].person]
    frame = gains.gain_table(paired, image, rates, 50, 0, ("stage1",)).frame
    assert frame.loc["face", "stage 1 [95 %]"] == "0.0 [0.0, 0.0]"
    assert frame.loc["all points mostly not labelled", "points"] == "42"
    assert frame.loc["all points mostly not labelled", "stage 1 [95 %]"].startswith("+")
    assert "feet" not in frame.index  # no validation labels
    assert len(gains.gain_figure(paired, rates, ("stage1",)).axes) == 1
