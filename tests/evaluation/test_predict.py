"""From pictures to COCO results, with models whose answer is known."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from posedistill.data.feed.loader import val_batches
from posedistill.data.store.arrow import (
    StoredImage,
    ValPersons,
    ValStore,
    image_batch,
    part_name,
    person_batch,
    write_batch,
    write_meta,
)
from posedistill.errors import UserError
from posedistill.evaluation import evaluate_wholebody
from posedistill.evaluation.evaluate import evaluate_store
from posedistill.evaluation.mean_oks import mean_of, mean_oks
from posedistill.evaluation.pose import Decoded, forward, forward_both
from posedistill.evaluation.predict import Poses, predict_batches, predict_both, predict_poses
from posedistill.evaluation.records import FIELDS, read_ground_truth, read_predictions
from posedistill.keypoints import FLIP_INDICES, PARTS
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import load_params
from posedistill.pipeline import evaluate as stage
from posedistill.pipeline.evaluation_files import read_person_oks

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = 128, 96


class Finder(nn.Module):
    """All keypoints at the brightest red pixel; notes the batches that it was given."""

    input_size = (HEIGHT, WIDTH)

    def __init__(self):
        super().__init__()
        self.batches = []
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        self.batches.append(len(images))
        red = images[:, 0]
        x, y = (red.amax(dim).repeat_interleave(2, dim=1) for dim in (1, 2))
        return x[:, None].repeat(1, 133, 1), y[:, None].repeat(1, 133, 1)


@pytest.fixture(scope="module")
def params():
    params = load_params(ROOT / "params.yaml")
    evaluate = params.evaluate.replaced(batch=4, bootstrap=20)
    runtime = params.runtime.replaced(workers=0, device="cpu")
    return params.replaced(evaluate=evaluate, runtime=runtime)


DOTS = {1: [(60, 80), (200, 90)], 5: [(150, 150)], 9: []}  # image_id → where the person's keypoints are


def write_store(folder: Path, boxes: str = "ground_truth") -> ValStore:
    """Three pictures, a bright dot where each person is; boxes around the dots, off centre."""
    images, rows, annotations = [], [], []
    for index, (image_id, dots) in enumerate(DOTS.items()):
        picture = np.zeros((240, 320, 3), np.uint8)
        for x, y in dots:
            cv2.circle(picture, (x, y), 2, (255, 255, 255), -1)
            box = np.array([x - 40, y - 50, 90, 110], np.float32)
            keypoints = {
                field: [float(x), float(y), 2.0] * (where.stop - where.start)
                for field, where in zip(FIELDS.values(), PARTS.values())
            }
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            annotations.append({**annotation, "bbox": box.tolist(), "area": 9900.0, **keypoints})
            own = len(annotations) if boxes == "ground_truth" else -1
            rows.append((index, image_id, own, box + (0 if own > 0 else 3), 0.8))
        images.append(StoredImage(cv2.imencode(".png", picture)[1].tobytes(), image_id, 320, 240, f"{image_id}.png"))
    write_batch(folder / part_name(0), image_batch(images))
    write_batch(folder / "persons.arrow", person_batch(rows))
    truth = {
        "images": [{"id": i} for i in DOTS],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    (folder / "gt.json").write_text(json.dumps(truth))
    write_meta(folder, kind="val", rows=[len(images)])
    return ValStore(folder)


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "val-a")


def test_flip_test_is_the_mean_of_image_and_mirror_in_one_batch():
    torch.manual_seed(0)
    model = build_rtmpose("n", (HEIGHT, WIDTH)).eval()
    images = torch.randn(3, 3, HEIGHT, WIDTH)
    sizes = []
    model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    with torch.inference_mode():
        found = forward(model, images, flip_test=True)
        assert sizes == [6]
        (x, y), (mirrored_x, mirrored_y) = model(images), model(images.flip(-1))
        swap = torch.tensor(FLIP_INDICES)
        torch.testing.assert_close(found[0], (x + mirrored_x[:, swap].flip(-1)) / 2)
        torch.testing.assert_close(found[1], (y + mirrored_y[:, swap]) / 2)
        plain = forward(model, images, flip_test=False)
        both = forward_both(model, images)
    torch.testing.assert_close(plain[0], x)
    torch.testing.assert_close(both[0], (x, y))
    assert all(torch.equal(*pair) for pair in zip(both[1], found))


def test_flip_test_of_the_mirror_is_the_mirror_of_the_flip_test():
    torch.manual_seed(1)
    model = build_rtmpose("n", (HEIGHT, WIDTH)).eval()
    images = torch.randn(2, 3, HEIGHT, WIDTH)
    swap = torch.tensor(FLIP_INDICES)
    with torch.inference_mode():
        (x, y), (other_x, other_y) = (forward(model, one, flip_test=True) for one in (images, images.flip(-1)))
    torch.testing.assert_close(other_x, x[:, swap].flip(-1))
    torch.testing.assert_close(other_y, y[:, swap])


def test_points_come_back_to_image_coordinates(store, params):
    model = Finder()
    model.train()
    poses = predict_poses(model, store, params)
    assert poses.image_id.tolist() == [1, 1, 5]
    assert poses.annotation_id.tolist() == [1, 2, 3]
    dots = np.array([dot for dots in DOTS.values() for dot in dots])
    assert np.abs(poses.keypoints - dots[:, None]).max() < 3  # the dot is 5 pixels wide
    assert poses.score == pytest.approx(0.8 * poses.keypoint_scores.mean(axis=1))
    assert model.batches == [6]  # three persons and their mirrors
    assert model.training  # as it was


def test_both_passes_at_once_are_the_passes_one_by_one(store, params):
    torch.manual_seed(0)
    model = build_rtmpose("n", (HEIGHT, WIDTH))

    def batches():
        return val_batches(store, (HEIGHT, WIDTH), 2, workers=0)

    for flip_test, found in enumerate(predict_both(model, batches())):
        alone = predict_batches(model, batches(), flip_test=bool(flip_test))
        assert found.annotation_id.tolist() == alone.annotation_id.tolist() == [1, 2, 3]
        assert np.allclose(found.keypoint_scores, alone.keypoint_scores, atol=1e-5)
        assert np.allclose(found.keypoints, alone.keypoints)
    assert model.training


def test_no_batch_is_lost_or_moved_while_results_are_under_way(store, params):
    rows = np.tile(np.arange(3), 5)
    names = [field.name for field in dataclasses.fields(ValPersons)]
    persons = ValPersons(**{name: getattr(store.persons, name)[rows] for name in names})
    one_by_one = params.replaced(evaluate=params.evaluate.replaced(batch=1))  # more batches than LAG
    found = predict_poses(Finder(), store, one_by_one, persons=persons)
    assert found.annotation_id.tolist() == (rows + 1).tolist()


def test_results_are_read_only_once_they_have_arrived():
    points, scores = torch.zeros(1, 133, 2), torch.zeros(1, 133)

    class Event:
        def synchronize(self):
            scores.fill_(7)  # what the copy brings

    _, found, _ = Decoded(points, scores, scores, Event()).wait()
    assert (found == 7).all()


def test_no_boxes_give_no_poses(store):
    for poses in (predict_batches(Finder(), []), *predict_both(Finder(), [])):
        assert poses.keypoints.shape == (0, 133, 2)


def test_results_are_coco_results(store, params):
    results = predict_poses(Finder(), store, params).without_duplicates(params.evaluate.nms).results()
    metrics = evaluate_wholebody(store.ground_truth, results)
    assert metrics["wholebody"]["AR50"] == 1
    assert [len(results[0][field]) for field in FIELDS.values()] == [51, 18, 204, 63, 63]
    assert "bbox" not in results[0]
    assert json.loads(json.dumps(results)) == results


def test_duplicates_go():
    points = np.random.default_rng(0).random((1, 133, 2)) * 100
    poses = Poses(
        image_id=np.array([4, 4, 8]),
        annotation_id=np.array([1, 2, 3]),
        keypoints=np.concatenate([points, points + 0.01, points]),
        keypoint_scores=np.ones((3, 133)),
        score=np.array([0.5, 0.9, 0.1]),
        area=np.full(3, 1e4),
    )
    assert poses.without_duplicates(0.9).annotation_id.tolist() == [2, 3]


def test_a_model_for_another_input_size_is_refused(store, params):
    with pytest.raises(UserError, match="256, 192"):
        predict_poses(build_rtmpose("n", (256, 192)), store, params)


def test_mean_oks_with_detections_uses_the_persons_own_boxes(tmp_path, params):
    own, detected = write_store(tmp_path / "own"), write_store(tmp_path / "detected", boxes="detections")
    size = (1, 2)
    a = evaluate_store(params, Finder(), own, "stage1", "own", size)
    b = evaluate_store(params, Finder(), detected, "stage1", "detected", size)
    assert b.mean_oks == pytest.approx(a.mean_oks)
    assert all("annotation_id" not in one for one in b.results)
    assert b.person_oks.annotation_id.tolist() == [1, 2, 3]


def test_stage_writes_the_same_files_twice(tmp_path, params, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_store(Path("prepared") / f"val-{name}")
    torch.manual_seed(0)
    save_checkpoint(build_rtmpose(params.student.size, params.input.size), Path("models/stage1.safetensors"))
    evaluation = stage.evaluate_model(params, "stage1")
    written = {path: path.read_bytes() for path in Path().rglob("*.json") if "prepared" not in path.parts}
    names = {str(path) for path in written}
    assert names == {
        *(f"predictions/{stem}.json" for stem in ("stage1", "stage1/a-oks", "stage1/b", "stage1/b-oks")),
        "reports/metrics/stage1.json",
    }
    metrics = json.loads(written[Path("reports/metrics/stage1.json")])
    expected = evaluate_wholebody("prepared/val-a/gt.json", "predictions/stage1.json")
    for part, values in expected.items():
        assert metrics[part] == pytest.approx(values, abs=1e-6)
    assert metrics["mean_oks"] == pytest.approx(mean_oks("prepared/val-a/gt.json", "predictions/stage1.json"), abs=1e-6)
    assert (metrics["images"], metrics["persons"]) == (3, 3)
    assert metrics["parameters"] == evaluation.parameters > 1e5
    assert mean_of(read_person_oks("predictions/stage1/a-oks.json")) == pytest.approx(evaluation.mean_oks, abs=1e-6)
    assert [one.val_set for one in evaluation.others] == ["b"]
    assert metrics["other_sets"]["b"]["wholebody"] == metrics["wholebody"]
    stage.evaluate_model(params, "stage1")
    assert written == {path: path.read_bytes() for path in written}


def test_files_of_a_set_that_is_gone_do_not_stay(tmp_path, params, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_store(Path("prepared/val-a"))
    save_checkpoint(build_rtmpose(params.student.size, params.input.size), Path("models/stage1.safetensors"))
    Path("predictions/stage1").mkdir(parents=True)
    Path("predictions/stage1/gone.json").write_text("[]")
    stage.evaluate_model(params, "stage1")
    assert [path.name for path in Path("predictions/stage1").iterdir()] == ["a-oks.json"]


def random_poses(values):
    rng = np.random.default_rng(0)
    return Poses(
        image_id=np.array([5, 1, 1]),
        annotation_id=np.array([3, 1, -1]),
        keypoints=rng.normal(100, 50, (3, 133, 2)),
        keypoint_scores=rng.normal(0, 1, (3, 133)) * values,
        score=rng.random(3),
        area=np.ones(3),
    )


def test_arrays_are_what_the_written_results_are_read_as(store):
    truth, poses = read_ground_truth(store.ground_truth), random_poses(1e-7)
    direct, read = poses.predictions(truth), read_predictions(json.loads(json.dumps(poses.results())), truth)
    for field in dataclasses.fields(read):
        np.testing.assert_array_equal(getattr(direct, field.name), getattr(read, field.name))
    assert "-0.0," not in json.dumps(poses.results())


def test_poses_that_are_not_finite_or_of_another_data_set_are_one_line(store):
    truth = read_ground_truth(store.ground_truth)
    with pytest.raises(UserError, match=r"not finite.*diverged"):
        random_poses(np.nan).predictions(truth)
    other = dataclasses.replace(random_poses(1), image_id=np.array([5, 1, 99]))
    with pytest.raises(UserError, match="does not list"):
        other.predictions(truth)


def test_missing_model_is_one_clear_line(tmp_path, params, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="prepare"):
        stage.evaluate_model(params, "stage1")
    write_store(Path("prepared/val-a"))
    with pytest.raises(UserError, match=r"models/stage1\.safetensors"):
        stage.evaluate_model(params, "stage1")


def test_a_model_of_another_size_than_the_settings_is_one_line_that_names_both(tmp_path, params, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_store(Path("prepared/val-a"))
    save_checkpoint(build_rtmpose("t", params.input.size), Path("models/stage1.safetensors"))
    with pytest.raises(UserError, match=r"stage1\.safetensors: .*size n .*student\.size.* size t "):
        stage.evaluate_model(params, "stage1")
    assert not Path("predictions").exists()
