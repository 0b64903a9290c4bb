"""Annotation files: what is kept, what is dropped and why, and what is an error."""

import copy

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posedistill.errors import UserError
from posedistill.params import Source
from posedistill.sources import coco
from posedistill.sources.detections import read_detections
from posedistill.sources.person import Funnel, ImageRef
from posedistill.sources.persons import read_source


def locate(image):
    return ImageRef(image["file_name"], None, image["width"], image["height"], image["file_name"])


def read(path):
    funnel = Funnel("test")
    persons, _ = coco.read_annotations(path, locate, funnel)
    funnel.check()
    return persons, funnel


def read_ground_truth(path):
    return coco.read_annotations(path, locate, Funnel("test"), ground_truth=True)[1]


def test_reads_what_the_published_loader_reads(shared):
    expected = np.load(shared / "oracle" / "dataset.npz")
    folder = shared / "real" / "coco"
    persons, funnel = read(folder / "annotations" / "test_coco_wholebody.json")
    assert [person.annotation_id for person in persons] == expected["train_ids"].tolist()
    boxes = np.array([person.box for person in persons])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(boxes, expected["train_bbox"], rtol=1e-6)
    keypoints = np.array([person.keypoints for person in persons])
    np.testing.assert_allclose(keypoints[..., :2], expected["train_kp"], rtol=1e-6)
    labels = np.array([person.labels(use_valid_flags=False, parts="all") for person in persons])
    np.testing.assert_array_equal(labels[..., 2], expected["train_vis"])
    assert funnel.dropped == {coco.NO_KEYPOINT: 2}

    images = {person.image_id: person.image for person in persons}
    boxes = Funnel("test", what="detections")
    path = folder / "person_detection_results" / "test_coco_det_AP_H_56.json"
    detections = read_detections(path, images, boxes)
    order = np.argsort([list(images).index(i) for i in expected["val_img"]], kind="stable")
    found = np.array([d.box for d in detections])
    found[:, 2:] += found[:, :2]
    np.testing.assert_allclose(found, expected["val_bbox"][order], rtol=1e-6)
    np.testing.assert_allclose([d.score for d in detections], expected["val_score"][order], rtol=1e-6)
    assert len(detections) == int(expected["val_n"])


def test_every_person_of_a_good_file_is_kept(content, save):
    persons, funnel = read(save(content))
    assert [p.annotation_id for p in persons] == [a["id"] for a in content["annotations"]]
    assert funnel.read == funnel.kept == 6 and not funnel.dropped
    assert (persons[0].keypoints[:, 2] > 0).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iscrowd": 1}, coco.CROWD),
        ({"num_keypoints": 0}, coco.NO_KEYPOINT),
        ({"keypoints": [0] * 51, "num_keypoints": None}, coco.NO_KEYPOINT),
        ({"bbox": [10, 10, 0, 50]}, coco.DEGENERATE),
        ({"bbox": [10, 10, 40, -5]}, coco.DEGENERATE),
        ({"bbox": [400, 10, 40, 50]}, coco.OUTSIDE),
        ({"bbox": [-100, 10, 40, 50]}, coco.OUTSIDE),
        ({"bbox": [10, 10, float("nan"), 50]}, coco.NOT_FINITE),
        ({"bbox": [10, 10, None, 50]}, coco.NOT_FINITE),
        ({"bbox": [10, 10, 1e300, 50]}, coco.NOT_FINITE),
        ({"bbox": None}, coco.NO_FIELD),
        ({"keypoints": None}, coco.NO_FIELD),
        ({"category_id": 3}, coco.NOT_PERSON),
    ],
)
def test_dropped_with_a_reason(content, save, change, reason):
    content["annotations"][1].update(change)
    persons, funnel = read(save(content))
    assert funnel.dropped == {reason: 1} and len(persons) == 5
    assert funnel.examples[reason] == ["annotation 101"]


def test_a_box_that_reaches_out_is_cut(content, save):
    content["annotations"][0]["bbox"] = [-10, 20, 1000, 100]
    persons, funnel = read(save(content))
    np.testing.assert_allclose(persons[0].box, [0, 20, 319, 100])
    assert funnel.notes == {"box reaches out of the image, cut": 1}


def test_keypoints_that_are_not_finite_are_unlabelled(content, save):
    content["annotations"][0]["face_kpts"][:3] = [float("nan"), 5.0, 1.0]
    content["annotations"][0]["lefthand_kpts"][4] = None
    persons, funnel = read(save(content))
    assert persons[0].keypoints[23].tolist() == [0, 0, 0] and persons[0].keypoints[92, 2] == 0
    assert funnel.notes == {"keypoints not finite, taken as unlabelled": 2}


def test_confidence_counts_as_labelled_and_flags_are_ignored_by_default(content, save):
    content["annotations"][0]["face_valid"] = False
    person = read(save(content))[0][0]
    assert 0 < person.keypoints[30, 2] < 1
    labels = person.labels(use_valid_flags=False, parts="all")
    assert labels[30, 2] == 1
    labels = person.labels(use_valid_flags=True, parts="all")
    assert (labels[23:91] == 0).all() and (labels[91:, 2] == 1).all()
    labels = person.labels(use_valid_flags=False, parts="body")
    assert (labels[:17, 2] == 1).all() and (labels[17:] == 0).all()


def test_body_only_coco(content, save):
    for entry in content["annotations"]:
        for name in list(entry):
            if name.endswith(("_kpts", "_valid")):
                del entry[name]
    path = save(content)
    persons, funnel = read(path)
    assert funnel.kept == 6
    assert (persons[0].labels(use_valid_flags=True, parts="all")[17:] == 0).all()
    truth = read_ground_truth(path)
    assert truth["annotations"][0]["face_kpts"] == [0.0] * 204


def test_ground_truth_keeps_crowds_and_unlabelled_persons(content, save):
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["num_keypoints"] = 0
    content["annotations"][2]["category_id"] = 2
    content["annotations"][3]["bbox"][2] = float("inf")
    truth = read_ground_truth(save(content))
    assert [a["id"] for a in truth["annotations"]] == [100, 101, 103, 104, 105]
    orjson.loads(orjson.dumps(truth))
    assert truth["annotations"][2]["bbox"][2] == 0


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"iscrowd": "0"}, 6),
        ({"iscrowd": None}, 6),
        ({"iscrowd": "1"}, 5),
        ({"iscrowd": True}, 5),
        ({"category_id": "1"}, 6),
        ({"category_id": None}, 6),
        ({"category_id": "3"}, 5),
    ],
)
def test_flags_and_categories_may_be_text_or_null(content, save, change, kept):
    content["annotations"][0].update(change)
    path = save(content)
    assert len(read(path)[0]) == kept
    entry = read_ground_truth(path)["annotations"][0]
    assert entry["iscrowd"] == (1 if kept == 5 and "iscrowd" in change else 0) and entry["category_id"] == 1


def test_a_valid_flag_may_be_text(content, save):
    content["annotations"][0].update(face_valid="0", foot_valid="1")
    assert read(save(content))[0][0].valid == (True, False, True, True)


def test_keypoints_may_be_one_list(content, save):
    expected = read(save(content))[0][0].keypoints
    truth = read_ground_truth(save(content))
    one = content["annotations"][0]
    fields = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    one["keypoints"] = [value for field in fields for value in one.pop(field)]
    np.testing.assert_array_equal(read(save(content))[0][0].keypoints, expected)
    again = read_ground_truth(save(content))
    for field in fields:
        np.testing.assert_allclose(again["annotations"][0][field], truth["annotations"][0][field], rtol=1e-6)


STRUCTURAL = [
    ("annotations", "id", "one"),
    ("annotations", "id", None),
    ("annotations", "id", 101),  # there already
    ("annotations", "image_id", 999),
    ("annotations", "image_id", "10"),
    ("annotations", "category_id", "person"),
    ("annotations", "iscrowd", 2),
    ("annotations", "iscrowd", "no"),
    ("annotations", "iscrowd", [0]),
    ("annotations", "image_id", [1]),
    ("annotations", "category_id", [1]),
    ("annotations", "category_id", 1.5),
    ("annotations", "bbox", 5),
    ("annotations", "keypoints", 5),
    ("annotations", "bbox", [1, 2, 3]),
    ("annotations", "bbox", "1 2 3 4"),
    ("annotations", "bbox", [1, 2, "3", 4]),
    ("annotations", "keypoints", [1.0] * 50),
    ("annotations", "face_kpts", [1.0] * 51),
    ("annotations", "lefthand_kpts", [[1.0, 2.0, 2.0]] * 21),
    ("annotations", "foot_kpts", [True] * 18),
    ("annotations", "num_keypoints", "17"),
    ("annotations", "area", [4]),
    ("annotations", "id", 2**70),
    ("annotations", "bbox", [10, 10, 10**400, 50]),
    ("annotations", "face_valid", "yes"),
    ("images", "height", 10**12),
    ("images", "id", 11),
    ("images", "id", 1.5),
    ("images", "file_name", ""),
    ("images", "file_name", "../secret.jpg"),
    ("images", "file_name", "a/../../secret.jpg"),
    ("images", "file_name", 7),
    ("images", "width", 0),
    ("images", "height", "240"),
]


@pytest.mark.parametrize(("table", "field", "value"), STRUCTURAL)
def test_structural_errors_name_file_record_and_field(content, save, table, field, value):
    record = content[table][0]
    known = str(record["id"])
    record[field] = value
    path = save(content)
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message and field in message and "\n" not in message
    assert known in message or f"{table}[" in message or field == "id"


def test_numbers_beyond_all_pixels_count_as_not_finite(content, save):
    content["annotations"][0].update(num_keypoints=float("nan"), area=-1.0)
    content["annotations"][0]["face_kpts"][0] = 1e300
    path = save(content)
    persons, funnel = read(path)
    assert persons[0].keypoints[23].tolist() == [0, 0, 0]
    assert funnel.notes == {"keypoints not finite, taken as unlabelled": 1}
    truth = orjson.loads(orjson.dumps(read_ground_truth(path)))["annotations"][0]
    assert truth["num_keypoints"] == 17 and truth["area"] > 0 and truth["face_kpts"][:3] == [0, 0, 0]


def test_found_values_stay_on_one_line(content, save):
    content["annotations"][0]["image_id"] = "a\nb"
    with pytest.raises(UserError, match=r"annotation 100: image_id: found 'a\\nb', expected a whole number"):
        read(save(content))


@pytest.mark.parametrize(
    ("categories", "person"),
    [
        ([{"id": 1, "name": "antelope"}, {"id": 2, "name": "person"}], 2),
        ([{"id": 7, "name": "Person"}, {"id": 1, "name": "dog"}], 7),
        ([{"id": 0, "name": "dancer"}], 0),
        ([], 1),
    ],
)
def test_persons_are_those_of_the_category_person(content, save, categories, person):
    content["categories"] = categories
    for entry in content["annotations"]:
        entry["category_id"] = person
    other = {"id": 999, "image_id": content["images"][0]["id"], "category_id": 33, "keypoints": [0] * 72}
    content["annotations"].append(other)
    persons, funnel = read(save(content))
    assert len(persons) == len(content["annotations"]) - 1 and funnel.dropped == {coco.NOT_PERSON: 1}
    truth = read_ground_truth(save(content))
    assert {entry["category_id"] for entry in truth["annotations"]} == {1} and len(truth["annotations"]) == len(persons)


def test_categories_without_persons_are_an_error(content, save):
    content["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    with pytest.raises(UserError, match="categories: found cat, dog, expected one with the name person"):
        read(save(content))


def test_an_area_of_zero_is_estimated_as_a_missing_one(content, save):
    """Otherwise not even a perfect prediction would count."""
    content["annotations"][0]["area"], content["annotations"][1]["area"] = 0, None
    for entry in read_ground_truth(save(content))["annotations"][:2]:
        assert entry["area"] == pytest.approx(0.53 * entry["bbox"][2] * entry["bbox"][3])


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.sampled_from([2**63, -(2**70), 10**400, 1e300]),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.floats(), max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_either_read_with_balanced_books_or_say_one_clear_line(content, save, data):
    """Any field of any record replaced, removed or given an odd element: never a crash, never a silent loss."""
    changed = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        table = data.draw(st.sampled_from(["images", "annotations", "annotations", "annotations"]))
        record = data.draw(st.sampled_from(changed[table]))
        if not record:
            continue
        field = data.draw(st.sampled_from(sorted(record)))
        kind = data.draw(st.sampled_from(["replace", "remove", "element", "length"]))
        if kind == "remove":
            del record[field]
        elif kind == "element" and isinstance(record[field], list) and record[field]:
            record[field][data.draw(st.integers(0, len(record[field]) - 1))] = data.draw(odd)
        elif kind == "length" and isinstance(record[field], list) and record[field]:
            record[field] = record[field][: data.draw(st.integers(0, len(record[field]) - 1))]
        else:
            record[field] = data.draw(odd)
    path = save(changed)
    try:
        persons, funnel = read(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert funnel.read == len(changed["annotations"]) and funnel.kept == len(persons)
    for person in persons:
        assert np.isfinite(person.keypoints).all() and np.isfinite(person.box).all()
        assert person.box[2] > 0 and person.box[3] > 0
    orjson.dumps(read_ground_truth(path))


@pytest.mark.parametrize("name", ["a\0.jpg", "\udce9.jpg", ""])
def test_a_name_that_no_file_can_have(content, save, name):
    content["images"][0]["file_name"] = name
    with pytest.raises(UserError, match=r"image 10: file_name: found .*expected a file name"):
        read(save(content))


@pytest.mark.parametrize("name", ["/etc/hostname", "../annotations.json", "a/../../b.jpg"])
def test_pictures_outside_the_image_folder_are_not_read(content, save, tmp_path, name):
    content["images"][0]["file_name"] = name
    path = save(content)
    (tmp_path / "pictures").mkdir(exist_ok=True)
    source = Source(source="coco_wholebody", name="own", annotations=path.name, images="pictures")
    with pytest.raises(UserError, match=r"image 10: file_name: found .*expected a path inside the image folder"):
        read_source(source, tmp_path, split="train", boxes="ground_truth")
