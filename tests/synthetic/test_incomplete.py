"""Left-out labels of rendered people: rates, nesting, and what always stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedistill.errors import UserError
from posedistill.keypoints import PARTS
from posedistill.params import from_settings
from posedistill.synthetic.incomplete import drop_labels

ALL = {"foot": 1.0, "face": 1.0, "hand": 1.0, "occluded": 1.0}
share = st.floats(0, 1)


def person(seed=0):
    keypoints = np.random.default_rng(seed).uniform(1, 90, (133, 3)).astype(np.float32)
    keypoints[:, 2] = 2
    keypoints[[3, 9, 10], 2] = 1
    keypoints[5] = 0
    return keypoints


def test_rates_of_one_and_zero():
    np.testing.assert_array_equal(drop_labels(person(), ALL, 1000, 7), person())
    kept = drop_labels(person(), dict.fromkeys(ALL, 0.0), 1000, 7)
    assert not kept[PARTS["body"].stop :].any() and not kept[[3, 9, 10]].any()
    visible = [i for i in range(17) if i not in (3, 5, 9, 10)]
    np.testing.assert_array_equal(kept[visible], person()[visible])


@given(share, share, share, share, st.integers(0, 2**32 - 1), st.integers(1, 10**6))
def test_a_lower_rate_keeps_a_subset_and_changes_no_point(foot, face, hand, occluded, seed, number):
    rates = {"foot": foot, "face": face, "hand": hand, "occluded": occluded}
    some = drop_labels(person(), rates, seed, number)
    fewer = drop_labels(person(), {name: rate / 2 for name, rate in rates.items()}, seed, number)
    for small, large in ((fewer, some), (some, person())):
        kept = small[:, 2] > 0
        np.testing.assert_array_equal(small[kept], large[kept])
        assert not small[~kept].any()


def test_shares_over_many_persons_are_the_rates():
    rates = {"foot": 0.5, "face": 0.25, "hand": 0.4, "occluded": 0.7}
    kept = np.mean([drop_labels(person(), rates, 0, n)[:, 2] > 0 for n in range(1, 4001)], axis=0)
    for part, rate in (("foot", 0.5), ("face", 0.25), ("lefthand", 0.4), ("righthand", 0.4)):
        np.testing.assert_allclose(kept[PARTS[part]], rate, atol=0.03)
    np.testing.assert_allclose(kept[[3, 9, 10]], 0.7, atol=0.03)


def test_only_training_sets_may_lack_labels():
    source = {"source": "synthetic", "name": "r", "images": 1, "seed": 1, "labels": dict(ALL)}
    plain = {name: value for name, value in source.items() if name != "labels"}
    assert from_settings({"data": {"train": [source], "val": [plain]}}, "prepare").data.train[0].labels.face == 1
    with pytest.raises(UserError, match=r"data.val\[0\].labels: validation labels stay complete"):
        from_settings({"data": {"train": [plain], "val": [source]}}, "prepare")
    with pytest.raises(UserError, match=r"data.train\[0\].labels.face: found 2, allowed: a number >= 0 and <= 1"):
        from_settings({"data": {"train": [{**source, "labels": {**ALL, "face": 2}}], "val": [plain]}}, "prepare")
