"""Gradients of a bfloat16 step beside those of float32; with a card, those of the card."""

import dataclasses
from pathlib import Path

import pytest
import torch
from test_distillation import LOSS
from training_fakes import batch_at, model

from posedistill.data.feed.loader import TrainLoader
from posedistill.data.store.arrow import TrainStore
from posedistill.devices import Device, choose
from posedistill.params import load_params
from posedistill.pipeline.prepare import prepare
from posedistill.training import parity
from posedistill.training.parity import HOST, compare, step_parity
from posedistill.training.supervised import new_student

ROOT = Path(__file__).parents[2]


def test_the_same_step_agrees_in_everything():
    found = step_parity(model(0), model(5, "nw").eval(), LOSS, batch_at(0, 0, 4), HOST)
    assert found.lowest == pytest.approx(1, abs=1e-9) and found.loss == 0 and found.count > 20


def test_the_tensor_that_agrees_least_is_named_and_small_ones_do_not_count():
    expected = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0, 2.0]), "c": torch.tensor([1e-6, 0.0])}
    found = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([0.0, 9.0]), "c": torch.tensor([-1.0, 0.0])}
    result = compare(expected, found, 0.5)
    assert (result.name, result.count, result.loss) == ("a", 2, 0.5)
    assert result.lowest == pytest.approx(0.5**0.5)
    assert compare(expected, found | {"b": torch.tensor([0.0, float("nan")])}, 0).lowest == -1


def test_pixels_are_made_once_for_both(monkeypatch):
    """Blur and jitter are other arithmetic on a GPU: not what is compared here."""
    places = []
    plain = parity.to_model_input
    monkeypatch.setattr(parity, "to_model_input", lambda images, c: places.append(images.device) or plain(images, c))
    step_parity(model(0), model(5, "nw").eval(), LOSS, batch_at(0, 0, 2), HOST)
    assert places == [torch.device("cpu")] * 2


def device(name: str, params) -> Device:
    if name == "cpu":
        return dataclasses.replace(HOST, precision=torch.bfloat16)
    return choose(params.runtime)


@pytest.mark.slow
@pytest.mark.parametrize(
    "where", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_bfloat16_gradients_are_those_of_float32(tmp_path, where):
    """The default's student at the start of stage 1, on rendered people."""
    params = load_params(ROOT / "params.yaml")
    source = params.data.train[0].replaced(images=40)
    params = params.replaced(
        data=params.data.replaced(root=str(ROOT / "assets"), train=[source], val=[source.replaced(images=1)])
    )
    prepare(params, tmp_path, workers=1, progress=False)
    loader = TrainLoader(TrainStore(tmp_path / "train"), params.input, lambda _: params.augment, batch=48, seed=0)
    models = []
    for section, size in ((params.student, params.student.size), (params.teacher, params.teacher.size)):
        backbone = section.backbone and section.backbone.replaced(path=str(ROOT / section.backbone.path))
        models.append(new_student(size, params.input.size, 0, backbone, "backbone"))
    found = step_parity(models[0], models[1].eval(), LOSS, next(loader.epoch(0)), device(where, params))
    assert found.lowest >= 0.99, found
    assert found.loss <= 0.01
