"""The keypoint tables against those of the published implementation."""

import json
from pathlib import Path

import numpy as np
import pytest

from posedistill import keypoints as kp

GOLDEN = Path(__file__).parent / "golden" / "data" / "coco_wholebody_meta.json"


@pytest.fixture(scope="module")
def meta():
    return json.loads(GOLDEN.read_text())


def test_names_and_parts(meta):
    assert list(kp.NAMES) == meta["names"]
    assert [s.stop - s.start for s in kp.PARTS.values()] == [17, 6, 68, 21, 21]
    covered = [i for s in kp.PARTS.values() for i in range(s.start, s.stop)]
    assert covered == list(range(kp.NUM_KEYPOINTS))


def test_flip(meta):
    assert kp.FLIP_INDICES.tolist() == meta["flip_indices"]
    assert {frozenset(p) for p in kp.FLIP_PAIRS} == {frozenset(p) for p in meta["flip_pairs"]}
    assert (kp.FLIP_INDICES[kp.FLIP_INDICES] == np.arange(kp.NUM_KEYPOINTS)).all()


def test_sigmas(meta):
    # the published values are these decimals held in float32
    np.testing.assert_array_equal(kp.SIGMAS.astype(np.float32), np.array(meta["sigmas"], np.float32))


def test_half_body_ids(meta):
    assert list(kp.UPPER_BODY) == meta["upper_body_ids"]
    assert list(kp.LOWER_BODY) == meta["lower_body_ids"]


def test_skeleton_mirrors_itself():
    links = {frozenset(link) for link in kp.SKELETON}
    assert len(links) == len(kp.SKELETON) == 65
    assert {frozenset((int(kp.FLIP_INDICES[a]), int(kp.FLIP_INDICES[b]))) for a, b in kp.SKELETON} == links
    assert len(kp.SKELETON_COLORS) == 65 and len(kp.KEYPOINT_COLORS) == kp.NUM_KEYPOINTS
