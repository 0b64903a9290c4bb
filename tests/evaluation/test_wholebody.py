"""The metrics are those of xtcocotools and of pycocotools, whatever is thrown at them."""

import copy
import gzip
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import random_case

from posedistill.errors import UserError
from posedistill.evaluation import evaluate_wholebody
from posedistill.evaluation.accumulate import METRICS
from posedistill.evaluation.records import ALL_PARTS, FIELDS, read_ground_truth, read_predictions
from posedistill.evaluation.wholebody import REPORTED, match_wholebody, metrics_of
from posedistill.keypoints import PARTS

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
SHARED = Path(os.environ.get("POSEDISTILL_SHARED", Path(__file__).parents[3] / "shared"))
CASES = json.loads(gzip.decompress((GOLDEN / "xtcocotools.json.gz").read_bytes()))


def assert_same(metrics, stats):
    for part in ALL_PARTS:
        assert list(metrics[part].values()) == pytest.approx(stats[part], abs=1e-9), part


def assert_equal_metrics(a, b):
    assert list(a) == list(b) == list(REPORTED)
    for part in REPORTED:
        assert list(a[part]) == list(METRICS)
        assert list(a[part].values()) == pytest.approx(list(b[part].values()), abs=1e-9), part


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_equals_xtcocotools(case):
    assert_same(evaluate_wholebody(case["annotations"], case["predictions"]), case["stats"])
    without = evaluate_wholebody(case["annotations"], case["predictions"], use_area=False)
    assert_same(without, case["stats_without_area"])


@pytest.mark.skipif(not (SHARED / "oracle").is_dir(), reason="the reference values are not beside the project")
def test_equals_xtcocotools_on_200_images():
    folder = SHARED / "oracle" / "eval"
    stats = json.loads((folder / "stats.json").read_text())["xtcocotools"]
    assert_same(evaluate_wholebody(folder / "gt.json", folder / "dt.json"), stats)


@pytest.mark.parametrize("seed", range(24))
def test_equals_pycocotools(seed):
    kind = {"part_scores": seed % 2 == 1, "boxes": seed % 3 == 2, "zero_id": seed % 4 == 3}
    truth, predictions = random_case(seed, **kind)
    use_area = seed % 5 != 4
    ours = evaluate_wholebody(truth, predictions, use_area=use_area)
    assert_equal_metrics(ours, evaluate_wholebody(truth, predictions, use_area=use_area, reference=True))


def test_the_cases_hold_what_they_should():
    seen = set()
    for seed in range(24):
        truth, predictions = random_case(seed)
        per_image = {image["id"]: 0 for image in truth["images"]}
        for one in predictions:
            per_image[one["image_id"]] += 1
        owners = {one["image_id"] for one in truth["annotations"]}
        scores = [one["score"] for one in predictions]
        seen |= {"crowd"} if any(one["iscrowd"] for one in truth["annotations"]) else set()
        seen |= (
            {"bare"}
            if any(not any(one[f][2::3] and max(one[f][2::3]) for f in FIELDS.values()) for one in truth["annotations"])
            else set()
        )
        seen |= {"empty"} if set(per_image) - owners else set()
        seen |= {"unpredicted"} if any(count == 0 for image, count in per_image.items() if image in owners) else set()
        seen |= {"over 20"} if max(per_image.values()) > 20 else set()
        seen |= {"ties"} if len(set(scores)) < len(scores) else set()
    assert seen == {"crowd", "bare", "empty", "unpredicted", "over 20", "ties"}


def perfect_case():
    truth, _ = random_case(7)
    for one in truth["annotations"]:
        one["iscrowd"] = 0
    predictions = []
    for one in truth["annotations"]:
        guess = {"image_id": one["image_id"], "category_id": 1, "score": 0.9}
        for field in FIELDS.values():
            guess[field] = [float(value > 0) if i % 3 == 2 else value for i, value in enumerate(one[field])]
        predictions.append(guess)
    return truth, predictions


def test_perfect_predictions_have_ap_1():
    metrics = evaluate_wholebody(*perfect_case())
    for part in REPORTED:
        assert metrics[part]["AP"] == pytest.approx(1.0)
        assert metrics[part]["AR"] == pytest.approx(1.0)


def test_hand_is_the_mean_of_both():
    metrics = evaluate_wholebody(CASES[0]["annotations"], CASES[0]["predictions"])
    for name in METRICS:
        sides = [metrics[side][name] for side in ("lefthand", "righthand")]
        assert metrics["hand"][name] == pytest.approx(np.mean([x for x in sides if x > -1]))


def test_hand_without_a_left_hand_is_the_right_one():
    truth, predictions = perfect_case()
    for one in truth["annotations"]:
        one["lefthand_kpts"] = [0.0] * 63
    metrics = evaluate_wholebody(truth, predictions)
    assert metrics["lefthand"]["AP"] == -1
    assert metrics["hand"]["AP"] == metrics["righthand"]["AP"] == pytest.approx(1)


def test_no_predictions():
    truth, _ = perfect_case()
    metrics = evaluate_wholebody(truth, [])
    assert metrics["wholebody"]["AP"] == metrics["wholebody"]["AR"] == 0
    assert_equal_metrics(metrics, evaluate_wholebody(truth, [], reference=True))


def test_no_persons():
    truth, predictions = random_case(3)
    truth["annotations"] = []
    metrics = evaluate_wholebody(truth, predictions)
    assert {value for part in REPORTED for value in metrics[part].values()} == {-1.0}
    assert_equal_metrics(metrics, evaluate_wholebody(truth, predictions, reference=True))


def test_paths_objects_and_joined_keypoints_agree_and_stay_as_they_were(tmp_path):
    truth, predictions = CASES[0]["annotations"], CASES[0]["predictions"]
    before = copy.deepcopy((truth, predictions))
    expected = evaluate_wholebody(truth, predictions)
    assert (truth, predictions) == before
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(predictions))
    assert evaluate_wholebody(tmp_path / "gt.json", str(tmp_path / "dt.json")) == expected
    joined = [
        {
            **{k: v for k, v in one.items() if k not in FIELDS.values()},
            "keypoints": [value for field in FIELDS.values() for value in one[field]],
        }
        for one in predictions
    ]
    assert len(joined[0]["keypoints"]) == 399
    assert evaluate_wholebody(truth, joined) == expected


def test_body_only_files():
    truth, predictions = perfect_case()
    for one in [*truth["annotations"], *predictions]:
        for field in list(FIELDS.values())[1:]:
            del one[field]
    metrics = evaluate_wholebody(truth, predictions)
    assert metrics["body"]["AP"] == pytest.approx(1)
    assert metrics["face"]["AP"] == -1


def test_area_is_needed_only_with_use_area():
    truth, predictions = perfect_case()
    del truth["annotations"][0]["area"]
    with pytest.raises(UserError, match="area: found nothing, expected a number above 0"):
        evaluate_wholebody(truth, predictions)
    assert evaluate_wholebody(truth, predictions, use_area=False)["body"]["AP"] == pytest.approx(1)


def test_predictions_of_other_categories_are_left_out():
    truth, predictions = perfect_case()
    expected = evaluate_wholebody(truth, predictions)
    others = [{**one, "category_id": 3, "score": 1.0} for one in predictions]
    assert evaluate_wholebody(truth, others + predictions) == expected


def test_other_categories_are_told_and_0_is_a_person_where_it_is_the_only_one():
    truth, predictions = perfect_case()
    some = match_wholebody(truth, [*predictions, {**predictions[0], "category_id": 3}])
    assert some.notes == ("predictions: 1 of 20 predictions are left out: category_id 3 is not a person",)
    for category in (0, "1", None):
        matched = match_wholebody(truth, [{**one, "category_id": category} for one in predictions])
        assert metrics_of(matched)["body"]["AP"] == pytest.approx(1) and not matched.notes
    for one in truth["annotations"]:
        one["category_id"] = 7
    truth["categories"] = [{"id": 7, "name": "person"}, {"id": 1, "name": "dog"}]
    truth["annotations"].append({**truth["annotations"][0], "category_id": 1, "id": 5000})
    matched = match_wholebody(truth, [{**one, "category_id": 7} for one in predictions])
    assert metrics_of(matched)["body"]["AP"] == pytest.approx(1)
    assert matched.notes == ("ground truth: 1 annotations of another category than person are left out",)


@pytest.mark.parametrize("crowd", ["0", 0, None, False])
def test_a_crowd_flag_may_be_text(crowd):
    truth, predictions = perfect_case()
    for one in truth["annotations"]:
        one["iscrowd"] = crowd
    assert evaluate_wholebody(truth, predictions)["body"]["AP"] == pytest.approx(1)
    for one in truth["annotations"]:
        one["iscrowd"] = "1"
    matched = match_wholebody(truth, predictions)
    assert metrics_of(matched)["body"]["AP"] == -1 and "no person counts: 19 are crowds, 0 have" in matched.notes[0]


def test_persons_without_a_labelled_keypoint_are_told():
    truth, predictions = perfect_case()
    for one in truth["annotations"]:
        one.update(dict.fromkeys(FIELDS.values()))
    matched = match_wholebody(truth, predictions)
    assert (
        metrics_of(matched)["wholebody"]["AP"] == -1
        and "no person counts: 0 are crowds, 19 have no labelled keypoint" in matched.notes[0]
    )


def test_files_that_are_not_strictly_json(tmp_path):
    """A byte order mark, NaN and names that are not UTF-8, as `prepare` reads them."""
    truth, predictions = perfect_case()
    expected = evaluate_wholebody(truth, predictions)
    truth["images"][0]["file_name"] = "caf\udce9.jpg"
    predictions[0].update(file_name="caf\udce9.jpg", note=float("nan"))
    for name, content in (("gt.json", truth), ("dt.json", predictions)):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    assert evaluate_wholebody(tmp_path / "gt.json", tmp_path / "dt.json") == expected


def test_keypoints_of_the_ground_truth_that_are_not_finite_are_unlabelled():
    truth, predictions = perfect_case()
    one = _labelled(truth)
    expected = copy.deepcopy(truth)
    place = next(i for i in range(17) if one["keypoints"][3 * i + 2])
    _labelled(expected)["keypoints"][3 * place : 3 * place + 3] = [0, 0, 0]
    one["keypoints"][3 * place] = float("nan")
    matched = match_wholebody(truth, predictions)
    assert metrics_of(matched) == evaluate_wholebody(expected, predictions)
    assert matched.notes == ("ground truth: 1 keypoints are not finite and count as unlabelled",)


def test_equal_scores_and_arrays_that_are_read_already():
    truth, predictions = perfect_case()
    read = read_ground_truth(truth)
    assert evaluate_wholebody(read, read_predictions(predictions, read)) == evaluate_wholebody(truth, predictions)


def test_parts_come_from_the_right_numbers():
    truth, _ = random_case(5)
    keypoints = read_ground_truth(truth).keypoints
    for one, row in zip(truth["annotations"], keypoints):
        for part, field in FIELDS.items():
            assert row[PARTS[part]].ravel().tolist() == one[field]


def broken(change):
    truth, predictions = perfect_case()
    change(truth, predictions)
    return truth, predictions


BROKEN = {
    "unknown image": (lambda gt, dt: dt[0].update(image_id=4711), "image_id 4711"),
    "image id a list": (
        lambda gt, dt: dt[0].update(image_id=[1]),
        "predictions[0]: image_id: found [1], expected a whole",
    ),
    "no score": (lambda gt, dt: dt[1].pop("score"), "predictions[1]: score: found nothing, expected a number"),
    "short keypoints": (
        lambda gt, dt: dt[2].update(keypoints=[1, 2, 3]),
        "predictions[2]: keypoints: found 3 values, expected 51 or 399 numbers",
    ),
    "short face": (
        lambda gt, dt: gt["annotations"][0].update(id=5000, face_kpts=[0] * 9),
        "annotation 5000: face_kpts: found 9 values, expected 204 numbers",
    ),
    "keypoints a number": (lambda gt, dt: dt[0].update(keypoints=5), "predictions[0]: keypoints: found 5, expected 51"),
    "no keypoints": (
        lambda gt, dt: [dt[0].pop(field) for field in FIELDS.values()],
        "predictions[0]: keypoints: found nothing, expected 51 or 399 numbers",
    ),
    "text": (lambda gt, dt: dt[0]["keypoints"].__setitem__(0, "x"), "keypoints: found 'x', expected 51"),
    "not finite": (
        lambda gt, dt: dt[3]["keypoints"].__setitem__(0, float("nan")),
        "predictions[3]: keypoints: not finite",
    ),
    "null": (lambda gt, dt: dt[3]["keypoints"].__setitem__(0, None), "predictions[3]: keypoints: not finite"),
    "score NaN": (lambda gt, dt: dt[3].update(score=float("nan")), "predictions[3]: score: not finite"),
    "score not a number": (lambda gt, dt: dt[0].update(score="high"), "score: found 'high', expected a number"),
    "part score": (lambda gt, dt: dt[0].update(face_score=[1]), "face_score: found [1], expected a number"),
    "not a record": (lambda gt, dt: dt.insert(0, 3), "predictions[0]: found 3, expected an object"),
    "own id": (lambda gt, dt: dt[0].update(annotation_id="x"), "annotation_id: found 'x', expected a whole number"),
    "some boxes": (lambda gt, dt: dt[0].update(bbox=[1, 2, 3, 4]), "predictions[1]: bbox: found nothing, expected 4"),
    "box a number": (lambda gt, dt: dt[0].update(bbox=5), "predictions[0]: bbox: found 5, expected 4 numbers"),
    "twice the same id": (lambda gt, dt: gt["annotations"][1].update(id=gt["annotations"][0]["id"]), "duplicate id"),
    "same image twice": (lambda gt, dt: gt["images"].append(gt["images"][0]), "duplicate id"),
    "no images": (lambda gt, dt: gt.pop("images"), "the file: images: found nothing, expected a list"),
    "all of another category": (
        lambda gt, dt: [one.update(category_id=3) for one in dt],
        "all predictions have category_id 3, expected 1 (person)",
    ),
    "category a list": (
        lambda gt, dt: dt[0].update(category_id=[1]),
        "category_id: found [1], expected a whole number",
    ),
    "crowd": (lambda gt, dt: gt["annotations"][0].update(iscrowd=2), "iscrowd: found 2, expected 0 or 1"),
    "negative area": (
        lambda gt, dt: gt["annotations"][0].update(id=5000, area=-9.0),
        "annotation 5000: area: found -9.0, expected a number above 0 (--no-area",
    ),
    "area of 0": (lambda gt, dt: _labelled(gt).update(area=0), "area: found 0.0, expected a number above 0"),
    "area NaN": (lambda gt, dt: gt["annotations"][0].update(area=float("nan")), "area: found nan, expected"),
    "box": (lambda gt, dt: gt["annotations"][0].update(bbox=[1, 2]), "bbox: found 2 values, expected 4 numbers"),
}


def _labelled(truth):
    return next(one for one in truth["annotations"] if any(one["keypoints"][2::3]))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_input_is_one_clear_line(name):
    change, message = BROKEN[name]
    with pytest.raises(UserError, match=re.escape(message)) as error:
        evaluate_wholebody(*broken(change))
    assert "\n" not in str(error.value)


def test_malformed_and_missing_files(tmp_path):
    (tmp_path / "broken.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"broken\.json: images is not closed"):
        evaluate_wholebody(tmp_path / "broken.json", [])
    with pytest.raises(UserError, match="there is no annotation file"):
        evaluate_wholebody(tmp_path / "absent.json", [])
    with pytest.raises(UserError, match="expected a list of predictions"):
        evaluate_wholebody(random_case(1)[0], {"a": 1})


def test_works_without_pycocotools(monkeypatch):
    for name in ("pycocotools", "pycocotools.coco", "pycocotools.cocoeval"):
        monkeypatch.setitem(sys.modules, name, None)
    truth, predictions = perfect_case()
    assert evaluate_wholebody(truth, predictions)["body"]["AP"] == pytest.approx(1)
    with pytest.raises(UserError, match="pip install pycocotools"):
        evaluate_wholebody(truth, predictions, reference=True)


def test_arrays_are_as_good_as_lists():
    truth, predictions = perfect_case()
    expected = evaluate_wholebody(truth, predictions)
    for one in predictions:
        for field in FIELDS.values():
            one[field] = np.array(one[field]).reshape(-1, 3)
    assert evaluate_wholebody(truth, predictions) == expected
