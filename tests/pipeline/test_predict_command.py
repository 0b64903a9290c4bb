"""`predict` from the command line: what it writes, what it says, and its exit code."""

import errno
import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from made_up_detector import constant_detector
from PIL import Image
from predict_runs import images, predict, results

from posedistill.errors import UserError
from posedistill.evaluation import evaluate_wholebody
from posedistill.export.onnx_file import export_onnx
from posedistill.inference.videos import VideoOut
from posedistill.models.checkpoint import save_checkpoint
from posedistill.sources.videos import probe, rgb


def test_a_folder_without_boxes(folder, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(folder, "--weights", weights, "--out", out, "--batch", 2) == 0
    said = capsys.readouterr().out
    assert "runs on the CPU" in said
    assert "each whole picture is taken as one person" in said
    assert "3 persons in 3 pictures" in said
    entries = results(out)
    assert [entry["file_name"] for entry in entries] == ["a.jpg", "a.png", "b.jpg"]
    assert [entry["image_id"] for entry in entries] == [0, 1, 2]
    assert all(len(entry["keypoints"]) == 399 and entry["category_id"] == 1 for entry in entries)
    # two pictures of the same stem have drawings of their own
    assert sorted(file.name for file in (out / "overlay").iterdir()) == ["a.jpg.jpg", "a.png.jpg", "b.jpg"]
    assert sorted(file.name for file in (out / "openpose").iterdir()) == ["a.jpg.png", "a.png.png", "b.png"]
    drawn = np.array(Image.open(out / "openpose" / "b.png"))
    assert drawn.shape == (60, 80, 3) and drawn.any()


def test_boxes_say_who_is_where_and_results_can_be_evaluated(folder, weights, tmp_path, capsys):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(
        json.dumps({"a.jpg": [[0, 0, 40, 60], [40, 0, 40, 60], [0, 0, 9, 9, 0.1]], "b.jpg": [[9, 9, 30, 30]]})
    )
    out = tmp_path / "out"
    assert predict(folder, "--weights", weights, "--out", out, "--boxes", boxes, "--no-drawings", "--flip-test") == 0
    assert "1 of them have no box" in capsys.readouterr().out
    entries = results(out)
    assert [(entry["image_id"], entry["box"]) for entry in entries] == [
        (0, [0, 0, 40, 60]),
        (0, [40, 0, 40, 60]),
        (2, [9, 9, 30, 30]),
    ]
    assert not (out / "overlay").exists()
    truth = _as_ground_truth(entries)
    assert evaluate_wholebody(truth, out / "keypoints.json")["wholebody"]["AP"] == pytest.approx(1)


def _as_ground_truth(entries):
    """The results as the labels of a COCO-WholeBody file: judged on itself, a prediction is perfect."""
    fields = {"keypoints": (0, 17), "foot_kpts": (17, 23), "face_kpts": (23, 91), "lefthand_kpts": (91, 112)}
    fields["righthand_kpts"] = (112, 133)
    annotations = []
    for number, entry in enumerate(entries):
        points = np.array(entry["keypoints"]).reshape(133, 3)
        points[:, 2] = 2
        parts = {field: points[low:high].ravel().tolist() for field, (low, high) in fields.items()}
        annotation = {"id": number + 1, "image_id": entry["image_id"], "category_id": 1, "iscrowd": 0, "area": 4000.0}
        annotations.append(annotation | parts | {"bbox": entry["box"], "num_keypoints": 17})
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 60, "width": 80} for i in range(3)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def test_damaged_pictures_are_listed_and_the_exit_code_tells(folder, weights, tmp_path, capsys):
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])
    out = tmp_path / "out"
    assert predict(folder, "--weights", weights, "--out", out) == 1
    said = capsys.readouterr()
    assert "skipped broken.jpg" in said.err
    assert len(results(out)) == 3


def test_a_video_gives_videos(weights, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 12, (96, 64))
    for i in range(40):
        writer.write(np.full((64, 96, 3), 6 * i, np.uint8))
    writer.release()
    out = tmp_path / "out"
    assert predict(tmp_path / "clip.mp4", "--weights", weights, "--out", out, "--batch", 7) == 0
    assert [entry["image_id"] for entry in results(out)] == list(range(40))
    assert results(out)[3]["file_name"] == "clip.mp4#3"
    for name in ("overlay.mp4", "openpose.mp4"):
        capture = cv2.VideoCapture(str(out / name))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 40
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
        assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (96, 64)


def test_a_damaged_video_is_listed(weights, tmp_path, capsys):
    (tmp_path / "clip.mp4").write_bytes(b"nothing" * 99)
    assert predict(tmp_path / "clip.mp4", "--weights", weights, "--out", tmp_path / "out") == 1
    assert "skipped clip.mp4" in capsys.readouterr().err
    assert results(tmp_path / "out") == []
    assert [(image["file_name"], image["status"]) for image in images(tmp_path / "out")] == [("clip.mp4", "unreadable")]


def test_onnx_weights_give_the_same_keypoints(random_model, folder, weights, tmp_path):
    export_onnx(random_model(), tmp_path / "model.onnx")
    for file in (weights, tmp_path / "model.onnx"):
        assert predict(folder, "--weights", file, "--out", tmp_path / file.suffix, "--no-drawings") == 0
    a, b = (np.array([entry["keypoints"] for entry in results(tmp_path / kind)]) for kind in (".safetensors", ".onnx"))
    assert (np.abs(a - b) < 0.01).mean() > 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--weights", "none.pth"), "none.pth: there is no such file"),
        (("--boxes", "none.json"), "there is no detection file none.json"),
        (("--detector", "none.onnx"), "none.onnx: there is no such file"),
        (("--batch", "0"), "--batch must be at least 1"),
        (("--threads", "99999"), "--threads from 0 to 1024"),
        (("--threshold", "nan"), "--threshold: found nan, expected a number"),
        (("--min-confidence", "1.5"), "--min-confidence: found 1.5, expected a probability from 0 to 1"),
        (
            ("--min-confidence", "0.5"),
            "no calibration; make one with `python -m posedistill calibrate`, or .*--threshold",
        ),
        (("--smooth",), "--smooth is for videos, found .*pictures"),
        (("--format", "yaml"), "--format: found 'yaml', expected some of coco,openpose"),
        (("--parts", "body,"), "--parts: found 'body,', expected some of body,feet,face,hands"),
        (("--weights", ""), "--weights: found an empty name"),
    ],
)
def test_bad_arguments_are_one_clear_error_and_nothing_is_written(folder, weights, tmp_path, arguments, message):
    defaults = () if "--weights" in arguments else ("--weights", weights)
    with pytest.raises(UserError, match=message):
        predict(folder, "--out", tmp_path / "out", *defaults, *arguments)
    assert not (tmp_path / "out").exists()


def test_what_is_read_is_not_written_over(folder, weights, tmp_path):
    (folder / "overlay").mkdir()
    (folder / "a.jpg").rename(folder / "overlay" / "a.jpg")
    before = (folder / "overlay" / "a.jpg").read_bytes()
    with pytest.raises(UserError, match=r"overlay/a\.jpg: is read by this command, which would overwrite it"):
        predict(folder / "overlay", "--weights", weights, "--out", folder)
    assert (folder / "overlay" / "a.jpg").read_bytes() == before
    clip = tmp_path / "overlay.mp4"
    clip.write_bytes(b"film")
    with pytest.raises(UserError, match="is read by this command"):
        predict(clip, "--weights", weights, "--out", tmp_path)
    assert clip.read_bytes() == b"film"


def test_every_picture_has_drawings_of_its_own(folder, weights, tmp_path):
    (folder / "a.jpg.jpg").write_bytes((folder / "b.jpg").read_bytes())
    assert predict(folder, "--weights", weights, "--out", tmp_path / "out") == 0
    names = {file.name for file in (tmp_path / "out" / "overlay").iterdir()}
    assert names == {"a.jpg.jpg", "a.jpg.jpg.jpg", "a.png.jpg", "b.jpg.jpg"}


def test_a_video_that_could_not_be_written_whole_is_an_error(weights, tmp_path, monkeypatch):
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 12, (96, 64))
    for i in range(9):
        writer.write(np.full((64, 96, 3), 6 * i, np.uint8))
    writer.release()

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **rest: (Full if mode == "wb" else opened)(path, mode))
    with pytest.raises(UserError, match=r"\.mp4: no space left on the device"):
        predict(tmp_path / "clip.mp4", "--weights", weights, "--out", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_weights_with_values_that_are_no_numbers_are_an_error(random_model, folder, tmp_path):
    model = random_model()
    with torch.no_grad():
        model.head.final_layer.weight.fill_(float("nan"))
    save_checkpoint(model, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match=r"nan\.safetensors: head\.final_layer\.weight: holds values that are not"):
        predict(folder, "--weights", tmp_path / "nan.safetensors", "--out", tmp_path / "out")


@pytest.mark.parametrize("below", ["a.jpg", "a.jpg/deeper"])
def test_a_folder_that_cannot_be_written_is_said_before_the_work(folder, weights, below, capsys):
    with pytest.raises(UserError, match="cannot write into"):
        predict(folder, "--weights", weights, "--out", folder / below)
    assert "runs on" not in capsys.readouterr().out


def test_what_was_not_used_is_told(folder, weights, tmp_path, capsys):
    (folder / "more").mkdir()
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a.jpg": [[0, 0, 9, 9], [900, 0, 9, 9]], "c.jpg": [[0, 0, 9, 9]]}))
    assert predict(folder, "--weights", weights, "--out", tmp_path, "--boxes", boxes, "--no-drawings") == 0
    said = capsys.readouterr()
    assert "are ignored (1): more" in said.out
    assert "1 boxes lie outside" in said.err and "not read: c.jpg" in said.err


def test_the_students_half_of_a_distiller_file_predicts(random_model, folder, weights, tmp_path):
    tensors = {f"student.{name}": tensor for name, tensor in random_model().state_dict().items()}
    tensors |= {f"teacher.{name}": tensor for name, tensor in random_model(seed=1).state_dict().items()}
    torch.save({"state_dict": tensors}, tmp_path / "distiller.pth")
    for file, out in ((weights, "own"), (tmp_path / "distiller.pth", "distiller")):
        assert predict(folder, "--weights", file, "--out", tmp_path / out, "--no-drawings") == 0
    assert results(tmp_path / "own") == results(tmp_path / "distiller")


def test_an_onnx_model_that_cannot_be_run_is_one_clear_error(random_model, folder, tmp_path):
    export_onnx(random_model(), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"model\.onnx: "):
        predict(folder, "--weights", tmp_path / "model.onnx", "--out", tmp_path / "out")


def test_a_detector_says_who_is_where(folder, weights, tmp_path, capsys):
    detector = constant_detector(tmp_path / "det.onnx", [[8, 4, 24, 20, 0.5], [0, 0, 40, 40, 0.9]], [0, 0], side=40)
    out = tmp_path / "out"
    assert predict(folder, "--weights", weights, "--out", out, "--detector", detector, "--box-score", 0.6) == 0
    said = capsys.readouterr().out
    assert "3 persons in 3 pictures" in said and "taken as one person" not in said
    assert [entry["box"] for entry in results(out)] == [[0, 0, 80, 60]] * 3  # 80 × 60 pictures, halved for the detector


def test_how_image_ids_are_read_is_said(folder, weights, tmp_path, capsys):
    for name in ("1.jpg", "2.jpg"):
        (folder / name).write_bytes((folder / "a.jpg").read_bytes())
    boxes = tmp_path / "boxes.json"
    for image_ids, said, named in (
        ([1, 2], "the number in a picture's name: 1 is 1.jpg", ["1.jpg", "2.jpg"]),
        ([0, 2], "place in the sorted names, from 0: 0 is 1.jpg", ["1.jpg", "a.jpg"]),
    ):
        boxes.write_text(json.dumps([{"image_id": i, "bbox": [0, 0, 40, 60]} for i in image_ids]))
        assert predict(folder, "--weights", weights, "--out", tmp_path, "--boxes", boxes, "--no-drawings") == 0
        assert said in capsys.readouterr().out
        assert [(entry["file_name"], entry["image_id"]) for entry in results(tmp_path)] == list(zip(named, image_ids))


def test_an_unevenly_timed_video_keeps_its_times(weights, tmp_path):
    times = [0, 0.1, 0.2, 0.8]
    with VideoOut(tmp_path / "clip.mp4", tmp_path / "clip.mp4", 96, 64, rate=10) as video:
        for i, seconds in enumerate(times):
            video.add(np.full((64, 96, 3), 60 * i, np.uint8), seconds)
    assert predict(tmp_path / "clip.mp4", "--weights", weights, "--out", tmp_path / "out", "--threshold", 1e9) == 0
    assert [entry["image_id"] for entry in results(tmp_path / "out")] == [0, 1, 2, 3]
    overlay = probe(tmp_path / "out" / "overlay.mp4")
    assert overlay.times.tolist() == pytest.approx(times)
    assert [round(rgb(frame).mean() / 60) for _, frame in overlay.frames()] == [0, 1, 2, 3]


def test_names_that_are_hardly_too_long_cost_their_drawings_alone(folder, weights, tmp_path, capsys):
    long = "z" * 251
    for name in (f"{long}.jpg", f"{long}.png"):  # their drawings would be called z….jpg.jpg
        (folder / name).write_bytes((folder / "b.jpg").read_bytes())
    assert predict(folder, "--weights", weights, "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.count("no drawings: with their suffixes its name is too long") == 2
    assert len(results(tmp_path / "out")) == 5
    assert len(list((tmp_path / "out" / "overlay").iterdir())) == 3
    (folder / f"{long}.png").unlink()
    assert predict(folder, "--weights", weights, "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "openpose" / f"{long}.png").is_file()


def test_a_subfolder_of_a_name_that_is_not_utf_8_can_be_said(folder, weights, tmp_path, capfd):
    try:
        (folder / os.fsdecode(b"sub\xff")).mkdir()
    except OSError:
        pytest.skip("this disk takes no such names")
    assert predict(folder, "--weights", weights, "--out", tmp_path, "--no-drawings") == 0
    assert r"sub\xff" in capfd.readouterr().out


def test_an_output_folder_may_have_any_name(weights, tmp_path):
    with VideoOut(tmp_path / "clip.mp4", tmp_path / "clip.mp4", 96, 64, rate=10) as video:
        video.add(np.zeros((64, 96, 3), np.uint8), 0)
    out = tmp_path / os.fsdecode(b"o\xff")
    try:
        out.mkdir()
    except OSError:
        pytest.skip("this disk takes no such names")
    assert predict(tmp_path / "clip.mp4", "--weights", weights, "--out", out) == 0
    assert len(probe(out / "overlay.mp4").times) == 1


def test_no_input_is_overwritten(folder, weights, tmp_path):
    boxes = tmp_path / "out" / "keypoints.json"
    boxes.parent.mkdir()
    boxes.write_text(json.dumps({"a.jpg": [[0, 0, 40, 60]]}))
    overlay = tmp_path / "out" / "overlay" / "a.jpg"
    overlay.parent.mkdir()
    overlay.hardlink_to(folder / "a.jpg")
    before = boxes.read_bytes(), overlay.read_bytes()
    for arguments in ([folder / "a.jpg", "--boxes", boxes], [folder / "a.jpg"], [overlay], [overlay.parent]):
        with pytest.raises(UserError, match="is read by this command, which would overwrite it"):
            predict(*arguments, "--weights", weights, "--out", tmp_path / "out")
    assert (boxes.read_bytes(), overlay.read_bytes()) == before
    assert predict(folder / "b.jpg", "--weights", weights, "--out", tmp_path / "out") == 0  # as any second run
