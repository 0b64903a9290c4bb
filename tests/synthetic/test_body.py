"""The shipped asset and the posed body: checksums, keypoints on the body, left and right."""

import hashlib
import json
import re

import numpy as np
import pytest
from scipy.spatial import cKDTree

from posedistill.errors import UserError
from posedistill.keypoints import FLIP_PAIRS, NAMES, PARTS
from posedistill.synthetic.body import Body
from posedistill.synthetic.poses import MODES, sample_pose
from posedistill.synthetic.shapes import sample_expression, sample_phenotype


def test_checksums(asset_dir):
    listed = dict(re.findall(r"^\| `(\S+)` \| `([0-9a-f]{64})` \|$", (asset_dir / "README.md").read_text(), re.M))
    assert sorted(listed) == ["body_asset.npz", "mapping.json"]
    for name, digest in listed.items():
        assert hashlib.sha256((asset_dir / name).read_bytes()).hexdigest() == digest, name


def test_mapping_is_what_the_asset_holds(asset_dir):
    entries = json.loads((asset_dir / "mapping.json").read_text())["keypoints"]
    assert len(entries) == 133
    with np.load(asset_dir / "body_asset.npz") as a:
        for k, entry in enumerate(entries):
            mine = a["kp_row"] == k
            held = dict(zip(a["kp_col"][mine].tolist(), a["kp_w"][mine].tolist()))
            wanted = {v: w for v, w in zip(entry["v"], entry["w"]) if w}
            assert held == pytest.approx(wanted), entry["name"]


def test_names_follow_coco_wholebody(studio):
    names = studio.body.keypoint_names
    assert names[:23] == list(NAMES)[:23]
    assert all(n.startswith("face-") for n in names[PARTS["face"]])
    assert all(n.startswith("left_hand") for n in names[PARTS["lefthand"]])
    assert all(n.startswith("right_hand") for n in names[PARTS["righthand"]])


def test_rest_pose_is_symmetric_and_left_is_left(studio):
    points = studio.body.keypoints(studio.body.canonical.vertices)
    mirrored = points * [-1, 1, 1]
    for left, right in FLIP_PAIRS:
        assert np.linalg.norm(points[left] - mirrored[right]) < 0.02, NAMES[left]
    # +x is the person's left
    for name in ("left_wrist", "left_shoulder", "left_hip", "left_ankle", "left_big_toe", "left_ear"):
        assert points[list(NAMES).index(name), 0] > 0.03
    assert (points[PARTS["lefthand"], 0] > 0.2).all() and (points[PARTS["righthand"], 0] < -0.2).all()
    # the hands hang on their own wrists, the feet on their own ankles
    assert np.linalg.norm(points[91] - points[9]) < 0.06 and np.linalg.norm(points[112] - points[10]) < 0.06
    assert points[17, 0] > 0 > points[20, 0]
    # upright, looking to −y
    assert points[0, 2] > points[5, 2] > points[11, 2] > points[13, 2] > points[15, 2]
    assert points[0, 1] < points[3, 1] and points[17, 1] < points[19, 1]


@pytest.mark.parametrize("mode", MODES)
def test_every_keypoint_stays_at_the_body(studio, mode):
    """Joints lie inside the flesh, face and finger tips on the skin, whatever the pose."""
    body, rng = studio.body, np.random.default_rng(3)
    for _ in range(2):
        phenotype = sample_phenotype(rng)
        rest = body.rest(phenotype, sample_expression(rng))
        pose = sample_pose(rng, body, rest, studio.penetration, phenotype["weight"], mode)
        posed = body.skin(rest, pose.transforms)
        points = body.keypoints(posed)
        distance = cKDTree(posed[: body.skin_count]).query(points)[0] / rest.height * 1.7
        assert distance[:23].max() < 0.16
        assert distance[PARTS["face"]].max() < 0.015
        for hand in ("lefthand", "righthand"):
            assert distance[PARTS[hand]][1:].max() < 0.022
            assert distance[PARTS[hand]][[4, 8, 12, 16, 20]].max() < 0.006
        # bones keep their lengths: the forearm is as long as in the rest pose
        heads = body.joints(rest.heads, pose.transforms)
        for side in "LR":
            a, b = body.bone[f"lowerarm01.{side}"], body.bone[f"wrist.{side}"]
            assert np.linalg.norm(heads[a] - heads[b]) == pytest.approx(
                np.linalg.norm(rest.heads[a] - rest.heads[b]), rel=1e-3
            )
        assert pose.depth < 0.05


def test_arms_bend_the_way_elbows_do(studio):
    """No elbow is bent backwards or beyond what flesh allows, and few arms end up inside the body."""
    body, rng = studio.body, np.random.default_rng(4)
    deep = 0
    for k in range(60):
        phenotype = sample_phenotype(rng)
        rest = body.rest(phenotype)
        pose = sample_pose(rng, body, rest, studio.penetration, phenotype["weight"], list(MODES)[k % len(MODES)])
        deep += pose.depth > 0.01
        joints = body.joints(rest.heads, pose.transforms)
        for side in "LR":
            s, e, w = (joints[body.bone[f"{b}.{side}"]] for b in ("upperarm01", "lowerarm01", "wrist"))
            upper, fore = e - s, w - e
            bend = np.rad2deg(np.arccos(upper @ fore / np.linalg.norm(upper) / np.linalg.norm(fore)))
            assert bend < 150
    assert deep <= 3


def test_shape_space_reaches_children_and_adults(studio):
    heights = [studio.body.rest({"age": age}).height for age in (0.3, 0.45, 0.67)]
    assert heights[0] < heights[1] < heights[2] and heights[0] < 1.35 < 1.55 < heights[2]


def test_weight_adds_volume(studio):
    def volume(weight):
        v = studio.body.rest({"age": 0.67, "weight": weight}).vertices[studio.body.faces["body"]]
        return np.einsum("fi,fi->", v[:, 0], np.cross(v[:, 1], v[:, 2])) / 6

    assert 0.03 < volume(0.1) < 0.9 * volume(0.9) < 0.2  # cubic metres; outward faces give a positive sign


def test_missing_asset_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"body_asset\.npz.*missing"):
        Body(tmp_path)
