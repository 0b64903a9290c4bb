"""What tests of several rooms need."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: tests of a file run in one process, and the others fill the second one meanwhile."""
    items.sort(key=lambda item: "test_small_run" not in item.nodeid)


def _random_model(size="n", input_size=(64, 96), seed=0):
    """An untrained model whose answers depend on the image as a trained one's do, so differences mean something."""
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


def _rule_weights(state, prefix="", seed=0):
    """Values for a state dict by the rule of tests/golden/README.md: one generator a tensor, seeded by its name."""
    import zlib

    import numpy as np
    import torch

    values = {}
    for name, tensor in state.items():
        shape = tuple(tensor.shape)
        draw = np.random.default_rng([seed, zlib.crc32((prefix + name).encode())])
        if name.endswith("num_batches_tracked"):
            values[name] = torch.tensor(1000)
            continue
        if name.endswith("running_var"):
            value = draw.uniform(0.5, 2.0, shape)
        elif name.endswith("running_mean"):
            value = 0.2 * draw.standard_normal(shape)
        elif len(shape) >= 2 and not name.endswith(("gamma", "beta")):
            gain = 1e-4 if ".cls_" in name else 1.0
            value = gain * np.sqrt(2 / np.prod(shape[1:])) * draw.standard_normal(shape)
        elif name.endswith("bias"):
            value = 0.1 * draw.standard_normal(shape)
        else:
            value = draw.uniform(0.5, 1.5, shape)
        values[name] = torch.tensor(value.astype(np.float32))
    return values


@pytest.fixture(scope="session")
def rule_weights():
    """rule_weights(state, prefix="", seed=0) → state dict of the golden models, rebuilt rather than stored."""
    return _rule_weights


@pytest.fixture(scope="session")
def rule_images():
    """rule_images(count, input_size, seed=0) → the images [count, 3, H, W] float32 of the golden models."""
    import numpy as np
    import torch

    def images(count, input_size, seed=0):
        values = np.random.default_rng([seed, 777]).standard_normal((count, 3, *input_size))
        return torch.tensor(values.astype(np.float32))

    return images
