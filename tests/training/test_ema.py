from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from posedistill.training.ema import ExpMomentumEMA

GOLDEN = np.load(Path(__file__).parents[1] / "golden/training/sched_ema.npz")


def network():
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def put(model, row):
    start = 0
    for tensor in model.state_dict().values():
        tensor.copy_(torch.tensor(row[start : start + tensor.numel()]).view(tensor.shape))
        start += tensor.numel()
    assert start == len(row)


def test_averages_are_the_published():
    model = network()  # float32, as the golden values were made
    assert list(model.state_dict()) == list(GOLDEN["ema_keys"])
    ema = ExpMomentumEMA(model, float(GOLDEN["ema_momentum"]), int(GOLDEN["ema_gamma"]))
    for source, expected in zip(GOLDEN["ema_src"], GOLDEN["ema_out"]):
        put(model, source)
        ema.update()
        found = torch.cat([tensor.double().flatten() for tensor in ema.model.state_dict().values()])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_the_average_follows_ever_more_slowly():
    model = network()
    ema = ExpMomentumEMA(model, momentum=0.1, gamma=2)
    nn.init.zeros_(model[0].weight)
    ema.update()
    moved = []
    for _ in range(30):
        before = ema.model[0].weight.clone()
        nn.init.constant_(model[0].weight, before.max().item() + 1)
        ema.update()
        moved.append((ema.model[0].weight - before).mean().item())
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] == pytest.approx(0.1, rel=1e-4)


def test_what_is_frozen_is_shared_and_left_alone():
    model = nn.Sequential(network(), network())
    model[0].requires_grad_(False).eval()
    ema = ExpMomentumEMA(model)
    assert set(ema.state_dict()["tensors"]) == {f"1.{name}" for name in network().state_dict()}
    shared = [ema.model[0][0].weight.data_ptr(), ema.model[0][1].running_mean.data_ptr()]
    assert shared == [model[0][0].weight.data_ptr(), model[0][1].running_mean.data_ptr()]
    before = {name: tensor.clone() for name, tensor in model[0].state_dict().items()}
    for value in (1.0, 2.0):
        nn.init.constant_(model[1][0].weight, value)
        ema.update()
    assert all(torch.equal(before[name], tensor) for name, tensor in model[0].state_dict().items())
    assert (ema.model[1][0].weight > 1).all() and (model[1][0].weight == 2).all()


def test_the_source_keeps_its_gradients_and_mode():
    model = network().train()
    ema = ExpMomentumEMA(model)
    model(torch.randn(4, 3)).sum().backward()
    ema.update()
    assert all(parameter.requires_grad for parameter in model.parameters()) and model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters()) and not ema.model.training


def test_interrupted_and_continued_is_the_same():
    def run(interrupt):
        torch.manual_seed(0)
        model = network()
        ema = ExpMomentumEMA(model)
        for step in range(6):
            if step == interrupt:
                state = {**ema.state_dict(), "tensors": {k: v.clone() for k, v in ema.state_dict()["tensors"].items()}}
                ema = ExpMomentumEMA(model)
                ema.load_state_dict(state)
            nn.init.normal_(model[0].weight)
            ema.update()
        return ema.model.state_dict()

    whole, parts = run(None), run(3)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_averages_of_another_model_are_refused():
    state = ExpMomentumEMA(nn.Linear(2, 2)).state_dict()
    with pytest.raises(KeyError, match="another model"):
        ExpMomentumEMA(network()).load_state_dict(state)
    with pytest.raises(ValueError, match="momentum"):
        ExpMomentumEMA(network(), momentum=1.5)
