"""The trial's figures, on rankings that can be reckoned by hand."""

import json

import numpy as np
import pytest
from made_up_person import annotation, evidence, labelled, picture, points

from posedistill.audit import figures
from posedistill.audit.candidates import KINDS, candidates
from posedistill.audit.evidence import look
from posedistill.audit.judge import probabilities
from posedistill.audit.labels import read_pictures
from posedistill.audit.survey import Survey
from posedistill.audit.trial import Curve, Trial, accused, curves, summary
from posedistill.errors import UserError
from posedistill.inference.pose import Pose
from posedistill.keypoints import FLIP_INDICES, PARTS


def test_precision_and_recall_of_a_ranking():
    curve = Curve(np.array([0.9, 0.8, 0.7, 0.6, 0.1]), np.array([True, True, False, True, False]), injected=4)
    np.testing.assert_allclose(curve.precision, [1, 1, 2 / 3, 3 / 4, 3 / 5])
    np.testing.assert_allclose(curve.recall, [0.25, 0.5, 0.5, 0.75, 0.75])
    assert curve.precision_at(0.5) == 1 and curve.precision_at(0.75) == 0.75 and curve.precision_at(0.9) == 0
    assert curve.recall_at(0.8) == 0.5 and curve.recall_at(0.7) == 0.75
    assert Curve(np.array([]), np.array([], bool), 3).recall_at(0.5) == 0


@pytest.fixture(scope="module")
def trial():
    """Two persons, one with swapped sides, and the clean labels."""
    wrong = points()[FLIP_INDICES]
    wrong[PARTS["face"]] = points()[PARTS["face"]]
    faults = [{"annotation_id": 1, "kind": "swapped", "part": "all", "size": 0.5, "of": 1}]
    return Trial(survey_of(labelled(wrong)), faults, survey_of(labelled(points())))


def survey_of(person):
    page = picture(person)
    seen = {person.identity: points().astype(np.float32)}
    return Survey({7: page}, {person.identity: person}, seen, candidates(page, [evidence()]))


def test_what_was_injected_is_found_and_clean_labels_are_not_accused(trial):
    curve = curves(trial)["swapped"]
    assert curve.right.tolist() == [True] and curve.injected == 1 and curve.sure[0] > 0.8
    assert accused(trial) == 0
    figures_of = summary({"unseen": trial})["unseen"]
    assert figures_of["kinds"].keys() == KINDS.keys() and figures_of["persons"] == 1
    assert figures_of["kinds"]["swapped"] == {
        "injected": 1,
        "precision_at_recall_70": 1,
        "recall_at_precision_80": 1,
        "precision_of_the_sure": 1,
    }


def test_tables_and_figures_are_drawn(trial):
    table = figures.kinds_table({"unseen": trial}).markdown()
    assert "left and right swapped | 1 | 100 | 100" in table
    assert "0.0" in figures.accused_table(trial).markdown()
    assert len(figures.shifts_table(trial).frame) == len(figures.SHARES) - 1
    count, mean, right = figures.sureness(trial)
    assert count.sum() == 1 and right[-1] == 1 and mean[-1] > 0.8
    for figure in (figures.curves_figure(curves(trial)), figures.sureness_figure({"unseen": trial})):
        assert figure.axes[0].get_xlabel() and figure.axes[0].get_ylabel()


def test_crowds_and_persons_without_labels_are_not_audited(tmp_path):
    entries = [
        annotation(points(), 1),
        annotation(points(), 2, iscrowd=1),
        annotation(points() * (1, 1, 0), 3),
        annotation(points(), 4, bbox=[5, 5, 0, 10]),
    ]
    write(tmp_path, {"id": 7, "file_name": "a.jpg", "width": 300, "height": 400}, entries)
    found = read_pictures(tmp_path / "a.json", tmp_path)
    assert [person.identity for one in found for person in one.persons] == [1]


def test_a_box_of_next_to_nothing_is_audited(random_model):
    person = labelled(points(), bbox=[10, 10, 1e-300, 1e-300])
    seen = look(Pose(random_model("n", (64, 64))), np.zeros((400, 300, 3), np.uint8), [person])
    found = candidates(picture(person), seen)
    assert np.isfinite(probabilities(found)).all() and "box" in {one.kind for one in found}


def test_frames_of_ubody_are_found_in_its_videos(tmp_path):
    (tmp_path / "videos" / "Speech").mkdir(parents=True)
    (tmp_path / "videos" / "Speech" / "talk.mp4").touch()
    (tmp_path / "Speech").mkdir()
    for name in ("talk/000010.png", "/talk/000010.png"):
        image = {"id": 7, "file_name": name, "width": 300, "height": 400}
        write(tmp_path / "Speech", image, [annotation(points())])
        ref = read_pictures(tmp_path / "Speech" / "a.json", tmp_path / "videos")[0].ref
        assert (ref.path, ref.frame, ref.at_30) == (str(tmp_path / "videos" / "Speech" / "talk.mp4"), 9, True)


def test_cut_frames_of_ubody_are_found(tmp_path):
    (tmp_path / "images" / "Speech" / "talk").mkdir(parents=True)
    picture = tmp_path / "images" / "Speech" / "talk" / "000010.png"
    picture.touch()
    (tmp_path / "Speech").mkdir()
    write(tmp_path, {"id": 7, "file_name": "/talk/000010.png", "width": 300, "height": 400}, [annotation(points())])
    scene = (tmp_path / "a.json").rename(tmp_path / "Speech" / "keypoint_annotation.json")
    for folder in (tmp_path / "images", tmp_path / "images" / "Speech"):
        ref = read_pictures(scene, folder)[0].ref
        assert (ref.path, ref.frame) == (str(picture), None)


def test_absolute_file_names_are_refused(tmp_path):
    write(tmp_path, {"id": 7, "file_name": "/a.jpg", "width": 300, "height": 400}, [annotation(points())])
    with pytest.raises(UserError, match="expected a path inside the image folder"):
        read_pictures(tmp_path / "a.json", tmp_path)


def write(folder, image, annotations):
    (folder / "a.json").write_text(json.dumps({"images": [image], "annotations": annotations}))
