"""Pictures without labels: every keypoint has weight 0, boxes come from a file or are the whole picture."""

import json
import os
import unicodedata

import cv2
import numpy as np
import pytest
from PIL import Image

from posedistill.data.feed import loader
from posedistill.data.store.arrow import TrainStore
from posedistill.errors import UserError
from posedistill.pipeline.prepare import prepare


@pytest.fixture
def photos(tmp_path, picture, write_coco):
    write_coco(tmp_path / "data", images=1, persons=1)  # a validation set
    folder = tmp_path / "data" / "photos"
    folder.mkdir(parents=True)
    for i in range(4):
        cv2.imwrite(str(folder / f"p{i}.jpg"), picture(i, 120, 90))
    return folder


SOURCE = {"source": "unlabelled", "name": "own", "images": "photos"}


def test_whole_pictures(tmp_path, photos, settings):
    (photos / "p1.jpg").write_bytes(b"no picture")
    (photos / "._p1.jpg").write_bytes(b"what macOS leaves beside a picture")
    with pytest.raises(UserError, match=r"1 of 4 pictures cannot be used.*p1\.jpg \(image unreadable\)"):
        prepare(settings(train=[SOURCE], size=(64, 64)), tmp_path / "out", workers=1, progress=False)
    P = settings(train=[SOURCE], size=(64, 64), max_broken=0.3)
    report = prepare(P, tmp_path / "out", workers=1, progress=False)
    store = TrainStore(tmp_path / "out" / "train")
    assert len(store) == 3 and not store.column("keypoints").any()
    assert report.funnels[0]["dropped"] == {"image unreadable": 1} and report.funnels[0]["read"] == 4
    assert [case["picture"] for case in report.broken] == ["p1.jpg"]
    batch = next(loader.TrainLoader(store, P.input, lambda _: P.augment, batch=3, seed=0).epoch(0))
    assert not batch.keypoints.any() and batch.images.any()


def test_boxes_by_place_or_by_name(tmp_path, photos, settings):
    boxes = [
        {"image_id": 0, "bbox": [5, 5, 50, 60], "score": 0.9},
        {"image_id": 785, "file_name": "p2.jpg", "bbox": [10, 5, 50, 60], "score": 0.8},
        {"file_name": "p2.jpg", "bbox": [10, 5, 0, 60], "score": 0.8},
    ]
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
    source = {**SOURCE, "detections": "boxes.json"}
    report = prepare(settings(train=[source]), tmp_path / "out", workers=1, progress=False)
    store = TrainStore(tmp_path / "out" / "train")
    assert store.column("image_id").tolist() == [0, 2]
    assert report.funnels[0]["dropped"] == {"empty box": 1}
    np.testing.assert_allclose(store[0].box, [5, 5, 50, 60])
    for name, message in (("absent.jpg", "there is no picture absent.jpg"), (["p2.jpg"], "expected a file name")):
        boxes[1]["file_name"] = name
        (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
        with pytest.raises(UserError, match=rf"detections\[1\]: file_name: .*{message}"):
            prepare(settings(train=[source]), tmp_path / "out", workers=1, progress=False)


def test_boxes_of_pictures_that_are_not_there(tmp_path, photos, settings):
    boxes = [{"image_id": 9, "bbox": [5, 5, 50, 60], "score": 0.9}]
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
    P = settings(train=[{**SOURCE, "detections": "boxes.json"}])
    with pytest.raises(UserError, match=r"no person is left to train on: .*no such picture in this source \(1\)"):
        prepare(P, tmp_path / "out", workers=1, progress=False)


@pytest.mark.parametrize("ids", [(1, 2), (2, 7)])
def test_image_ids_that_are_the_numbers_of_names(tmp_path, photos, settings, ids):
    """As in COCO, and as `predict` reads and writes them; numbers that belong to no picture are told."""
    for number, path in enumerate(sorted(photos.iterdir()), 1):
        path.rename(photos / f"{number:012d}.jpg")
    boxes = [{"image_id": number, "bbox": [5, 5, 50, 60], "score": 0.9} for number in ids]
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
    P = settings(train=[{**SOURCE, "detections": "boxes.json"}], size=(64, 64))
    report = prepare(P, tmp_path / "out", workers=1, progress=False)
    places = {number - 1 for number in ids if number < 7}
    store = TrainStore(tmp_path / "out" / "train")
    assert {store[i].image_id for i in range(len(store))} == places
    funnel = report.funnels[0]
    assert funnel["notes"] == {"boxes whose image_id is the number in a picture's name": 2}
    assert funnel["dropped"] == ({"no such picture in this source": 1} if 7 in ids else {})


def test_boxes_beside_their_picture_are_dropped(tmp_path, photos, settings):
    boxes = [
        {"image_id": 0, "bbox": box, "score": 0.9} for box in ([5, 5, 50, 60], [900, 900, 50, 50], [-60, 5, 50, 50])
    ]
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
    P = settings(train=[{**SOURCE, "detections": "boxes.json"}], size=(64, 64))
    report = prepare(P, tmp_path / "out", workers=1, progress=False)
    assert report.funnels[0]["kept"] == 1 and report.funnels[0]["dropped"] == {"box outside the image": 2}


def test_frames_of_a_fast_video_are_counted_as_the_video_counts_them(tmp_path, photos, settings):
    writer = cv2.VideoWriter(str(tmp_path / "data" / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 60, (96, 64))
    for number in range(40):
        writer.write(np.full((64, 96, 3), 250 if number == 31 else 10, np.uint8))
    writer.release()
    boxes = [{"image_id": number, "bbox": [0, 0, 90, 60], "score": 0.9} for number in (30, 31)]
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
    source = {**SOURCE, "images": "v.mp4", "step": 1, "detections": "boxes.json"}
    prepare(settings(train=[source], size=(64, 64)), tmp_path / "out", workers=1, progress=False)
    store = TrainStore(tmp_path / "out" / "train")
    brightness = {store[i].image_id: store[i].pixels().mean() for i in range(len(store))}
    assert brightness[31] > 200 and brightness[30] < 50


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_pictures_that_lie_on_their_side(tmp_path, photos, settings, suffix):
    for path in photos.iterdir():
        path.unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 64)).save(photos / f"p.{suffix}", exif=exif)
    report = prepare(settings(train=[SOURCE], size=(64, 64)), tmp_path / "out", workers=1, progress=False)
    assert not report.broken and TrainStore(tmp_path / "out" / "train")[0].box[2:].tolist() == [64, 96]
    assert report.funnels[0]["notes"] == {"picture: turned upright by its EXIF orientation": 1}


def test_names_in_another_encoding(tmp_path, photos, settings):
    try:
        (photos / "p0.jpg").rename(photos / os.fsdecode(b"caf\xe9.jpg"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    (photos / "p1.jpg").write_bytes(b"x")
    P = settings(train=[SOURCE], size=(64, 64), max_broken=0.3)
    prepare(P, tmp_path / "out", workers=1, progress=False)
    assert len(TrainStore(tmp_path / "out" / "train")) == 3
    (photos / "p1.jpg").rename(photos / os.fsdecode(b"d\xe9.jpg"))
    report = prepare(P, tmp_path / "out", workers=1, progress=False)
    assert [case["picture"] for case in report.broken] == [r"d\xe9.jpg"]


def test_video(tmp_path, photos, settings):
    writer = cv2.VideoWriter(str(tmp_path / "data" / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30, (96, 64))
    for i in range(25):
        writer.write(np.full((64, 96, 3), 10 * i, np.uint8))
    writer.release()
    source = {**SOURCE, "images": "v.mp4", "step": 10}
    prepare(settings(train=[source]), tmp_path / "out", workers=1, progress=False)
    store = TrainStore(tmp_path / "out" / "train")
    levels = [store[i].pixels().mean() for i in range(len(store))]
    assert len(store) == 3 and np.abs(np.array(levels) - [0, 100, 200]).max() < 8


def test_a_video_of_29_97_frames_a_second_ends_where_it_ends(tmp_path, photos, settings):
    writer = cv2.VideoWriter(str(tmp_path / "data" / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30000 / 1001, (32, 32))
    for _ in range(1000):
        writer.write(np.zeros((32, 32, 3), np.uint8))
    writer.release()
    report = prepare(
        settings(train=[{**SOURCE, "images": "v.mp4", "step": 20}]), tmp_path / "out", workers=1, progress=False
    )
    assert len(TrainStore(tmp_path / "out" / "train")) == 50 and not report.broken


@pytest.mark.parametrize(("images", "message"), [("absent", "neither a folder"), ("empty", "no pictures")])
def test_nothing_there(tmp_path, photos, settings, images, message):
    (tmp_path / "data" / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        prepare(settings(train=[{**SOURCE, "images": images}]), tmp_path / "out", workers=1, progress=False)


def test_not_for_validation(tmp_path, photos, settings):
    with pytest.raises(UserError, match="unlabelled"):
        prepare(settings(val=[SOURCE]), tmp_path / "out", workers=1, progress=False)


def test_every_picture_of_a_folder_is_used_or_named(tmp_path, photos, settings):
    """Whatever its suffix, as in `predict`; what is no picture of this folder is named, too."""
    image = Image.open(photos / "p0.jpg")
    for name in ("a.gif", "b.avif", "c.jp2", "d.png", "e.TIFF"):
        image.save(photos / name)
    (photos / "f.heic").write_bytes(b"of a kind that cannot be read")
    (photos / "g.jpg").symlink_to("g.jpg")
    os.mkfifo(photos / "h.jpg")
    Image.new("1", (20_000, 20_000)).save(photos / "j.png")
    (photos / "notes.txt").write_text("no picture")
    (photos / "v.mp4").write_bytes(b"a video")
    (photos / "deeper").mkdir()
    (photos / "deeper" / "again").symlink_to(photos)
    image.save(photos / "deeper" / "i.jpg")
    report = prepare(
        settings(train=[SOURCE], size=(64, 64), max_broken=0.3), tmp_path / "out", workers=1, progress=False
    )
    funnel = report.funnels[0]
    assert (funnel["read"], funnel["kept"]) == (14, 10)
    assert {case["picture"]: case["reason"] for case in report.broken} == {
        "f.heic": "image unreadable",
        "g.jpg": "image cannot be opened",
        "h.jpg": "not a plain file",
        "j.png": "image larger than 178 million pixels",
    }
    assert funnel["dropped"] == dict.fromkeys((case["reason"] for case in report.broken), 1)
    assert funnel["notes"]["video in a folder of pictures, not read"] == 1
    assert funnel["examples"]["video in a folder of pictures, not read"] == ["v.mp4"]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "FFV1"), ("avi", "MJPG")])
def test_a_video_that_was_cut_off_is_counted_and_named(tmp_path, photos, settings, suffix, codec):
    path = tmp_path / "data" / f"v.{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (96, 64))
    for i in range(20):
        writer.write(np.random.default_rng(i).integers(0, 255, (64, 96, 3), np.uint8))
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    source = {**SOURCE, "images": path.name, "step": 5}
    with pytest.raises(UserError, match=rf"1 of 4 pictures cannot be used.*v\.{suffix}#15 \(video frame missing\)"):
        prepare(settings(train=[source], size=(64, 64)), tmp_path / "out", workers=1, progress=False)
    P = settings(train=[source], size=(64, 64), max_broken=0.5)
    funnel = prepare(P, tmp_path / "out", workers=1, progress=False).funnels[0]
    assert (funnel["read"], funnel["kept"], funnel["dropped"]) == (4, 3, {"video frame missing": 1})
    assert funnel["examples"]["video cut off: its last frames are missing"] == [path.name]


def test_names_are_compared_however_their_umlauts_are_written(tmp_path, photos, settings):
    (photos / "p0.jpg").rename(photos / unicodedata.normalize("NFD", "größe.jpg"))
    boxes = [
        {"file_name": "größe.jpg", "bbox": [5, 5, 50, 60], "score": 0.9},
        {"file_name": None, "image_id": 3, "bbox": [10, 5, 50, 60], "score": 0.8},
    ]
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
    P = settings(train=[{**SOURCE, "detections": "boxes.json"}], size=(64, 64))
    prepare(P, tmp_path / "out", workers=1, progress=False)
    places = [path.name for path in sorted(photos.iterdir())]
    used = [places[i] for i in TrainStore(tmp_path / "out" / "train").column("image_id")]
    assert [unicodedata.normalize("NFC", name) for name in used] == ["größe.jpg", places[3]]
