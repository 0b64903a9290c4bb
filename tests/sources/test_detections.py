"""Files of person boxes, and how boxes find their pictures."""

import json

import pytest

from posedistill.errors import UserError
from posedistill.sources import unlabelled
from posedistill.sources.detections import read_boxes, read_detections
from posedistill.sources.names import ids_are_numbers, numbers_in, spelling
from posedistill.sources.person import Funnel, ImageRef

BOX = {"bbox": [1, 2, 30, 40], "score": 0.5}


def refs(*names):
    return {place: ImageRef(name, None, 320, 240, name) for place, name in enumerate(names)}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(content))
        return path

    return write


def test_one_file_is_read_alike_for_validation_and_without_labels(write):
    path = write(
        [{**BOX, "image_id": 1}, {**BOX, "image_id": 0, "category_id": "1"}, {**BOX, "image_id": 1, "score": 0.1}]
    )
    one, two = Funnel("a"), Funnel("b")
    images = refs("a.jpg", "b.jpg")
    validation = read_detections(path, images, one)
    training = unlabelled._boxes(path, images, two)
    assert [p.image_id for p in validation] == [p.image_id for p in training] == [0, 1, 1]
    assert [p.score for p in validation] == [p.score for p in training] == [0.5, 0.5, 0.1]
    assert one.kept == two.kept == 3


def test_boxes_of_validation_pictures_may_go_by_name(write):
    images = {785: ImageRef("/x/a.jpg", None, 320, 240, "a.jpg")}
    assert read_detections(write({"a.jpg": [[1, 2, 30, 40, 0.9]]}), images, Funnel("d"))[0].image_id == 785


def test_names_are_compared_in_one_spelling(write):
    """macOS writes ü as two characters, most other systems as one; bytes that are not UTF-8 are lone surrogates."""
    path = write([{**BOX, "file_name": "\u00fc.jpg"}, {**BOX, "file_name": "caf\udce9.jpg"}])
    found = unlabelled._boxes(path, refs("u\u0308.jpg", r"caf\xe9.jpg"), Funnel("u"))
    assert [person.image_id for person in found] == [0, 1]


def test_a_file_name_of_null_is_not_a_name(write):
    path = write([{**BOX, "file_name": None, "image_id": 1}])
    assert unlabelled._boxes(path, refs("None", "b.jpg"), Funnel("u"))[0].image_id == 1


def test_category_0_is_a_person_where_it_is_the_only_one(write):
    funnel = Funnel("d")
    assert len(read_boxes(write([{**BOX, "image_id": 1, "category_id": 0}] * 2), funnel)) == 2
    mixed = write([{**BOX, "image_id": 1, "category_id": one} for one in (0, 1, 17)])
    assert len(read_boxes(mixed, funnel)) == 1
    assert funnel.dropped == {"not a person": 2}
    assert funnel.examples["not a person"] == ["detections[0]: category_id 0", "detections[2]: category_id 17"]


def test_a_score_may_be_missing_only_where_it_does_not_count(write):
    path = write([{"image_id": 1, "bbox": [1, 2, 3, 4]}])
    assert read_boxes(path, Funnel("d"), default_score=1.0)[0].score == 1
    with pytest.raises(UserError, match=r"detections\[0\]: score: found nothing, expected a number"):
        read_boxes(path, Funnel("d"))


def test_results_of_predict_are_boxes(write):
    result = {"image_id": 3, "file_name": "a.jpg", "category_id": 1, "keypoints": [0.0] * 399, "score": 0.5}
    (found,) = read_boxes(write([{**result, "box": [1.0, 2.0, 3.0, 4.0]}]), Funnel("d"))
    assert found[1:] == (3, "a.jpg", [1, 2, 3, 4], 0.5)


def test_numbers_in_names():
    assert numbers_in(["000785.jpg", "sub/12.png", "a.jpg"]) == {"000785.jpg": 785, "sub/12.png": 12}
    assert numbers_in(["1.jpg", "01.jpg"]) == {}


@pytest.mark.parametrize(
    ("image_ids", "numbers", "expected"),
    [
        ({1, 2}, {1, 2}, True),  # both readings fit one of them: numbers go first
        ({0, 1}, {1, 2}, False),  # 0 is only a place
        ({139, 285}, {139, 785}, True),  # boxes of a whole data set
        ({7}, set(), False),
        (set(), {1}, False),
    ],
)
def test_image_ids_are_numbers_of_names_or_places(image_ids, numbers, expected):
    assert ids_are_numbers(image_ids, numbers, range(3)) is expected


def test_a_spelling_is_one_line_of_utf8():
    assert spelling("a\nb\udce9") == r"a\x0ab\xe9"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"category_id": 2}, "not a person"),
        ({"image_id": 5}, "image not in this validation set"),
        ({"bbox": [1, 2, 0, 4]}, "empty box"),
        ({"score": float("nan")}, "score not finite"),
    ],
)
def test_detections_dropped(tmp_path, entry, reason):
    good = {"image_id": 10, "category_id": 1, "bbox": [-5.0, 2, 30, 40], "score": 0.5}
    path = tmp_path / "boxes.json"
    images = {10: ImageRef("a.jpg", None, 320, 240, "a.jpg")}
    path.write_text(json.dumps([good, {**good, **entry}]))
    funnel = Funnel("d")
    persons = read_detections(path, images, funnel)
    funnel.check()
    assert funnel.dropped == {reason: 1} and persons[0].box.tolist() == [-5, 2, 30, 40]  # not clipped, as published


def test_a_detection_without_a_score_is_an_error(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('[{"image_id": 10, "bbox": [1, 2, 30, 40], "score": null}]')
    with pytest.raises(UserError, match=r"detections\[0\]: score"):
        read_detections(path, {}, Funnel("d"))


@pytest.mark.parametrize(
    "text",
    [
        *('{"a.jpg": 3}', '{"images": []}', "[1]", '[{"image_id": 1.5}]', "x"),
        '[{"image_id": 10, "bbox": [1], "score": 1}]',
    ],
)
def test_detection_files_that_are_none(tmp_path, text):
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"boxes\.json"):
        read_detections(path, {}, Funnel("d"))
