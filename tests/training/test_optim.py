from pathlib import Path

import pytest
import torch
from torch import nn

from posedistill.models import build_rtmpose
from posedistill.training.optim import build_optimizer, parameter_groups, set_lr, weight_decays

GOLDEN = Path(__file__).parents[1] / "golden/training"


def published(stage):
    """Name → weight decay."""
    rows = [line.split("\t") for line in (GOLDEN / f"optim-groups-{stage}.txt").read_text().splitlines()]
    return {name: float(decay.removeprefix("wd=")) for name, _, decay, _ in rows}


class Distiller(nn.Module):
    """The published distiller's names around our modules."""

    def __init__(self, size, align):
        super().__init__()
        self.student = build_rtmpose(size)
        if align:
            self.distill_losses = nn.ModuleDict({"loss_fea": nn.ModuleDict({"align": nn.Conv2d(384, 1024, 1)})})


@pytest.mark.parametrize(("stage", "size"), [("s1", "t"), ("s2", "l")])
def test_weight_decay_of_every_tensor_is_the_published(stage, size):
    with torch.device("meta"):
        model = Distiller(size, align=stage == "s1")
    found = {name: decay for name, _, decay in weight_decays(model, 0.05)}
    assert found == published(stage)
    gains = ("head.mlp.0.g", "head.gau.gamma", "head.gau.beta", "head.gau.ln.g", "head.gau.res_scale.scale")
    assert all(found[f"student.{name}"] == 0.05 for name in gains)


def test_groups_hold_each_trained_tensor_once():
    model = build_rtmpose("n", (64, 64))
    model.backbone.requires_grad_(False)
    align = nn.Conv2d(4, 8, 1)
    groups = parameter_groups((model, align), 0.05)
    tensors = [id(tensor) for group in groups for tensor in group["params"]]
    expected = [id(tensor) for part in (model.head, align) for tensor in part.parameters()]
    assert sorted(tensors) == sorted(expected)
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]


def test_fused_adamw_steps_as_the_plain_one():
    def train(build):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)
        ).double()
        optimizer = build(model)
        images = torch.randn(8, 3, 6, 6, dtype=torch.float64)
        for step in range(5):
            set_lr(optimizer, 1e-2 / (step + 1))
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
        return torch.cat([tensor.flatten() for tensor in model.parameters()])

    ours = train(lambda model: build_optimizer(model, 1.0, 0.05))
    plain = train(lambda model: torch.optim.AdamW(parameter_groups(model, 0.05), lr=1.0, foreach=False, fused=False))
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        build_optimizer(nn.Linear(2, 2).requires_grad_(False), 1e-3, 0.05)
