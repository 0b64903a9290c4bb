"""Resampling by weights equals evaluating the resampled images."""

import copy

import numpy as np
import pytest
from cases import random_case

from posedistill.evaluation import bootstrap, evaluate_wholebody
from posedistill.evaluation.accumulate import METRICS
from posedistill.evaluation.wholebody import REPORTED, match_wholebody, metrics_of


def distinct(seed, images=8):
    """A case without tied scores: how ties fall between the copies of an image is arbitrary."""
    truth, predictions = random_case(seed, images)
    rng = np.random.default_rng(seed)
    for one in predictions:
        one["score"] = float(rng.random())
    return truth, predictions


def as_array(metrics):
    return np.array([[metrics[part][name] for name in METRICS] for part in REPORTED])


def repeated(truth, predictions, counts):
    """The same images written out as often as they were drawn."""
    ids = sorted(image["id"] for image in truth["images"])
    gt, dt = {"images": [], "annotations": [], "categories": truth["categories"]}, []
    for image, count in zip(ids, counts):
        for copy_ in range(count):
            new = image * 100 + copy_
            gt["images"].append({"id": new})
            for one in truth["annotations"]:
                if one["image_id"] == image:
                    gt["annotations"].append({**one, "image_id": new, "id": len(gt["annotations"]) + 1})
            dt += [{**one, "image_id": new} for one in predictions if one["image_id"] == image]
    return gt, dt


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sample_is_the_evaluation_of_its_images(seed):
    truth, predictions = distinct(seed)
    matched = match_wholebody(truth, predictions)
    resampled = bootstrap.resampled_metrics(matched, samples=4, seed=seed)
    for row, counts in zip(resampled, bootstrap.draws(len(truth["images"]), 4, seed)):
        expected = as_array(evaluate_wholebody(*repeated(truth, predictions, counts)))
        assert row == pytest.approx(expected, abs=1e-12)


def test_compiled_and_plain_accumulation_agree(monkeypatch):
    matched = match_wholebody(*random_case(4, images=12))
    fast = bootstrap.resampled_metrics(matched, samples=20, seed=1)
    monkeypatch.setattr(bootstrap, "_accumulator", lambda: bootstrap.accumulate_rows)
    assert bootstrap.resampled_metrics(matched, samples=20, seed=1) == pytest.approx(fast, abs=1e-12)


def test_same_seed_same_intervals_around_the_metric():
    matched = match_wholebody(*distinct(5, images=30))
    resampled = bootstrap.resampled_metrics(matched, samples=200, seed=3)
    assert np.array_equal(resampled, bootstrap.resampled_metrics(matched, samples=200, seed=3))
    assert not np.array_equal(resampled, bootstrap.resampled_metrics(matched, samples=200, seed=4))
    intervals, metrics = bootstrap.intervals(resampled), metrics_of(matched)
    for part in REPORTED:
        low, high = intervals[part]["AP"]
        assert low < metrics[part]["AP"] < high


def test_paired_interval_is_narrower_than_the_difference_of_two():
    truth, predictions = distinct(6, images=60)
    worse = copy.deepcopy(predictions)
    rng = np.random.default_rng(0)
    for one in worse:
        one["keypoints"] = [x + float(rng.normal(0, 1)) * (i % 3 < 2) for i, x in enumerate(one["keypoints"])]
    a, b = (bootstrap.resampled_metrics(match_wholebody(truth, dt), 300, 0) for dt in (predictions, worse))
    low, high = bootstrap.paired_intervals(a, b)["body"]["AP"]
    ours = bootstrap.intervals(a)["body"]["AP"]
    assert 0 < high - low < (ours[1] - ours[0])
    assert bootstrap.paired_intervals(a, a)["body"]["AP"] == (0, 0)
