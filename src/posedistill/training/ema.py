"""Exponential moving average of the weights, as mmpose's ExpMomentumEMA."""

import copy
import math

import torch
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """An averaged copy of `model`, parameters and buffers: `update_parameters(model)` after each optimiser step.

        average ← average + m_s · (model − average),   m_s = momentum + (1 − momentum) · exp(−(1 + s)/gamma)

    with s the updates so far; the first copies. Early on m_s is near 1 and the average follows the model closely.
    Integer buffers (BatchNorm's step counter) keep their first value. The copy, `.module`, is in eval mode.

    State-dict keys are those of torch.optim.swa_utils.AveragedModel, which waits for a GPU in every update.
    """

    n_averaged: Tensor

    def __init__(self, model: nn.Module, momentum: float = 2e-4, gamma: int = 2000) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f"momentum {momentum}: must lie between 0 and 1")
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.register_buffer("n_averaged", torch.zeros((), dtype=torch.long))  # on the CPU: nothing waits
        self.momentum, self.gamma = momentum, gamma
        self.eval()

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Let the average follow `model` by a step, in one kernel for all tensors of a dtype."""
        updates = int(self.n_averaged)
        kept = 1 - (self.momentum + (1 - self.momentum) * math.exp(-(1 + updates) / self.gamma))
        if updates == 0:
            self.module.load_state_dict(model.state_dict())
        else:
            torch._foreach_lerp_(_floats(self.module), _floats(model), 1 - kept)
        self.n_averaged += 1


def _floats(model: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()]
