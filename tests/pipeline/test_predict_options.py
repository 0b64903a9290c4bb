"""Options of `predict`: calibrated confidence, thresholds, scores, OpenPose JSON, precisions of ONNX files."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from predict_runs import images, predict, results

import posedistill
from posedistill.commands import predict as cli
from posedistill.errors import UserError
from posedistill.evaluation.calibration import CALIBRATED, METADATA_KEY, PASSES, Calibration, Curve
from posedistill.evaluation.pose import Pose
from posedistill.export.onnx_file import export_onnx
from posedistill.export.precision import to_half, to_int8, with_metadata
from posedistill.inference.predict import Predicted
from posedistill.inference.sources import read_image
from posedistill.inference.videos import VideoOut
from posedistill.models.checkpoint import save_checkpoint


@pytest.mark.parametrize("arguments", [("", "--out", "here"), (".", "--out", "")])
def test_an_empty_name_is_not_the_current_folder(folder, weights, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"(input|--out): found an empty name, expected a file or folder"):
        predict(*arguments, "--weights", weights)
    assert sorted(file.name for file in folder.iterdir()) == ["a.jpg", "a.png", "b.jpg"]


def calibrated(model, path, low=0.25, high=0.75):
    """The model with a calibration: confidence `low` up to the raw score -1, `high` from 1 on."""
    curve = Curve((-1.0, 1.0), (low, high))
    calibration = Calibration({one: dict.fromkeys(CALIBRATED, curve) for one in PASSES}, 1234, "rendered")
    save_checkpoint(model, path, metadata={METADATA_KEY: calibration.to_json()})
    return path


def test_a_calibrated_model_draws_by_confidence(random_model, folder, tmp_path, capsys):
    weights, out, boxes = calibrated(random_model(), tmp_path / "a.safetensors"), tmp_path / "out", tmp_path / "b.json"
    boxes.write_text(json.dumps({"a.jpg": [[20, 10, 40, 40]]}))  # its crop lies inside the picture
    arguments = (folder / "a.jpg", "--weights", weights, "--out", out, "--boxes", boxes)
    assert predict(*arguments) == 0
    said = capsys.readouterr().out
    assert "confidence is calibrated on rendered (1,234 persons)" in said and "--min-confidence 0.5 or more" in said
    (entry,) = results(out)
    scores = np.array(entry["keypoints"]).reshape(133, 3)[:, 2]
    np.testing.assert_allclose(entry["confidence"], np.interp(scores, (-1, 1), (0.25, 0.75)), atol=2e-3)
    for threshold, drawn in ((0.2, 133), (0.8, 0)):
        assert predict(*arguments, "--min-confidence", threshold, "--no-drawings") == 0
        assert f"{drawn} of 133 points would be drawn" in capsys.readouterr().out
    assert predict(*arguments, "--threshold", 1e9) == 0
    assert "0 of 133 points are drawn: inside the picture, --threshold 1e+09" in capsys.readouterr().out


def test_without_calibration_the_threshold_suits_the_training_data(random_model, folder, tmp_path, capsys):
    for source, threshold in (("synthetic", "0.15"), ("coco_wholebody", "0.3")):
        metadata = {"settings": {"data": {"train": [{"source": source}]}}}
        save_checkpoint(random_model(), tmp_path / "a.safetensors", metadata=metadata)
        assert predict(folder, "--weights", tmp_path / "a.safetensors", "--out", tmp_path / "out", "--no-drawings") == 0
        assert f"no calibration: points are drawn from raw score {threshold} on" in capsys.readouterr().out


def test_rtmlibs_score_is_the_mean_of_both_axes(random_model, folder, weights, tmp_path):
    for score in ("min", "mean"):
        arguments = ("--weights", weights, "--out", tmp_path / score, "--score", score, "--no-drawings")
        assert predict(folder / "a.jpg", *arguments) == 0
    smaller, mean = (np.reshape(results(tmp_path / score)[0]["keypoints"], (133, 3)) for score in ("min", "mean"))
    pose = Pose(random_model())
    image = read_image(folder / "a.jpg")
    x, y = (axis.numpy().max(axis=2)[0] for axis in pose.logits(pose.crop(image, np.array([[0, 0, 80, 60]])).images))
    np.testing.assert_allclose(smaller[:, 2], np.minimum(x, y), atol=6e-4)
    np.testing.assert_allclose(mean[:, 2], (x + y) / 2, atol=6e-4)
    assert np.array_equal(smaller[smaller[:, 2] > 0, :2], mean[smaller[:, 2] > 0, :2])


def test_a_video_as_openpose_json_with_numbered_persons(weights, tmp_path):
    with VideoOut(tmp_path / "my clip.mp4", tmp_path / "my clip.mp4", 96, 64, rate=10) as video:
        for i in range(3):
            video.add(np.full((64, 96, 3), 60 * i, np.uint8), i / 10)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": i, "bbox": [0, 0, 96, 64]} for i in (0, 2)]))
    out = tmp_path / "out"
    arguments = ("--format", "coco,openpose", "--smooth", "--boxes", boxes, "--no-drawings")
    assert predict(tmp_path / "my clip.mp4", "--weights", weights, "--out", out, *arguments) == 0
    names = [f"my clip_{i:012d}_keypoints.json" for i in range(3)]
    assert sorted(file.name for file in (out / "openpose_json").iterdir()) == names
    people = [json.loads((out / "openpose_json" / name).read_text())["people"] for name in names]
    assert [[person["person_id"] for person in one] for one in people][:2] == [[[0]], []]
    assert [(one["id"], one["frame"], one["seconds"], one["status"]) for one in images(out)] == [
        (0, 0, 0.0, "ok"),
        (1, 1, 0.1, "nobody"),
        (2, 2, 0.2, "ok"),
    ]
    assert [entry["image_id"] for entry in results(out)] == [0, 2] and "track_id" in results(out)[0]
    again = tmp_path / "again"  # what is written can be read
    arguments = ("--boxes", out / "keypoints.json", "--no-drawings")
    assert predict(tmp_path / "my clip.mp4", "--weights", weights, "--out", again, *arguments) == 0
    assert [(entry["image_id"], entry["box"]) for entry in results(again)] == [(0, [0, 0, 96, 64]), (2, [0, 0, 96, 64])]
    with pytest.raises(UserError, match="is read by this command, which would overwrite it"):
        predict(tmp_path / "my clip.mp4", "--weights", weights, "--out", out, *arguments)


def test_openpose_alone_writes_no_keypoints_json(folder, weights, tmp_path):
    out = tmp_path / "out"
    assert predict(folder, "--weights", weights, "--out", out, "--format", "openpose", "--no-drawings") == 0
    assert [entry.name for entry in out.iterdir()] == ["openpose_json"]
    names = {"a.jpg_keypoints.json", "a.png_keypoints.json", "b_keypoints.json"}
    assert {file.name for file in (out / "openpose_json").iterdir()} == names


def test_it_says_how_many_points_are_drawn_and_why_so_few(folder, weights, tmp_path, capsys, monkeypatch):
    assert predict(folder / "a.jpg", "--weights", weights, "--out", tmp_path / "out", "--threshold", -1e9) == 0
    said = capsys.readouterr()
    assert (
        "of 133 points are drawn: inside the picture, --threshold -1e+09 or more" in said.out
        and "few points" not in said.err
    )
    monkeypatch.setattr(cli, "trained_on", lambda *_: {"synthetic"})
    assert predict(folder / "a.jpg", "--weights", weights, "--out", tmp_path / "out", "--threshold", 1e9) == 0
    said = capsys.readouterr()
    assert "0 of 133 points are drawn: inside the picture, --threshold 1e+09 or more" in said.out
    assert (
        "few points of body, feet, face and hands reach --threshold 1e+09: " in said.err
        and "unsure of photographs" in said.err
    )


def test_what_the_weights_were_trained_on_is_read_from_their_metadata(random_model, folder, tmp_path, capsys):
    sources = [{"source": "coco_wholebody", "name": "a"}, {"source": "ubody", "name": "b"}]
    save_checkpoint(random_model(), tmp_path / "a.pth", "mmpose", {"settings": {"data": {"train": sources}}})
    assert predict(folder, "--weights", tmp_path / "a.pth", "--out", tmp_path / "out", "--threshold", 99) == 0
    assert "trained on coco_wholebody, ubody" in capsys.readouterr().out
    save_checkpoint(random_model(), tmp_path / "b.pth", "mmpose")
    assert predict(folder, "--weights", tmp_path / "b.pth", "--out", tmp_path / "out", "--no-drawings") == 0
    assert "trained on unknown data (the file does not say)" in capsys.readouterr().out


def test_files_of_other_precisions_predict(random_model, folder, tmp_path):
    """float16 inside, float16 also at input and output, and 8-bit integers: about the same places as in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    export_onnx(random_model(), tmp_path / "fp32.onnx")
    content = (tmp_path / "fp32.onnx").read_bytes()
    (tmp_path / "fp16.onnx").write_bytes(to_half(content))
    onnx.save(convert_float_to_float16(onnx.load_from_string(content)), tmp_path / "half.onnx")
    crops = np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32)
    (tmp_path / "int8.onnx").write_bytes(to_int8(content, crops))
    found = {}
    for name in ("fp32", "fp16", "half", "int8"):
        out = tmp_path / name
        assert predict(folder, "--weights", tmp_path / f"{name}.onnx", "--out", out, "--no-drawings") == 0
        found[name] = np.array([entry["keypoints"] for entry in results(out)]).reshape(3, 133, 3)
    for name, least in (("fp16", 0.9), ("half", 0.9), ("int8", 0.3)):  # of an untrained model with flat axes
        assert (np.abs(found[name] - found["fp32"])[..., :2].max(axis=2) < 2).mean() > least


def test_what_is_hardly_drawn_is_told_with_the_value_that_shows_it():
    points = Counter(body=17, face=68, hands=42)
    reached = {"face": np.r_[np.full(6, 60), np.zeros(14)], "hands": np.r_[np.full(3, 40), np.zeros(17)]}
    done = Predicted([], points=points, shown=Counter(body=17, face=2), reached={**reached, "body": np.full(20, 17)})
    told = cli._few_points(done, "--min-confidence 0.5")
    drawn = "half would be drawn of face from 0.3 on and hands from 0.15 on"
    assert told == f"few points of face and hands reach --min-confidence 0.5: {drawn}"
    done.reached["hands"] = np.full(20, 5)
    drawn = "half would be drawn of face from 0.3 on; most of hands lie outside the picture or below 0.05"
    assert cli._few_points(done, "--threshold 1").endswith(f"reach --threshold 1: {drawn}")
    done.shown.update(face=60, hands=40)
    assert cli._few_points(done, "--threshold 1") == ""


def test_the_example_reads_the_calibration(random_model, folder, tmp_path):
    script = Path(__file__).parents[2] / "examples" / "onnx_predict.py"
    export_onnx(random_model(), tmp_path / "model.onnx")
    curves = {one: {part: Curve((-1.0, 1.0), (0.2, 0.9)) for part in CALIBRATED} for one in PASSES}
    text = Calibration(curves, 1, "made up").to_json()
    content = with_metadata((tmp_path / "model.onnx").read_bytes(), {METADATA_KEY: text})
    (tmp_path / "model.onnx").write_bytes(content)
    printed = subprocess.check_output([sys.executable, script, tmp_path / "model.onnx", folder / "a.jpg"], text=True)
    rows = np.array([line.split("\t") for line in printed.splitlines()], float)
    pose = posedistill.load(tmp_path / "model.onnx", device="cpu")
    found = pose(read_image(folder / "a.jpg"))
    assert not np.isnan(found.confidence).any()
    np.testing.assert_allclose(rows[:, 4], found.confidence[0], atol=0.01)
    np.testing.assert_allclose(rows[:, 3], found.scores[0], atol=0.01)
