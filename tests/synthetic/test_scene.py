"""Pictures and their labels."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posedistill.keypoints import PARTS
from posedistill.synthetic import SceneOptions
from posedistill.synthetic.annotate import annotate
from posedistill.synthetic.generate import render_image
from posedistill.synthetic.poses import MODES

PORTRAIT = SceneOptions(sizes=((216, 288),), frames={"full": 1}, persons={1: 1}, modes={"stand": 1}, occluder=0)


def draw(studio, index, options):
    return studio.draw(np.random.default_rng([11, index]), options)


@pytest.mark.parametrize("mode", MODES)
def test_full_figures(studio, mode):
    """A whole person in the picture: all points in it, the box around them, enough of them visible."""
    options = SceneOptions(frames={"full": 1}, persons={1: 1}, modes={mode: 1}, occluder=0, seat=0)
    for index in range(3):
        scene = draw(studio, index, options)
        person = scene.persons[0]
        assert person.mode == mode and scene.frame == "full"
        height, width = scene.image.shape[:2]
        assert scene.image.dtype == np.uint8 and scene.image.std() > 5
        xy, v = person.keypoints[:, :2], person.keypoints[:, 2]
        assert (v > 0).mean() > 0.95 and (v == 2).mean() > 0.25
        x, y, w, h = person.box
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        slack = 0.04 * max(w, h)
        inside = (xy >= [x - slack, y - slack]) & (xy <= [x + w + slack, y + h + slack])
        assert inside[v > 0].all()
        assert 0.04 * w * h < person.area <= w * h
        assert max(w / width, h / height) > 0.5


def test_labels_of_many_scenes(studio):
    seen = {1: 0, 2: 0, 0: 0}
    for index in range(24):
        scene = draw(studio, index, SceneOptions())
        height, width = scene.image.shape[:2]
        for person in scene.persons:
            xy, v = person.keypoints[:, :2], person.keypoints[:, 2]
            assert set(np.unique(v)) <= {0.0, 1.0, 2.0}
            labelled = v > 0
            assert (xy[labelled] >= 0).all() and (xy[labelled] < [width, height]).all()
            assert (xy[~labelled] == 0).all()
            for k in seen:
                seen[k] += int((v == k).sum())
        for entry in annotate(scene, index):
            assert entry["area"] >= 150 and entry["num_keypoints"] >= 3
            assert [len(entry[f"{p}_kpts"]) for p in ("foot", "face", "lefthand", "righthand")] == [18, 204, 63, 63]
            for part in ("face", "lefthand", "righthand"):
                flags = np.array(entry[f"{part}_kpts"]).reshape(-1, 3)[:, 2]
                assert entry[f"{part}_valid"] == bool(flags.any())
                assert (max(entry[f"{part}_box"]) > 0) == entry[f"{part}_valid"]
    assert min(seen.values()) > 100


def test_facing_the_camera_left_is_on_the_right(studio):
    """Left and right are the person's own."""
    facing = 0
    for index in range(12):
        k = draw(studio, index, PORTRAIT).persons[0].keypoints
        if (k[PARTS["face"], 2] == 2).mean() < 0.95:
            continue  # seen from the side or from behind
        facing += 1
        assert k[5, 0] > k[6, 0] and k[11, 0] > k[12, 0]  # shoulders, hips
        face = k[PARTS["face"]]
        assert face[42:48, 0].mean() > face[36:42, 0].mean()  # iBUG 42–47 is the person's left eye
        assert face[0, 0] < face[16, 0]
    assert facing >= 3


def test_hidden_points_are_marked(studio):
    """An ear behind the head and a far hip are hidden; an occluder hides more."""
    behind = 0
    for index in range(14):
        k = draw(studio, index, PORTRAIT).persons[0].keypoints
        if k[5, 0] < k[6, 0]:  # from behind
            behind += 1
            assert k[0, 2] == 1 and (k[PARTS["face"], 2] == 2).mean() < 0.6
    assert behind >= 1
    frames = {"sizes": ((256, 256),), "persons": {1: 1}}
    hidden = [
        sum(
            (p.keypoints[:, 2] == 1).sum()
            for i in range(16)
            for p in draw(studio, i, SceneOptions(**frames, occluder=o)).persons
        )
        for o in (0.0, 1.0)
    ]
    assert hidden[1] > hidden[0]


def test_close_framings_show_large_faces_and_hands(studio):
    def median_side(part, options):
        boxes = [
            e[f"{part}_box"] for i in range(16) for e in annotate(draw(studio, i, options), i) if e[f"{part}_valid"]
        ]
        return np.median([max(b[2:]) for b in boxes])

    one = {"persons": {1: 1}, "occluder": 0}
    assert median_side("face", SceneOptions(frames={"close": 1}, **one)) > 45
    assert median_side("face", SceneOptions(frames={"full": 1}, **one)) < 30
    assert median_side("lefthand", SceneOptions(frames={"upper": 1}, **one)) > 20


def test_same_bytes_by_numpy_and_on_another_processor(asset_dir):
    """The NumPy twins of the compiled loops give the same pictures, even where other instructions are at hand."""
    script = (
        "import hashlib, json, sys\n"
        "sys.path.append(sys.argv[2])\n"
        "import kernels_numpy\n"
        "from posedistill.synthetic import SceneOptions, kernels\n"
        "from posedistill.synthetic.generate import render_image\n"
        "for name in ('skin', 'vertex_normals', 'rasterize', 'shade'):\n"
        "    setattr(kernels, name, getattr(kernels_numpy, name))\n"
        "for i in range(6):\n"
        "    jpeg, _, people = render_image(sys.argv[1], 77, i, SceneOptions())\n"
        "    print(json.dumps([hashlib.sha256(jpeg).hexdigest(), people]))\n"
    )
    # an older processor, as far as the libraries can pretend to be on one
    env = os.environ | {
        "OPENBLAS_CORETYPE": "Nehalem",
        "OPENCV_CPU_DISABLE": "AVX2,AVX512_SKX",
    }
    run = subprocess.run(
        [sys.executable, "-c", script, str(asset_dir), str(Path(__file__).parent)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [render_image(asset_dir, 77, i, SceneOptions()) for i in range(6)]
    expected = [json.dumps([hashlib.sha256(jpeg).hexdigest(), people]) for jpeg, _, people in ours]
    assert run.stdout.splitlines() == expected
