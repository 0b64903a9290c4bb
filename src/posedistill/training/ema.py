"""Exponential moving average of the weights, as mmpose's ExpMomentumEMA."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn


class ExpMomentumEMA:
    """An averaged copy of a model, parameters and buffers, updated once an optimiser step.

        average ← average + m_s · (model − average),   m_s = momentum + (1 − momentum) · exp(−(1 + s)/gamma)

    with s the updates so far; the first copies. Early on m_s is near 1 and the average follows the model closely.
    Integer buffers (BatchNorm's step counter) keep their first value. What is frozen is shared with the model rather
    than copied and averaged: parameters without `requires_grad`, and the buffers of modules that hold only such.
    """

    def __init__(self, model: nn.Module, momentum: float = 2e-4, gamma: int = 2000) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f"momentum {momentum}: must lie between 0 and 1")
        self.momentum = momentum
        self.gamma = gamma
        self.steps = 0
        source = _trained_tensors(model)
        trained = {id(tensor) for tensor in source.values()}
        tensors = dict(model.state_dict(keep_vars=True))
        # Given to deepcopy as already copied:
        shared = {id(tensor): tensor for tensor in tensors.values() if id(tensor) not in trained}
        self.model = copy.deepcopy(model, shared).requires_grad_(False).eval()
        average = dict(self.model.state_dict(keep_vars=True))
        self._names = list(source)
        self._source = list(source.values())
        self._average = [average[name].detach() for name in source]
        self._floats = [i for i, tensor in enumerate(self._source) if tensor.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights into the average."""
        if self.steps == 0:
            for average, source in zip(self._average, self._source):
                average.copy_(source)
        else:
            ramp = math.exp(-(1 + self.steps) / self.gamma)
            weight = self.momentum + (1 - self.momentum) * ramp
            averages = [self._average[i] for i in self._floats]
            torch._foreach_lerp_(averages, [self._source[i].detach() for i in self._floats], weight)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """Number of updates and averaged tensors, for a checkpoint."""
        return {"steps": self.steps, "tensors": dict(zip(self._names, self._average))}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave; other tensors than this model's are a KeyError."""
        if set(state["tensors"]) != set(self._names):
            raise KeyError("the averaged tensors are of another model")
        self.steps = state["steps"]
        for name, average in zip(self._names, self._average):
            average.copy_(state["tensors"][name])


def _trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and the buffers that change with them, by their names in the state dict."""
    names = set(model.state_dict())  # without buffers that are not saved
    tensors: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        frozen = bool(own) and not any(parameter.requires_grad for parameter in own)
        found: list[tuple[str, Tensor]] = [(n, p) for n, p in module.named_parameters(recurse=False) if p.requires_grad]
        if not frozen:
            found += list(module.named_buffers(recurse=False))
        for name, tensor in found:
            key = f"{prefix}.{name}".lstrip(".")
            if key in names:
                tensors[key] = tensor
    return tensors
