"""AdamW and its parameter groups."""

from collections.abc import Iterable, Iterator

import torch
from torch import nn

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


def weight_decays(model: nn.Module, weight_decay: float) -> Iterator[tuple[str, nn.Parameter, float]]:
    """Name, tensor and weight decay of every trained parameter, as in the published training.

    0 for norm layers and biases, `weight_decay` for the rest: that includes the gains of the head (ScaleNorm `g`,
    GAU `gamma` and `beta`, residual `scale`), which are no norm layers to mmengine.
    """
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                bare = isinstance(module, NORMS) or name == "bias"
                yield f"{prefix}.{name}".lstrip("."), parameter, 0.0 if bare else weight_decay


def parameter_groups(models: nn.Module | Iterable[nn.Module], weight_decay: float) -> list[dict]:
    """The two groups for a torch optimiser, with and without decay; an empty one is left out."""
    models = [models] if isinstance(models, nn.Module) else models
    groups: dict[float, list[nn.Parameter]] = {weight_decay: [], 0.0: []}
    for model in models:
        for _, parameter, decay in weight_decays(model, weight_decay):
            groups[decay].append(parameter)
    return [{"params": group, "weight_decay": decay} for decay, group in groups.items() if group]


def build_optimizer(models: nn.Module | Iterable[nn.Module], lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over what is trained in `models` (betas 0.9, 0.999), all tensors in one fused kernel.

    Set the rate of a step with `set_lr`. Nothing to train is a ValueError.
    """
    return torch.optim.AdamW(parameter_groups(models, weight_decay), lr=lr, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr
