"""What tests of several rooms need."""

import pytest


def _random_model(size="n", input_size=(64, 96), seed=0):
    """An untrained model whose answers depend on the image as a trained one's do, so that differences mean something."""
    import torch

    from posedistill.models.rtmpose import build_rtmpose

    torch.manual_seed(seed)
    model = build_rtmpose(size, input_size)
    torch.nn.init.normal_(model.head.final_layer.weight, std=0.05)
    for layer in (model.head.mlp[1], model.head.cls_x, model.head.cls_y):
        torch.nn.init.normal_(layer.weight, std=0.1)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        torch.nn.init.normal_(norm.bias, std=0.1)
    coarse = torch.randn(8, 3, input_size[0] // 16, input_size[1] // 16)
    with torch.no_grad():  # batch norms that know the scale of what they see
        model.train()(torch.nn.functional.interpolate(coarse, size=input_size, mode="bilinear"))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


@pytest.fixture(scope="session")
def random_model():
    """random_model(size="n", input_size=(64, 96), seed=0) → RTMPose in eval mode."""
    return _random_model
