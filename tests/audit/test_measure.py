"""Measures: what each fault does to them, by values that can be reckoned by hand."""

import numpy as np
import pytest
from made_up_person import SIZE, evidence, labelled, points

from posedistill.audit import measure
from posedistill.audit.labels import size_of
from posedistill.keypoints import NAMES, PARTS


def test_right_labels_have_no_gap_and_nothing_to_gain():
    person = labelled(points())
    found = measure.gaps(person)
    assert set(found) == {"body", "foot", "face", "lefthand", "righthand"}
    assert all(np.linalg.norm(one) < 0.02 for one in found.values())  # labels have two decimals
    for part in PARTS:
        measures = measure.measure_part(person, [], evidence(), part, found)
        assert measures["away"] < 0.01 and abs(measures["moved"]) < 0.1 and measures["here"] > 4
    assert measure.measure_sides(person, evidence(), "all")["body_gain"] < -5


@pytest.mark.parametrize("part", ["lefthand", "face", "foot"])
def test_a_shifted_part_is_off_by_its_shift(part):
    wrong = points()
    wrong[PARTS[part], :2] += (8, -6)
    person = labelled(wrong)
    found = measure.gaps(person)
    np.testing.assert_allclose(found[part], (8, -6), atol=0.1)
    assert np.linalg.norm(found["body"]) < 0.1  # the other parts agree with the body
    measures = measure.measure_part(person, [], evidence(), part, found)
    size = size_of(points()[PARTS[part]])
    assert measures["away"] == pytest.approx(10 / size, abs=0.01) and measures["gap"] == pytest.approx(
        10 / size, abs=0.01
    )
    assert measures["moved"] > 1 and measures["closed"] > 1


def test_a_shifted_body_is_told_from_shifted_parts():
    wrong = points()
    wrong[PARTS["body"], :2] += (0, 40)
    found = measure.gaps(labelled(wrong))
    np.testing.assert_allclose(found["body"], (0, 40), atol=0.5)
    assert all(np.linalg.norm(found[part]) < 0.5 for part in PARTS if part != "body")


@pytest.mark.parametrize("group", measure.SIDES)
def test_swapped_sides_gain_by_being_swapped_back(group):
    left, right = measure.SIDES[group]
    wrong = points()
    wrong[left], wrong[right] = points()[right], points()[left]
    gains = {name: measure.measure_sides(labelled(wrong), evidence(), name) for name in measure.SIDES}
    assert max(gains, key=lambda name: gains[name]["total"]) == group
    assert gains[group]["agree"] == 1
    assert (gains[group]["gap"] > 0.1) == (group == "hands")  # with the arms, hands stay at their wrists


def test_a_part_of_another_person_fits_that_one():
    other = points()
    other[:, 0] += 80
    wrong = points()
    wrong[PARTS["face"]] = other[PARTS["face"]]
    person = labelled(wrong)
    measures = measure.measure_part(person, [labelled(other, identity=2)], evidence(), "face", measure.gaps(person))
    assert measures["other"] < 0.01 and measures["other_gap"] < 0.01 and measures["gap"] > 1


def test_missing_parts_are_measured_where_nothing_is_labelled():
    wrong = points()
    wrong[PARTS["lefthand"]] = 0
    measures = measure.measure_missing(labelled(wrong), evidence(), "lefthand", SIZE)
    assert measures["inside"] == 1 and measures["gap"] < 0.01 and measures["sure"] > 4
    assert measure.measure_missing(labelled(wrong), evidence(), "face", SIZE) is None


def test_two_annotations_of_one_person_are_alike():
    again = points() + np.array([0.5, 0.5, 0])
    alike = measure.measure_double(labelled(points()), labelled(again, identity=2))
    away = measure.measure_double(labelled(points()), labelled(points() + np.array([90, 0, 0]), identity=2))
    assert alike["oks"] > 0.9 and alike["overlap"] == 1 and away["oks"] < 0.1


def test_box_margins_are_in_units_of_the_extent():
    measures = measure.measure_box(labelled(points()), SIZE)
    extent = size_of(points())
    for side in measure.BOX_SIDES:
        assert measures[f"wide_{side}"] == pytest.approx(6 / extent, abs=1e-3)
        assert measures[f"edge_{side}"] == 0
    hidden = points()
    hidden[NAMES.index("left_ankle"), 2] = 1
    hidden[NAMES.index("left_ankle"), 1] = 399
    measures = measure.measure_box(labelled(hidden), SIZE)
    assert measures["wide_bottom"] < 0 < measures["narrow_bottom"] and measures["beyond"] == 0


def test_points_outside_the_picture_are_not_compared():
    wrong = points()
    wrong[0, :2] = -3, 410
    person = labelled(wrong)
    assert person.outside[0] == 10 and not person.shown[0] and person.labelled[0]
    assert (person.outside[1:] == 0).all()
