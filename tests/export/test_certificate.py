"""When a file counts as worse than float32, and what it is then called."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from posedistill.evaluation.mean_oks import own_box_oks
from posedistill.evaluation.records import GroundTruth, Predictions
from posedistill.evaluation.wholebody import match_wholebody, metrics_of
from posedistill.export.certificate import Judged, Row, differences, file_name, too_much
from posedistill.reporting.certificate import files_table


@pytest.mark.parametrize(
    ("whole", "hand", "loss"),
    [
        ((-0.0029, -0.010, 0.004), (-0.02, -0.05, 0.01), None),  # within 0.3; the hand's loss may be chance
        ((-0.012, -0.020, 0.004), (0.0, 0.0, 0.0), ("wholebody", 0.012)),
        ((0.002, 0.001, 0.003), (-0.02, -0.03, -0.0031), ("hand", 0.02)),
        ((0.05, 0.04, 0.06), (-0.01, -0.02, -0.0029), None),
    ],
)
def test_what_is_too_much(whole, hand, loss):
    assert too_much({"hand": hand, "wholebody": whole}) == loss


def test_names_say_what_is_lost():
    assert file_name("student", "int8", None) == "student.int8.onnx"
    assert file_name("student", "int8", ("wholebody", 0.0123)) == "student.int8-loses-1.2-ap.onnx"
    assert file_name("student", "int8", ("hand", 0.02)) == "student.int8-loses-2.0-ap-hand.onnx"


def judged(keypoints, truth):
    predictions = Predictions(
        truth.image, keypoints, np.ones((len(keypoints), 6)), np.full(len(keypoints), 1e4), truth.annotation_id
    )
    matched = match_wholebody(truth, predictions)
    ap = {part: values["AP"] for part, values in metrics_of(matched).items()}
    return Judged(None, matched, ap, own_box_oks(truth, predictions), None)


@pytest.fixture(scope="module")
def pair():
    """Twenty persons, and the same with the left hand's points moved."""
    rng = np.random.default_rng(0)
    keypoints = rng.random((20, 133, 3)) * 100 + 1
    ids = np.arange(20)
    box, area = np.tile([0.0, 0, 100, 100], (20, 1)), np.full(20, 1e4)
    truth = GroundTruth(ids, ids, ids, keypoints, box, area, np.zeros(20, dtype=bool))
    moved = keypoints.copy()
    moved[:, 91:112, 0] += 8
    return judged(keypoints, truth), judged(moved, truth)


def test_differences_are_paired(pair):
    base, other = pair
    ap, oks = differences(other, base, samples=50)
    assert ap["body"] == oks["body"] == (0, 0, 0)
    found, low, high = ap["lefthand"]
    assert found == pytest.approx(other.ap["lefthand"] - base.ap["lefthand"]) and low <= found <= high < -0.003
    assert oks["lefthand"][0] == pytest.approx(np.nanmean(other.person_oks.oks[:, 3]) - 1)
    assert too_much(ap)[0] in ("wholebody", "lefthand")


def test_a_bad_file_is_warned_of_and_marked_in_the_table(pair):
    base, other = pair
    ap, oks = differences(other, base, samples=50)
    loss = too_much(ap)
    path = Path("models/onnx") / file_name("student", "int8", loss)
    rows = [
        Row("fp32", Path("models/student.onnx"), 2**21, base.ap, {}, {}, {}),
        Row("int8", path, 2**20, other.ap, {}, ap, oks),
    ]
    assert rows[0].warning is None
    assert rows[1].warning.startswith(f"{path}: int8 loses {100 * loss[1]:.1f} AP of the ")
    latency = pd.DataFrame(
        {"machine": "cpu: n 128x96", "batch": [1, 1, 8], "runtime": ["onnxruntime", "onnxruntime int8", "pytorch"]}
        | {"median_ms": [2.5, 1.25, 9.0]}
    )
    text = files_table(rows, latency).markdown()
    assert "| 2.50 |" in text and "| 1.25 |" in text and rows[1].warning in text and "-loses-" in text
