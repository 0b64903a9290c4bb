"""The data set on disk: layout, determinism, resuming."""

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from posedistill.errors import UserError
from posedistill.fingerprint import used_code
from posedistill.synthetic import SceneOptions, generate, render_dataset

SMALL = SceneOptions(sizes=((96, 128), (128, 96)))
COUNT = 36


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def rendered(asset_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("rendered") / "set"
    render_dataset(asset_dir, out, COUNT, 5, 1, options=SMALL, progress=False)
    return out


def test_layout(rendered):
    assert sorted(p.name for p in rendered.iterdir()) == ["annotations.json", "images", "render.json"]
    document = json.loads((rendered / "annotations.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [f"{i:06d}.jpg" for i in range(COUNT)]
    assert document["categories"][0]["name"] == "person"
    annotations = document["annotations"]
    assert [a["id"] for a in annotations] == list(range(1, len(annotations) + 1))
    assert len({a["image_id"] for a in annotations}) > 0.9 * COUNT
    for image in document["images"]:
        with Image.open(rendered / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) and picture.mode == "RGB"
    sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
    for a in annotations:
        assert {"keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"} <= a.keys()
        assert {"foot_valid", "face_valid", "lefthand_valid", "righthand_valid"} <= a.keys()
        assert {"face_box", "lefthand_box", "righthand_box", "mode", "frame"} <= a.keys()
        assert a["iscrowd"] == 0 and a["category_id"] == 1
        assert a["num_keypoints"] == sum(v > 0 for v in a["keypoints"][2::3])
        x, y, w, h = a["bbox"]
        assert w > 0 and h > 0 and x + w <= sizes[a["image_id"]][0] and y + h <= sizes[a["image_id"]][1]


def test_other_worker_count_same_bytes(rendered, asset_dir, tmp_path):
    render_dataset(asset_dir, tmp_path / "set", COUNT, 5, 2, options=SMALL, progress=False)
    assert digest(tmp_path / "set") == digest(rendered)


def test_interrupted_run_continues(rendered, asset_dir, tmp_path, monkeypatch):
    out, calls = tmp_path / "set", []
    draw = generate.render_image

    def fails(asset, seed, index, options):
        calls.append(index)
        if index == 20:
            raise KeyboardInterrupt
        return draw(asset, seed, index, options)

    monkeypatch.setattr(generate, "render_image", fails)
    with pytest.raises(KeyboardInterrupt):
        render_dataset(asset_dir, out, COUNT, 5, 1, options=SMALL, progress=False)
    assert not (out / "annotations.json").exists()
    calls.clear()
    monkeypatch.setattr(generate, "render_image", lambda *a: (calls.append(a[2]), draw(*a))[1])
    render_dataset(asset_dir, out, COUNT, 5, 1, options=SMALL, progress=False)
    assert min(calls) == 16  # the first chunk was kept
    assert digest(out) == digest(rendered)
    calls.clear()
    render_dataset(asset_dir, out, COUNT, 5, 1, options=SMALL, progress=False)
    assert calls == []  # finished
    (out / "images" / "000003.jpg").unlink()
    render_dataset(asset_dir, out, COUNT, 5, 1, options=SMALL, progress=False)
    assert digest(out) == digest(rendered)  # a lost picture is drawn again


def test_other_settings_start_over(rendered, asset_dir, tmp_path):
    out = tmp_path / "set"
    render_dataset(asset_dir, out, 4, 6, 1, options=SMALL, progress=False)
    other = digest(out)
    render_dataset(asset_dir, out, 3, 5, 1, options=SMALL, progress=False)
    mine = digest(out)
    assert "images/000003.jpg" not in mine
    for i in range(3):  # a smaller set is the beginning of a larger one
        assert mine[f"images/{i:06d}.jpg"] == digest(rendered)[f"images/{i:06d}.jpg"] != other[f"images/{i:06d}.jpg"]


def test_a_change_of_the_renderer_starts_over(asset_dir, tmp_path, monkeypatch):
    """Of any function that draws; a comment, or code that only schedules, changes nothing."""
    used = used_code("synthetic.generate:_render_chunk", "synthetic.generate:_merge")
    drawn = {line.partition(":")[0] for line in used}
    room = {f"synthetic.{path.stem}" for path in Path(generate.__file__).parent.glob("*.py")}
    assert room - drawn == {"synthetic.__init__", "synthetic.incomplete"}  # labels are left out as they are read
    out = tmp_path / "set"
    render_dataset(asset_dir, out, 2, 5, 1, options=SMALL, progress=False)
    stamp = (out / "images" / "000000.jpg").stat().st_mtime_ns
    render_dataset(asset_dir, out, 2, 5, 1, options=SMALL, progress=False)
    assert (out / "images" / "000000.jpg").stat().st_mtime_ns == stamp
    monkeypatch.setattr(generate, "code_hash", lambda *entries: "another renderer")
    render_dataset(asset_dir, out, 2, 5, 1, options=SMALL, progress=False)
    assert (out / "images" / "000000.jpg").stat().st_mtime_ns > stamp


def test_two_seeds_share_no_picture(asset_dir):
    one, two = (generate.render_image(asset_dir, seed, 0, SMALL)[0] for seed in (1000, 2000))
    assert one != two


@pytest.mark.parametrize("images, seed, words", [(0, 1, "images is 0"), (5, -1, "seed is -1")])
def test_impossible_numbers(asset_dir, tmp_path, images, seed, words):
    with pytest.raises(UserError, match=words):
        render_dataset(asset_dir, tmp_path / "set", images, seed, 1)
    assert not (tmp_path / "set").exists()


def test_missing_asset(tmp_path):
    with pytest.raises(UserError, match=r"body_asset\.npz"):
        render_dataset(tmp_path, tmp_path / "set", 1, 0, 1)


def test_a_picture_does_not_depend_on_those_drawn_before(asset_dir):
    first = generate.render_image(asset_dir, 5, 7, SMALL)[0]
    generate.render_image(asset_dir, 5, 8, SMALL)
    assert generate.render_image(asset_dir, 5, 7, SMALL)[0] == first
