"""A small made-up COCO-WholeBody set, and settings that read it."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from posedistill.keypoints import PARTS

FIELDS = {
    "body": "keypoints",
    "foot": "foot_kpts",
    "face": "face_kpts",
    "lefthand": "lefthand_kpts",
    "righthand": "righthand_kpts",
}
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared():
    """Folder of the real data and of the large reference values; skips where it is not at hand."""
    folder = Path(os.environ.get("POSEDISTILL_SHARED", ROOT.parent / "shared"))
    if not (folder / "real").is_dir():
        pytest.skip("the shared reference data is not at hand")
    return folder


def _picture(seed, width=320, height=240):
    """Smooth random colours with some texture, RGB."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(image + rng.integers(-12, 13, image.shape), 0, 255).astype(np.uint8)


def _annotation(rng, identity, image_id, width, height, **changes):
    """A person somewhere in the picture, all parts labelled; face and hands carry confidences."""
    w, h = rng.uniform(0.2, 0.5) * width, rng.uniform(0.4, 0.9) * height
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    keypoints = np.column_stack([rng.uniform(x, x + w, 133), rng.uniform(y, y + h, 133), np.full(133, 2.0)])
    keypoints[23:, 2] = rng.uniform(0.05, 1, 110)
    entry = {
        "id": identity,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": float(w * h * 0.6),
        "bbox": [float(v) for v in (x, y, w, h)],
        "num_keypoints": 17,
    }
    for part, name in FIELDS.items():
        entry[name] = keypoints[PARTS[part]].round(2).ravel().tolist()
        if part != "body":
            entry[f"{part}_valid"] = True
    return {**entry, **changes}


def _write_coco(folder, images=5, persons=2, seed=0, width=320, height=240, quality=95):
    """folder/images/*.jpg and folder/annotations.json; returns the JSON's content."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    for i in range(images):
        name = f"{i:06d}.jpg"
        picture = cv2.cvtColor(_picture(seed * 1000 + i, width, height), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / "images" / name), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        content["images"].append({"id": 10 + i, "file_name": name, "width": width, "height": height})
        for _ in range(persons):
            identity = 100 + len(content["annotations"])
            content["annotations"].append(_annotation(rng, identity, 10 + i, width, height))
    (folder / "annotations.json").write_text(json.dumps(content))
    return content


@pytest.fixture
def picture():
    return _picture


@pytest.fixture
def annotation():
    return _annotation


@pytest.fixture
def write_coco():
    return _write_coco


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """settings(train=[...], val=[...], **data) → Params over tmp_path/data, with unfinished work kept in tmp_path."""
    from posedistill.params import from_settings, read_settings

    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path))
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "checkpoints"))

    def make(train=None, val=None, size=(128, 96), **data):
        content = read_settings(ROOT / "params.yaml")
        source = {"source": "coco_wholebody", "name": "small", "annotations": "annotations.json", "images": "images"}
        content["data"].update(root=str(tmp_path / "data"), train=train or [source], val=val or [source], **data)
        content["input"] = {"height": size[0], "width": size[1]}
        content["teacher"]["backbone"] = content["student"]["backbone"] = None
        return from_settings(content)

    return make
