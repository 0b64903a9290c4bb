"""Mean OKS of each labelled person's own prediction, and paired differences of it."""

import numpy as np
import pytest
from cases import random_case

from posedistill.errors import UserError
from posedistill.evaluation.mean_oks import (
    mean_of,
    mean_oks,
    mean_oks_intervals,
    paired_mean_oks_difference,
    person_oks,
)
from posedistill.evaluation.records import FIELDS
from posedistill.keypoints import NUM_KEYPOINTS, PARTS, SIGMAS
from posedistill.pipeline.evaluation_files import read_person_oks, write_person_oks


def own_box_case(seed=0, spread=3.0, images=20):
    truth, _ = random_case(seed, images)
    rng = np.random.default_rng(seed)
    predictions = []
    for one in truth["annotations"]:
        guess = {"image_id": one["image_id"], "score": 0.5, "annotation_id": one["id"]}
        for field in FIELDS.values():
            keypoints = np.array(one[field]).reshape(-1, 3)
            keypoints[:, :2] += rng.normal(0, spread, keypoints[:, :2].shape)
            guess[field] = keypoints.ravel().tolist()
        predictions.append(guess)
    return truth, predictions


def by_hand(truth, predictions, part):
    """The definition, one person at a time."""
    guesses = {one["annotation_id"]: one for one in predictions}
    values = []
    for one in truth["annotations"]:
        true = np.concatenate([np.array(one[field]).reshape(-1, 3) for field in FIELDS.values()])[part]
        seen = true[:, 2] > 0
        if one["iscrowd"] or not seen.any():
            continue
        if one["id"] not in guesses:
            values.append(0.0)
            continue
        guess = np.concatenate([np.array(guesses[one["id"]][field]).reshape(-1, 3) for field in FIELDS.values()])[part]
        squared = ((true - guess)[seen, :2] ** 2).sum(axis=1)
        values.append(np.exp(-squared / (2 * one["area"] * (2 * SIGMAS[part][seen]) ** 2)).mean())
    return np.mean(values)


def test_is_the_definition():
    truth, predictions = own_box_case()
    del predictions[3]  # a person without a prediction counts with 0
    found = mean_oks(truth, predictions[::-1])
    for part, where in {**PARTS, "wholebody": slice(0, NUM_KEYPOINTS)}.items():
        assert found[part] == pytest.approx(by_hand(truth, predictions, where), abs=1e-12), part
    assert found["hand"] == pytest.approx((found["lefthand"] + found["righthand"]) / 2)


def test_needs_own_boxes():
    truth, predictions = own_box_case()
    for one in predictions:
        del one["annotation_id"]
    with pytest.raises(UserError, match="annotation_id"):
        mean_oks(truth, predictions)


def test_paired_difference_tells_a_small_gain_from_none():
    truth, good = own_box_case(spread=2.0, images=60)
    _, bad = own_box_case(spread=2.4, images=60)
    a, b = person_oks(truth, good), person_oks(truth, bad)
    mean, low, high = paired_mean_oks_difference([a], [b], samples=500, seed=0)["wholebody"]
    assert mean == pytest.approx(mean_of(a)["wholebody"] - mean_of(b)["wholebody"])
    assert 0 < low < mean < high
    alone = mean_oks_intervals(a, samples=500, seed=0)["wholebody"]
    assert high - low < alone[1] - alone[0]
    assert paired_mean_oks_difference([a, b], [b, a])["wholebody"] == pytest.approx((0, 0, 0), abs=1e-15)


def test_seeds_are_averaged():
    truth, one = own_box_case(1, 2.0)
    _, two = own_box_case(1, 4.0)
    _, base = own_box_case(1, 5.0)
    runs = [person_oks(truth, dt) for dt in (one, two, base)]
    both = paired_mean_oks_difference(runs[:2], runs[2:])["body"][0]
    single = [paired_mean_oks_difference([run], runs[2:])["body"][0] for run in runs[:2]]
    assert both == pytest.approx(np.mean(single))


def test_other_persons_cannot_be_paired():
    with pytest.raises(UserError, match="different persons"):
        paired_mean_oks_difference([person_oks(*own_box_case(0))], [person_oks(*own_box_case(1))])


def test_file_keeps_what_was_written(tmp_path):
    persons = person_oks(*own_box_case())
    write_person_oks(tmp_path / "oks.json", persons)
    again = read_person_oks(tmp_path / "oks.json")
    assert np.array_equal(again.annotation_id, persons.annotation_id)
    assert np.array_equal(again.image_id, persons.image_id)
    np.testing.assert_allclose(again.oks, persons.oks, atol=1e-6)
