"""What tests of several rooms need."""

import pytest


def _random_model(size="n", input_size=(64, 96), seed=0):
    """An untrained model whose logits are of the order of a trained one's, so that differences mean something."""
    import torch

    from posedistill.models.rtmpose import build_rtmpose

    torch.manual_seed(seed)
    model = build_rtmpose(size, input_size).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.normal_(module.bias, std=0.1)
    torch.nn.init.normal_(model.head.final_layer.weight, std=0.05)
    for layer in (model.head.mlp[1], model.head.cls_x, model.head.cls_y):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return model


@pytest.fixture(scope="session")
def random_model():
    """random_model(size="n", input_size=(64, 96), seed=0) → RTMPose in eval mode."""
    return _random_model
