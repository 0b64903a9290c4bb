from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from posedistill.training.ema import MovingAverage

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
    ema = MovingAverage(model, float(GOLDEN["ema_momentum"]), int(GOLDEN["ema_gamma"]))
    for source, expected in zip(GOLDEN["ema_src"], GOLDEN["ema_out"]):
        put(model, source)
        ema.update_parameters(model)
        found = torch.cat([tensor.double().flatten() for tensor in ema.module.state_dict().values()])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_the_average_follows_ever_more_slowly():
    model = network()
    ema = MovingAverage(model, momentum=0.1, gamma=2)
    nn.init.zeros_(model[0].weight)
    ema.update_parameters(model)
    moved = []
    for _ in range(30):
        before = ema.module[0].weight.clone()
        nn.init.constant_(model[0].weight, before.max().item() + 1)
        ema.update_parameters(model)
        moved.append((ema.module[0].weight - before).mean().item())
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] == pytest.approx(0.1, rel=1e-4)


def test_the_source_keeps_its_gradients_and_mode():
    model = network().train()
    ema = MovingAverage(model)
    model(torch.randn(4, 3)).sum().backward()
    ema.update_parameters(model)
    assert all(parameter.requires_grad for parameter in model.parameters()) and model.training
    assert not any(parameter.requires_grad for parameter in ema.module.parameters()) and not ema.module.training


def test_interrupted_and_continued_is_the_same():
    def run(interrupt):
        torch.manual_seed(0)
        model = network()
        ema = MovingAverage(model)
        for step in range(6):
            if step == interrupt:
                state = {name: tensor.clone() for name, tensor in ema.state_dict().items()}
                ema = MovingAverage(model)
                ema.load_state_dict(state)
            nn.init.normal_(model[0].weight)
            ema.update_parameters(model)
        return ema.module.state_dict()

    whole, parts = run(None), run(3)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_averages_of_another_model_are_refused():
    state = MovingAverage(nn.Linear(2, 2)).state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        MovingAverage(network()).load_state_dict(state)


def test_a_momentum_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="momentum"):
        MovingAverage(network(), momentum=1.5)
