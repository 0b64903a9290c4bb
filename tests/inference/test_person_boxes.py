"""Boxes given by the user, and boxes from a detector."""

import json

import numpy as np
import onnx
import pytest
from made_up_detector import constant_detector
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from posedistill.errors import UserError
from posedistill.inference.boxes import Boxes, whole_image
from posedistill.inference.detector import Detector, fit
from posedistill.inference.sources import Frame, open_source


def frame(name="a.jpg", image_id=0, height=30, width=40):
    return Frame(np.zeros((height, width, 3), np.uint8), name, image_id)


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def test_boxes_by_file_name(tmp_path):
    path = written(tmp_path / "boxes.json", {"a.jpg": [[1, 2, 3, 4], [5, 6, 7, 8, 0.5]], "b.jpg": []})
    boxes = Boxes(path)
    assert boxes(frame()).tolist() == [[1, 2, 3, 4, 1], [5, 6, 7, 8, 0.5]]
    assert boxes(frame("b.jpg", 1)).shape == (0, 5)
    assert boxes(frame("c.jpg", 2)).shape == (0, 5)


def test_boxes_as_coco_detections(tmp_path):
    content = [
        {"image_id": 785, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9},
        {"image_id": 785, "category_id": 18, "bbox": [9, 9, 9, 9], "score": 0.9},
        {"file_name": "b.jpg", "bbox": [5, 6, 7, 8]},
        {"image_id": 785, "category_id": 1, "bbox": [2, 2, 3, 4], "score": 0.1},
    ]
    boxes = Boxes(written(tmp_path / "boxes.json", content), minimum_score=0.3)
    assert boxes(frame("000000000785.jpg", 785)) == pytest.approx(np.array([[1, 2, 3, 4, 0.9]]))
    assert boxes(frame("b.jpg", 1)).tolist() == [[5, 6, 7, 8, 1]]


def test_boxes_of_an_earlier_prediction_or_of_annotations(tmp_path):
    found = {"image_id": 0, "box": [1, 2, 3, 4], "box_score": 0.75, "score": 0.1}  # score: of its keypoints, too
    annotated = [{"image_id": 0, "bbox": [5, 6, 7, 8]}, {"image_id": 0, "bbox": [0, 0, 9, 9], "iscrowd": 1}]
    boxes = Boxes(written(tmp_path / "boxes.json", {"annotations": [found, *annotated], "images": []}), 0.3)
    assert boxes(frame()).tolist() == [[1, 2, 3, 4, 0.75], [5, 6, 7, 8, 1]]
    assert "1 of 3 boxes left out, crowd: detections[2]" in boxes.notes()[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "expected a list of COCO detections"),
        ({"a.jpg": 3}, "a.jpg: found 3; expected a list .* lists of boxes"),
        ({"images": [{"id": 1}]}, "a list of COCO detections, a keypoints.json, or file names"),
        ({"a.jpg": [[1, 2, 3]]}, r"a.jpg\[0\]: box: found 3 values, expected 4 or 5 numbers: x, y, width, height"),
        ({"a.jpg": [5]}, r"a.jpg\[0\]: box: found 5, expected 4 or 5 numbers"),
        ({"a.jpg": [[1, 2, "3", 4]]}, r"a.jpg\[0\]: box: found '3', expected"),
        ({"a.jpg": [[0, 0, 10**400, 1]]}, "expected 4 or 5 numbers"),
        ({"a.jpg": [[True, 0, 1, 1]]}, "found True, expected 4 or 5 numbers"),
        ({"a\0.jpg": [[1, 0, 1, 1]]}, "expected a file name"),
        ([{"bbox": [1, 2, 3, 4]}], r"detections\[0\]: expected image_id or file_name"),
        ([{"file_name": None, "bbox": [1, 2, 3, 4]}], r"detections\[0\]: expected image_id or file_name"),
        ([{"image_id": 1}], r"detections\[0\]: bbox: found nothing, expected 4 numbers"),
        ([{"image_id": 1, "bbox": 5}], r"detections\[0\]: bbox: found 5, expected 4 numbers"),
        ([{"image_id": [1], "bbox": [1, 2, 3, 4]}], r"image_id: found \[1\], expected a whole number"),
        (
            [{"image_id": 1, "category_id": [1], "bbox": [1, 2, 3, 4]}],
            r"category_id: found \[1\], expected a whole number",
        ),
        (["x"], r"detections\[0\]: found x, expected an object"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": None}], r"\[0\]: score: found nothing, expected a number"),
        ([{"image_id": 0.5, "bbox": [1, 2, 3, 4]}], r"detections\[0\]: image_id: found 0.5"),
    ],
)
def test_bad_boxes_are_one_clear_error(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        Boxes(written(tmp_path / "boxes.json", content))


def test_boxes_outside_the_picture_and_of_other_pictures_are_told(tmp_path):
    inside, outside = [-5, -5, 10, 10], [[40, 0, 9, 9], [0, -9, 9, 9]]
    boxes = Boxes(written(tmp_path / "boxes.json", {"a.jpg": [inside, *outside], "other.jpg": [inside]}))
    assert boxes(frame(height=30, width=40)).tolist() == [[*inside, 1]]
    outside_note, unread_note = boxes.notes()
    assert "2 boxes lie outside their picture" in outside_note
    assert "1 pictures that were not read: other.jpg" in unread_note


def test_boxes_below_the_score_are_told(tmp_path):
    boxes = Boxes(written(tmp_path / "boxes.json", {"a.jpg": [[0, 0, 9, 9, 0.2]]}), minimum_score=0.3)
    assert not len(boxes(frame()))
    assert boxes.notes() == [f"{tmp_path / 'boxes.json'}: 1 boxes have a score below --box-score 0.3"]


def test_both_ways_of_writing_an_umlaut_are_one_name(tmp_path):
    boxes = Boxes(written(tmp_path / "boxes.json", {"\u00fc.jpg": [[0, 0, 9, 9]]}))
    assert len(boxes(frame("u\u0308.jpg"))) == 1 and not boxes.notes()


@pytest.mark.parametrize(
    ("categories", "kept"),
    [((0, 0, 0), 3), (("1", 1, None), 3), ((0, 1, 2), 1), (("0", 0, 0), 3), ((2, 2, 2), 0), ((0, 0, 5), 0)],
)
def test_category_0_is_a_person_where_it_is_the_only_one(tmp_path, categories, kept):
    entry = {"image_id": 0, "bbox": [0, 0, 9, 9]}
    boxes = Boxes(written(tmp_path / "boxes.json", [{**entry, "category_id": one} for one in categories]))
    assert len(boxes(frame())) == kept
    assert [f"{3 - kept} of 3 boxes left out, not a person: detections[" in note for note in boxes.notes()] == (
        [True] if kept < 3 else []
    )


def test_boxes_that_are_none_are_counted(tmp_path):
    boxes = Boxes(
        written(tmp_path / "boxes.json", {"a.jpg": [[1, 2, 0, 4], [0, 0, 1e300, 9], [0, 0, None, 9], [1, 2, 3, 4]]})
    )
    assert boxes(frame()).tolist() == [[1, 2, 3, 4, 1]]
    assert [note.partition(": ")[2] for note in boxes.notes()] == [
        "1 of 4 boxes left out, empty box: a.jpg[0]",
        "2 of 4 boxes left out, box not finite: a.jpg[1]",
    ]


def test_byte_order_mark_nan_and_names_that_are_not_utf8(tmp_path):
    content = [{"file_name": "caf\udce9.jpg", "image_id": 3, "bbox": [0, 0, 9, 9], "score": float("nan")}]
    content.append({**content[0], "score": 0.5})
    path = tmp_path / "boxes.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    boxes = Boxes(path)
    assert len(boxes(frame("caf\udce9.jpg"))) == 1 and boxes.read.dropped == {"score not finite": 1}


def test_a_missing_file_name_is_not_a_name(tmp_path):
    boxes = Boxes(written(tmp_path / "boxes.json", [{"file_name": None, "image_id": 7, "bbox": [0, 0, 9, 9]}]))
    assert boxes.image_ids == {7} and len(boxes(frame("None", 7))) == 1


def test_frames_of_a_video_go_by_their_number(tmp_path):
    path = written(tmp_path / "boxes.json", [{"file_name": "frame_3.png", "image_id": 3, "bbox": [0, 0, 9, 9]}])
    assert len(Boxes(path, by_number=True)(frame("v.mp4#3", 3))) == 1
    assert len(Boxes(path)(frame("frame_3.png", 0))) == 1


@pytest.mark.parametrize("content", ["{", "[" * 100_000, f"[{'9' * 5001}]"])
def test_boxes_that_are_not_json_or_not_there(tmp_path, content):
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(UserError, match="not valid JSON"):
        Boxes(tmp_path / "boxes.json")
    with pytest.raises(UserError, match="there is no detection file"):
        Boxes(tmp_path / "none.json")


def test_the_whole_image_is_one_person():
    assert whole_image(frame(height=30, width=40)).tolist() == [[0, 0, 40, 30, 1]]


def test_a_detector_gives_person_boxes_in_image_pixels_best_first(tmp_path):
    dets = [[8, 4, 24, 20, 0.5], [0, 0, 80, 40, 0.9], [1, 1, 9, 9, 0.8], [2, 2, 9, 9, 0.1]]
    detector = Detector(constant_detector(tmp_path / "det.onnx", dets, [0, 0, 7, 0]))
    boxes = detector(frame(height=64, width=128))  # halved to fit 64 x 64
    expected = [[0, 0, 128, 64, 0.9], [16, 8, 32, 32, 0.5]]  # clipped to the image; no other class, no low score
    assert boxes == pytest.approx(np.array(expected))


def _model(path, shape, kind=TensorProto.FLOAT, dets=(1, 1, 5), labels=(1, 1)):
    """A detector of any signature; free sides of its input are names."""
    tensors = [
        numpy_helper.from_array(np.full(dets, 20, np.float32), "found"),
        numpy_helper.from_array(np.zeros(labels, np.int64), "kinds"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["found"], ["dets"]), helper.make_node("Identity", ["kinds"], ["labels"])],
        "detector",
        [helper.make_tensor_value_info("input", kind, shape)],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["b", "n", "five"]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["b", "n"]),
        ],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_detector_may_leave_its_input_free_and_find_nobody(tmp_path):
    path = _model(tmp_path / "det.onnx", ["batch", 3, "height", "width"], dets=(1, 0, 5), labels=(1, 0))
    detector = Detector(path)
    assert detector.size == (640, 640)
    assert detector(frame()).shape == (0, 5)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ({"shape": [1, 3, 8, 8], "kind": TensorProto.UINT8}, "expected an input of float32"),
        ({"shape": [1, 8, 8, 3]}, r"expected an input \[1, 3, height, width\]"),
        ({"shape": [1, 3, 8, 8], "dets": (1, 1, 6)}, r"expected dets \[1, N, 5\]"),
        ({"shape": [2, 3, 8, 8]}, "the detector failed"),
    ],
)
def test_detectors_of_another_format_are_one_clear_error(tmp_path, signature, message):
    with pytest.raises(UserError, match=message):
        Detector(_model(tmp_path / "det.onnx", **signature))(frame())


def test_the_detector_sees_the_image_normalised_bgr(tmp_path):
    """A model that returns its own mean per channel shows which channel went where."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input"], ["means"], axes=[2, 3], keepdims=0),  # [1, 3]
            helper.make_node("Concat", ["means", "rest"], ["row"], axis=1),
            helper.make_node("Reshape", ["row", "shape"], ["dets"]),
            helper.make_node("Identity", ["kinds"], ["labels"]),
        ],
        "detector",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, 1, 5]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 1]),
        ],
        [
            numpy_helper.from_array(np.array([[50, 0.9]], np.float32), "rest"),
            numpy_helper.from_array(np.array([1, 1, 5], np.int64), "shape"),
            numpy_helper.from_array(np.array([[0]], np.int64), "kinds"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "det.onnx")
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 2] = 255  # RGB: blue
    means = Detector(tmp_path / "det.onnx").session.run(["dets"], {"input": _tensor(tmp_path, image)})[0][0, 0, :3]
    assert means == pytest.approx([(255 - 103.53) / 57.375, -116.28 / 57.12, -123.675 / 58.395], rel=1e-5)


def _tensor(tmp_path, image):
    """What Detector feeds its session for `image`."""
    detector = Detector(tmp_path / "det.onnx")
    fed = {}

    class Recorder:
        def run(self, names, inputs):
            fed.update(inputs)
            return np.zeros((1, 0, 5), np.float32), np.zeros((1, 0), np.int64)

    detector.session = Recorder()
    detector(Frame(image, "a", 0))
    return fed["input"]


def test_fit_keeps_the_aspect_ratio_and_fills_with_grey():
    canvas, ratio = fit(np.full((20, 40, 3), 7, np.uint8), (64, 64))
    assert ratio == 1.6
    assert (canvas[:32] == 7).all()
    assert (canvas[32:] == 114).all()


def test_a_file_that_is_no_detector_is_one_clear_error(tmp_path):
    (tmp_path / "det.onnx").write_bytes(b"text")
    with pytest.raises(UserError, match="not an ONNX file"):
        Detector(tmp_path / "det.onnx")
    with pytest.raises(UserError, match="no such file"):
        Detector(tmp_path / "none.onnx")


def test_a_model_with_other_outputs_is_one_clear_error(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["output"])],
        "other",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "x.onnx")
    with pytest.raises(UserError, match="dets and labels"):
        Detector(tmp_path / "x.onnx")


def reading(folder, names, image_ids):
    """image_id of each picture of a folder, for boxes with some image_ids."""
    for name in names:
        Image.new("RGB", (8, 6)).save(folder / name)
    source = open_source(folder)
    source.number_as(
        Boxes(written(folder / "boxes.json", [{"image_id": i, "bbox": [0, 0, 9, 9]} for i in image_ids])).image_ids
    )
    return [frame.image_id for frame in source.frames()]


@pytest.mark.parametrize(
    ("names", "image_ids", "expected"),
    [
        (("1.jpg", "2.jpg", "cover.jpg"), [1, 2], [1, 2, 3]),  # all are numbers in names
        (("1.jpg", "2.jpg", "cover.jpg"), [0, 1], [0, 1, 2]),  # 0 is none: places
        (("1.jpg", "2.jpg"), [0, 1], [0, 1]),
        (("1.jpg", "2.jpg"), [1], [1, 2]),
        (("000000000139.jpg", "000000000785.jpg"), [139, 285, 632], [139, 785]),  # boxes of the whole data set
        (("1.jpg", "01.jpg"), [1], [0, 1]),  # the same number twice
        (("a.jpg", "b.jpg"), [7], [0, 1]),
        (("139.jpg", "a.jpg"), [], [0, 1]),
    ],
)
def test_image_ids_are_numbers_in_the_names_or_places(tmp_path, names, image_ids, expected):
    assert reading(tmp_path, names, image_ids) == expected
