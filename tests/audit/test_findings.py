"""From labels to findings: faults are named, explained once, and come with what would be right."""

import copy

import numpy as np
import pytest
from made_up_person import SIZE, annotation, evidence, labelled, picture, points

from posedistill.audit.candidates import KINDS, Candidate, candidates
from posedistill.audit.faults import FAULTS, inject
from posedistill.audit.findings import explained, ranked
from posedistill.audit.judge import fit, probabilities, weights
from posedistill.audit.measure import BOX_SIDES
from posedistill.audit.survey import Survey, counts
from posedistill.keypoints import FLIP_INDICES, PARTS
from posedistill.sources.fields import keypoints_of


def findings(*persons):
    """Of one picture of which the model sees everything."""
    page = picture(*persons)
    seen = [evidence() for _ in persons]
    people = {person.identity: person for person in persons}
    shown = {identity: points().astype(np.float32) for identity in people}
    return ranked(Survey({7: page}, people, shown, candidates(page, seen)))


def test_right_labels_have_no_sure_finding():
    assert all(row["sure"] < 0.5 for row in findings(labelled(points())))


def test_swapped_sides_are_found_and_swapped_back():
    wrong = points()[FLIP_INDICES] * (1, 1, 1)
    wrong[PARTS["face"]] = points()[PARTS["face"]]
    row = findings(labelled(wrong))[0]
    assert (row["kind"], row["part"], row["accepted"]) == ("swapped", "all", None) and row["sure"] > 0.8
    right = keypoints_of({**annotation(wrong), **row["proposed"]}, np.float64)
    np.testing.assert_allclose(right[:23], points()[:23], atol=0.01)
    np.testing.assert_allclose(right[91:], points()[91:], atol=0.01)


@pytest.mark.parametrize("part", ["lefthand", "face"])
def test_a_shifted_part_is_found_and_moved_back(part):
    wrong = points()
    wrong[PARTS[part], :2] += (18, 12)
    row = findings(labelled(wrong))[0]
    assert (row["kind"], row["part"]) == ("shifted", part) and row["sure"] > 0.8
    right = keypoints_of({**annotation(wrong), **row["proposed"]}, np.float64)
    np.testing.assert_allclose(right, points(), atol=0.05)
    assert row["points"].keys() == row["proposed"].keys()


def test_a_person_annotated_twice_loses_the_poorer_annotation():
    poorer = points() + np.array([1, 0, 0])
    poorer[PARTS["righthand"]] = 0
    row = findings(labelled(poorer, identity=3), labelled(points(), identity=8))[0]
    assert (row["kind"], row["annotation_id"], row["same_as"], row["proposed"]) == ("double", 3, 8, None)
    assert row["sure"] > 0.8


def test_points_outside_the_picture_are_unlabelled():
    wrong = points()
    wrong[9, :2] = 320, 215
    row = findings(labelled(wrong))[0]
    assert row["kind"] == "outside" and row["sure"] == 1
    assert row["proposed"]["keypoints"][27:30] == [0, 0, 0] and row["proposed"]["num_keypoints"] == 16
    before = annotation(wrong)["keypoints"]
    assert row["proposed"]["keypoints"] == [*before[:27], 0, 0, 0, *before[30:]]  # the others as they are


def test_a_box_is_drawn_anew():
    x, y, w, h = annotation(points())["bbox"]
    rows = findings(labelled(points(), bbox=[x, y + h / 2, w, h / 2]))
    row = next(row for row in rows if row["kind"] == "box")
    assert row["sure"] > 0.5
    found = np.array(row["proposed"]["bbox"])
    assert np.abs(found - (x, y, w, h)).max() < 30
    assert (found[:2] >= 0).all() and (found[:2] + found[2:] <= SIZE).all()


def test_a_reason_takes_the_place_of_what_it_explains():
    nothing = {"beyond": 1.0}
    found = [
        Candidate("other_person", 7, 1, "face", nothing),
        Candidate("shifted", 7, 1, "face", nothing),
        Candidate("shifted", 7, 1, "lefthand", nothing),
        Candidate("shifted", 7, 2, "body", nothing),
        Candidate("shifted", 7, 2, "face", nothing),
        Candidate("double", 7, 4, "", nothing, 3),
        Candidate("swapped", 7, 4, "all", nothing),
    ]
    sure = explained(found, np.array([0.9, 0.8, 0.7, 0.9, 0.8, 0.9, 0.8]), {1: 133, 2: 133, 3: 133, 4: 133})
    assert sure.tolist() == [0.9, 0.0, 0.7, 0.9, 0.0, 0.9, 0.0]


def test_counts_by_kind():
    rows = [{"kind": "box", "sure": 0.9}, {"kind": "box", "sure": 0.3}]
    assert counts(rows, ["box", "double"], 0.8) == {"box": 1, "double": 0}


def content():
    """Twelve pictures of two persons each."""
    entries = []
    for image in range(12):
        for side in (0, 1):
            entries.append(annotation(points() * (0.45, 0.45, 1) + (10 + 130 * side, 100, 0), 2 * image + side, image))
            xy = points()[:, :2] * 0.45 + (10 + 130 * side, 100)
            low, high = xy.min(axis=0), xy.max(axis=0)
            entries[-1]["bbox"] = [*(low - 3).tolist(), *(high - low + 6).tolist()]
    images = [{"id": i, "width": SIZE[0], "height": SIZE[1], "file_name": f"{i}.jpg"} for i in range(12)]
    return {"images": images, "annotations": entries}


def test_injected_faults_are_counted_and_leave_the_input_alone():
    before = content()
    given = copy.deepcopy(before)
    changed, done = inject(given, seed=3, share=0.1)
    assert given == before
    assert inject(content(), seed=3, share=0.1) == (changed, done)
    assert [sum(fault["kind"] == kind for fault in done) for kind in FAULTS] == [2] * len(FAULTS)
    assert set(FAULTS) == set(KINDS)
    touched = {fault["annotation_id"] for fault in done}
    old, new = ({a["id"]: a for a in one["annotations"]} for one in (before, changed))
    assert {identity for identity in new if new[identity] != old.get(identity)} == touched
    assert len(new) == len(old) + 2  # the doubles
    for fault in done:
        if fault["kind"] == "shifted":
            assert 0.1 <= fault["size"] <= 1


def test_fitting_separates_what_can_be_separated():
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 20 == 0
    oks = np.where(truth, rng.uniform(0.6, 0.9, 400), rng.uniform(0, 0.3, 400))
    found = [Candidate("double", 1, i, "", {"oks": float(o), "overlap": float(o)}, i + 1000) for i, o in enumerate(oks)]
    placed = ["size", "away", "shape", "here", "moved", "sure", "low", "spread", "gap", "differ", "closed"]
    sides = [f"{what}_{side}" for what in ("wide", "narrow", "edge") for side in BOX_SIDES]
    measures = {
        "shifted": [*placed, "other", "other_gap"],
        "other_person": [*placed, "other", "other_gap"],
        "unlabelled": ["sure", "low", "spread", "inside", "gap", "pixels", "size"],
        "swapped": ["apart", "body_gain", "hand_gain", "total", "agree", "sure", "gap", "size"],
        "box": [*sides, "beyond"],
    }
    others = [
        Candidate(kind, 1, i, "face", dict.fromkeys(names, 0.5)) for kind, names in measures.items() for i in range(4)
    ]
    everything = [*found, *others]
    is_fault = np.array([*truth, *[True, False] * (len(others) // 2)])
    fitted = fit([(everything, is_fault, set())])
    sure = probabilities(found, fitted)
    assert sure[truth].min() > 0.8 and sure[~truth].max() < 0.2
    assert fitted["kinds"].keys() == weights()["kinds"].keys()
