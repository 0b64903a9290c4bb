"""The pictures of `make unlabelled`: those of the training set, with boxes and without keypoints."""

import json
from pathlib import Path

import pytest

from posedistill.experiments import unlabelled

SETTINGS = {"data": {"root": "data", "train": [{"source": "synthetic", "name": "rendered", "images": 1, "seed": 7}]}}


@pytest.fixture
def rendered(monkeypatch, tmp_path):
    """Rendering replaced by one picture with two persons and a crowd; → how often it was called."""
    calls = []

    def render(body, out, images, seed, workers=None):
        calls.append((images, seed))
        (out / "images").mkdir(parents=True)
        (out / "images" / "000000.jpg").write_bytes(b"picture")
        people = [
            {"image_id": 0, "bbox": [1, 2, 3, 4], "keypoints": [5, 6, 2] * 17, "iscrowd": 0},
            {"image_id": 0, "bbox": [5, 6, 7, 8], "keypoints": [5, 6, 2] * 17},
            {"image_id": 0, "bbox": [0, 0, 9, 9], "keypoints": [0] * 51, "iscrowd": 1},
        ]
        truth = {"images": [{"id": 0, "file_name": "000000.jpg"}], "annotations": people}
        (out / "annotations.json").write_text(json.dumps(truth))

    monkeypatch.setattr("posedistill.synthetic.render_dataset", render)
    for name in ("data/body/body_asset.npz", "models/teacher.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"content")
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.chdir(tmp_path)
    return calls


def test_only_pictures_and_boxes_are_left(rendered):
    unlabelled.write_pictures(SETTINGS)
    (source,) = unlabelled.changes(SETTINGS)["data.train"]
    images, boxes_file = Path(source["images"]), Path(source["detections"])
    assert sorted(path.name for path in images.parent.iterdir()) == ["boxes.json", "images"]
    boxes = json.loads(boxes_file.read_text())
    assert [box["bbox"] for box in boxes] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert {box["file_name"] for box in boxes} == {path.name for path in images.iterdir()} == {"000000.jpg"}
    assert "keypoints" not in boxes_file.read_text()


def test_the_teacher_lies_beside_them(rendered):
    unlabelled.write_pictures(SETTINGS)
    teacher = unlabelled.changes(SETTINGS)["teacher.checkpoint"]
    assert Path(teacher["path"]).read_bytes() == b"content"


def test_finished_pictures_are_not_rendered_again(rendered):
    unlabelled.write_pictures(SETTINGS)
    unlabelled.write_pictures(SETTINGS)
    assert rendered == [(1, 7)]
