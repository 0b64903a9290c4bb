"""A teacher of another input size or with other keypoints: both see one view, and it teaches in the student's terms."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from prepared_project import make_project
from torch import nn
from training_fakes import SIZE, batch_at, model

from posedistill.data.feed import augment as augmentation
from posedistill.data.feed import pixel_changes
from posedistill.data.store import jpeg
from posedistill.data.store.arrow import TrainRecord
from posedistill.errors import UserError
from posedistill.export.onnx_file import export_onnx
from posedistill.losses import logit_loss
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.resampling import ToBins, resized
from posedistill.models.rtmpose import build_rtmpose
from posedistill.models.simcc import encode
from posedistill.params import Weights, from_settings, load_params, read_settings
from posedistill.pipeline import evaluate as stage
from posedistill.training import Paths
from posedistill.training.stage1 import Stage1, load_more, load_teacher
from posedistill.training.supervised import train_supervised
from posedistill.training.translation import Translation

ROOT = Path(__file__).parents[2]
LARGER = (48, 48)
PLACE = (157, 221)  # of the marker in the crop


@pytest.fixture(scope="module")
def params():
    params = load_params(ROOT / "params.yaml")
    return params.replaced(
        input=params.input.replaced(height=SIZE[0], width=SIZE[1]),
        runtime=params.runtime.replaced(workers=0, device="cpu"),
    )


@pytest.fixture(scope="module")
def marked():
    """A crop with one bright disc."""
    image = np.full((400, 300, 3), 40, np.uint8)
    cv2.circle(image, PLACE, 12, (255, 255, 255), -1, cv2.LINE_AA)
    keypoints = np.zeros((133, 3), np.float32)
    keypoints[:] = (*PLACE, 1)
    box = np.array([50, 50, 200, 300], np.float32)
    return TrainRecord(*jpeg.encode(image), keypoints, box, np.zeros(2, np.int32), np.ones(2), 1, 2, 0)


def centroid(image):
    weight = np.clip(image[..., 0].astype(float) - 60, 0, None)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("teacher", [(192, 144), (256, 192), (64, 48)])
def test_a_marker_lies_at_the_same_place_of_both_views(params, marked, teacher):
    small, larger = (params.input.replaced(height=h, width=w) for h, w in ((128, 96), teacher))
    seen = 0
    for seed in range(20):
        sample = augmentation.sample_train(marked, params.augment, small, np.random.default_rng(seed), larger)
        alone = augmentation.sample_train(marked, params.augment, small, np.random.default_rng(seed))
        for one, other in zip(sample[:4], alone[:4]):
            np.testing.assert_array_equal(one, other)
        assert sample.teacher_image.shape == (*teacher, 3) and alone.teacher_image is None
        if not (8 < sample.keypoints[0, 0] < 88 and 8 < sample.keypoints[0, 1] < 120):
            continue
        in_pixels_of_the_student = centroid(sample.teacher_image) * 128 / teacher[0]
        assert np.abs(in_pixels_of_the_student - centroid(sample.image)).max() < 0.5
        seen += 1
    assert seen > 10


def test_dropout_covers_the_same_part_of_both_views(params):
    changes = torch.zeros(2, 9)
    changes[:, pixel_changes.DROPOUT] = torch.tensor([[8.0, 10, 20, 31], [0, 0, 0, 0]])
    changes[:, 0] = 4
    larger = pixel_changes.enlarged(changes, 1.5)
    assert larger[:, pixel_changes.DROPOUT].tolist() == [[12, 15, 30, 46], [0, 0, 0, 0]]
    assert larger[:, :5].equal(changes[:, :5]) and changes[0, 5] == 8


def labels(size, deviations=1.0):
    """Label curves (x, y) of 133 keypoints at shares of an input of `size`, sampled `deviations` times as densely."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 133, 2, generator=generator, dtype=torch.float64) * torch.tensor(size[::-1]) * 0.8 + 4
    points = (points * 2).round() / 2  # bins
    if deviations == 1:
        return encode(points, size, torch.float64)
    pair = []
    for axis, (length, side) in enumerate(zip(size[::-1], (size[1], size[0]))):
        deviation = round((side / 8) ** 0.5, 2)
        bins = torch.arange(2 * length * deviations, dtype=torch.float64) / deviations
        pair.append(torch.exp(-((bins - 2 * points[..., axis, None]) ** 2) / (2 * deviation**2)))
    return tuple(pair)


@pytest.mark.parametrize(("factor", "bar"), [(2, 0.01), (1.5, 0.03)])
def test_a_larger_teacher_whose_logits_are_the_labels_gives_their_gradient(factor, bar):
    size = (128, 96)
    label, dense = labels(size), labels(size, factor)
    brought = tuple(ToBins(t.shape[-1], v.shape[-1])(t) for t, v in zip(dense, label))
    gradients = []
    for teacher in (label, brought):
        generator = torch.Generator().manual_seed(1)
        student = tuple(torch.randn(v.shape, generator=generator, dtype=torch.float64) * 0.2 for v in label)
        student = tuple(axis.requires_grad_() for axis in student)
        logit_loss(student, teacher).backward()
        gradients.append(torch.cat([axis.grad.flatten() for axis in student]))
    assert (gradients[1] - gradients[0]).norm() / gradients[0].norm() < bar


def test_mass_and_place_of_a_distribution_are_kept():
    """Two peaks at any place: their masses and the mean position, in shares of the axis."""
    bins = torch.arange(288, dtype=torch.float64)
    for place in np.linspace(60, 70, 7):
        peaks = [torch.exp(-((bins - at) ** 2) / (2 * 6.0**2)) for at in (place, place + 120)]
        logits = ((0.7 * peaks[0].mul(10).exp() + 0.3 * peaks[1].mul(10).exp()).log() / 10)[None, None]
        brought = ToBins(288, 192)(logits)
        before, after = (torch.softmax(10 * one, -1)[0, 0] for one in (logits, brought))
        assert after.sum().item() == pytest.approx(1)
        assert after[:85].sum().item() == pytest.approx(before[: 85 * 3 // 2].sum().item(), abs=0.02)
        mean = (after * torch.arange(192)).sum() * 1.5
        assert mean.item() == pytest.approx((before * bins).sum().item(), abs=1.5)


class Shifts(nn.Module):
    """A stand-in for a teacher: only what a Translation asks of it."""

    def __init__(self, input_size, keypoints=133):
        super().__init__()
        self.input_size, self.keypoints = input_size, keypoints


def test_without_a_difference_the_very_tensors():
    maps, logits = torch.rand(1, 8, 4, 4), (torch.rand(1, 133, 64), torch.rand(1, 133, 64))
    found_maps, found = Translation(model(1), model(2))(maps, logits)
    assert found_maps is maps and found[0] is logits[0] and found[1] is logits[1]


def test_maps_are_averaged_over_what_a_cell_covers():
    torch.manual_seed(0)
    student, teacher = build_rtmpose("n", (32, 32)), build_rtmpose("n", (64, 64))  # 4×4 and 8×8 cells
    maps = torch.rand(2, 3, 8, 8)
    found, _ = Translation(teacher, student)(maps, teacher(torch.rand(1, 3, 64, 64)))
    torch.testing.assert_close(found, nn.functional.avg_pool2d(maps, 2))
    odd = build_rtmpose("n", LARGER)  # 6×6 cells, each two thirds of the student's
    found, _ = Translation(odd, student)(torch.arange(6.0).expand(1, 1, 6, 6), odd(torch.rand(1, 3, *LARGER)))
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([1 / 3, 5 / 3, 10 / 3, 14 / 3]))


def test_a_resized_model_sees_the_same_at_another_size(random_model):
    """Trained weights of a smaller input are a start: on an enlarged picture they say much of what they said before."""
    small = random_model("nw", (64, 64))
    images = nn.functional.interpolate(torch.rand(2, 3, 4, 4), size=(64, 64), mode="bicubic")
    large = resized(small, (96, 96))
    assert large.input_size == (96, 96)
    with torch.no_grad():
        before = small(images)
        seen = large(nn.functional.interpolate(images, size=(96, 96), mode="bicubic"))
    for axis, expected in zip(seen, before):
        found = ToBins(192, 128)(axis)
        assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.7
    same = resized(small, (64, 64))
    for name, tensor in small.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], tensor)


def test_a_stride_of_32_at_a_size_that_it_does_not_divide():
    torch.manual_seed(0)
    found = build_rtmpose("t", (192, 144)).eval()
    with torch.no_grad():
        maps, (x, y) = found.features_and_logits(torch.rand(1, 3, 192, 144))
    assert maps.shape[2:] == (6, 5) and x.shape[-1] == 288 and y.shape[-1] == 384


def test_a_student_learns_from_a_larger_teacher(random_model, params):
    teacher = random_model("nw", LARGER)
    torch.manual_seed(0)
    objective = Stage1(model(), teacher, params.loss)
    batch = batch_at(0, 0, 3)
    images = batch.images.permute(0, 3, 1, 2).float() / 255
    larger = nn.functional.interpolate(images, size=LARGER, mode="bilinear")
    terms, _, logits = objective(images, batch.keypoints, larger)
    assert logits[0].shape == (3, 133, 64)
    assert terms["feature"] > 0 and terms["logit"] > 0
    terms["total"].backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())
    assert not any("translations" in name for name in objective.state_dict())


def test_a_table_of_keypoints_chooses_and_orders(random_model, params):
    """133 of a teacher's keypoints in another order give what the same teacher gives without a table."""
    teacher = random_model("n", SIZE)
    order = torch.randperm(133, generator=torch.Generator().manual_seed(0))
    table = torch.empty_like(order)
    table[order] = torch.arange(133)
    shuffled = build_rtmpose("n", SIZE)
    state = teacher.state_dict()
    state = {name: v[order] if name.startswith("head.final_layer") else v for name, v in state.items()}
    shuffled.load_state_dict(state)
    images = batch_at(0, 0, 2).images.permute(0, 3, 1, 2).float() / 255
    _, expected = teacher.features_and_logits(images)
    _, found = Translation(shuffled.eval(), model(), table.tolist())(*shuffled.features_and_logits(images))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match=r"teacher.keypoints: found 140, allowed: 0 to 132"):
        Translation(shuffled, model(), [*range(132), 140])


def test_a_given_teacher_with_more_keypoints_is_taken_evaluated_and_taught(random_model, params, tmp_path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path, random_model("n", SIZE)))
    torch.manual_seed(0)
    given = build_rtmpose("n", LARGER, 140)
    export_onnx(given.eval(), Path("given.onnx"))
    save_checkpoint(given, "given.safetensors")
    own = params.input.replaced(height=LARGER[0], width=LARGER[1])
    for name in ("given.onnx", "given.safetensors"):
        changes = {"checkpoint": Weights(path=name, sha256=None), "size": "n", "input": own, "init": None}
        both = params.replaced(teacher=params.teacher.replaced(**changes, keypoints=tuple(range(7, 140))))
        train_supervised(both, "teacher", Paths())
        assert load_teacher(both, "models/teacher.safetensors").keypoints == 140
        assert stage.evaluate_model(both, "teacher").persons == 8
        without = params.replaced(teacher=params.teacher.replaced(**changes))
        with pytest.raises(UserError, match=r"140 keypoints|found 140"):
            train_supervised(without, "teacher", Paths())


def test_more_teachers_are_whole_models_of_the_same_input(random_model, params, tmp_path):
    save_checkpoint(random_model("nw", SIZE), tmp_path / "second.safetensors")
    save_checkpoint(random_model("n", LARGER), tmp_path / "larger.safetensors")

    def with_more(name):
        more = (Weights(path=str(tmp_path / name), sha256=None),)
        return params.replaced(teacher=params.teacher.replaced(more=more))

    (second,) = load_more(with_more("second.safetensors"))
    assert second.size.name == "nw"
    with pytest.raises(UserError, match=r"teacher.more\[0\]: .*larger.safetensors: expected a teacher for 133"):
        load_more(with_more("larger.safetensors"))
    images, keypoints = batch_at(0, 0, 2).images.permute(0, 3, 1, 2).float() / 255, batch_at(0, 0, 2).keypoints
    first = random_model("n", SIZE, seed=1)
    alone, same, both = (
        Stage1(model(), first, params.loss, more=more)(images, keypoints)[2] for more in ([], [first], [second])
    )
    for one, other in zip(alone, same):
        torch.testing.assert_close(torch.softmax(10 * one, -1), torch.softmax(10 * other, -1))
    _, answer = second.features_and_logits(images)
    for mean, one, other in zip(both, alone, answer):
        expected = (torch.softmax(10 * one, -1) + torch.softmax(10 * other, -1)) / 2
        torch.testing.assert_close(torch.softmax(10 * mean, -1), expected)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"input": {"height": 192, "width": 160}}, r"teacher.input: found 192×160, allowed: .* of input \(128×96\)"),
        ({"input": {"height": 100, "width": 75}}, r"teacher.input.height: found 100, allowed: .* divisible by 16"),
        ({"keypoints": [0, 1]}, r"teacher.keypoints: found \[0, 1\], allowed: a list of 133 whole numbers"),
        ({"keypoints": list(range(133))}, r"teacher.keypoints: only a given teacher"),
        ({"more": [{"path": "nowhere.onnx", "sha256": None}]}, r"teacher.more\[0\].path: there is no file nowhere"),
        ({"more": []}, r"teacher.more: found \[\], allowed: a list with at least one entry"),
    ],
)
def test_bad_settings_are_one_line(changes, line):
    settings = read_settings(ROOT / "params.yaml")
    with pytest.raises(UserError, match=f"^{line}") as error:
        from_settings({**settings, "teacher": {**settings["teacher"], **changes}})
    assert "\n" not in str(error.value)
