import pytest
import torch
from torch import nn

from posedistill.models import build_rtmpose
from posedistill.models.fold import fold_batch_norm


@pytest.mark.parametrize("size", ["n", "nw", "t", "m", "x"])
def test_folded_answers_are_the_same(size, rule_weights):
    with torch.device("meta"):
        model = build_rtmpose(size, (96, 64))
    model.load_state_dict(rule_weights(model.state_dict()), assign=True)
    model.eval()
    folded = fold_batch_norm(model)
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = model.backbone(images), folded.train().backbone(images)
        pairs = [(found, expected), *zip(folded.head(expected), model.head(expected))]
    for ours, theirs in pairs:
        assert ((ours - theirs).norm() / theirs.norm()).item() <= 1e-5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_the_model_itself_stays_as_it_was(random_model):
    model = random_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold_batch_norm(model)
    after = model.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_double_precision_is_kept(random_model):
    model = random_model(seed=3).double()
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.inference_mode():
        for ours, theirs in zip(fold_batch_norm(model)(images), model(images)):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
