"""Validation sets of the stage prepare: detected boxes, missing pictures, faults that are told early."""

import json

import numpy as np
import pytest
from PIL import Image

from posedistill.data.store.arrow import ValStore
from posedistill.errors import UserError
from posedistill.pipeline.prepare import prepare
from posedistill.sources import pixels


def balanced(report):
    return all(f["read"] == f["kept"] + sum(f["dropped"].values()) for f in report.funnels)


@pytest.fixture
def data(tmp_path, write_coco):
    return write_coco(tmp_path / "data", images=6, persons=2)


@pytest.mark.parametrize("fault", ["entry", "picture"])
def test_a_faulty_validation_set_is_told_before_the_training_pictures_are_read(tmp_path, data, settings, fault):
    if fault == "entry":
        data["annotations"][0]["keypoints"].pop()
    else:
        data["images"][0]["file_name"] = "absent.jpg"
    (tmp_path / "data" / "faulty.json").write_text(json.dumps(data))
    source = {"source": "coco_wholebody", "name": "faulty", "annotations": "faulty.json", "images": "images"}
    with pytest.raises(
        UserError, match=r"faulty\.json: .*keypoints" if fault == "entry" else r"absent\.jpg \(missing\)"
    ):
        prepare(settings(val=[source]), tmp_path / "out", workers=1, progress=False)
    assert not list((tmp_path / "checkpoints").glob("prepare-*")) and not list((tmp_path / "out").iterdir())


def test_detector_boxes(tmp_path, data, settings):
    boxes = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": [a["bbox"][0] - 3, *a["bbox"][1:]], "score": 0.9}
        for a in data["annotations"]
    ]
    boxes.append({"image_id": 10, "category_id": 17, "bbox": [1, 1, 5, 5], "score": 0.9})
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
    source = {"source": "coco_wholebody", "name": "s", "annotations": "annotations.json", "images": "images"}
    report = prepare(
        settings(val=[{**source, "detections": "boxes.json"}], boxes="detections"),
        tmp_path / "out",
        workers=1,
        progress=False,
    )
    store = ValStore(tmp_path / "out" / "val-s")
    assert len(store.persons) == 12 and (store.persons.annotation_id == -1).all() and (store.persons.score == 0.9).all()
    overlap = report.sets["val-s"]["overlap"]
    assert overlap["annotated persons"] == 12 and overlap["recall"]["0.75"] == 1.0 and sum(overlap["histogram"]) == 12
    assert balanced(report) and report.funnels[-1]["dropped"] == {"not a person": 1}
    with pytest.raises(UserError, match="detections: found null"):
        prepare(settings(val=[source], boxes="detections"), tmp_path / "out", workers=1, progress=False)


def test_pictures_that_are_missing_leave_the_evaluation_whether_somebody_was_detected_or_not(tmp_path, data, settings):
    gone = [image["id"] for image in data["images"][:2]]
    boxes = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 0.9}
        for a in data["annotations"]
        if a["image_id"] != gone[1]
    ]
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
    for image in data["images"][:2]:
        (tmp_path / "data" / "images" / image["file_name"]).unlink()
    images = {"source": "coco_wholebody", "annotations": "annotations.json", "images": "images"}
    whole = {**images, "name": "whole", "images": "whole"}
    (tmp_path / "data" / "whole").mkdir()
    for image in data["images"]:
        Image.new("RGB", (image["width"], image["height"])).save(tmp_path / "data" / "whole" / image["file_name"])
    val = [{**images, "name": "s", "detections": "boxes.json"}]
    P = settings(train=[whole], val=val, boxes="detections", max_broken=0.5)
    report = prepare(P, tmp_path / "out", workers=1, progress=False)
    truth = json.loads((tmp_path / "out" / "val-s" / "gt.json").read_bytes())
    assert len(truth["images"]) == 4 and not {a["image_id"] for a in truth["annotations"]} & set(gone)
    persons, detections = (f for f in report.funnels if f["set"] == "val-s")
    assert (persons["read"], persons["kept"], persons["dropped"]) == (12, 8, {pixels.MISSING: 4})
    assert (detections["read"], detections["kept"], detections["dropped"]) == (10, 8, {pixels.MISSING: 2})
    assert len(report.broken) == 2 and balanced(report)
    with pytest.raises(UserError, match="source s: 2 of 6 pictures cannot be used"):
        prepare(settings(train=[whole], val=val, boxes="detections"), tmp_path / "out", workers=1, progress=False)


def test_stored_validation_pictures_are_shown_as_their_labels_count(tmp_path, data, settings):
    """Reports draw them: one that lies on its side, with upright labels, is turned."""
    path = tmp_path / "data" / "images" / data["images"][0]["file_name"]
    upright = np.array(Image.open(path))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = path.with_suffix(".png")
    Image.fromarray(np.rot90(upright)).save(path, exif=exif)
    data["images"][0]["file_name"] = path.name
    (tmp_path / "data" / "annotations.json").write_text(json.dumps(data))
    prepare(settings(), tmp_path / "out", workers=1, progress=False)
    np.testing.assert_array_equal(ValStore(tmp_path / "out" / "val-small").picture(0), upright)
