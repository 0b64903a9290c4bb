"""Exponential moving average of the weights, as mmpose's ExpMomentumEMA."""

import math

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def moving_average(model: nn.Module, momentum: float = 2e-4, gamma: int = 2000) -> AveragedModel:
    """An averaged copy of `model`, parameters and buffers: `update_parameters(model)` after each optimiser step.

        average ← average + m_s · (model − average),   m_s = momentum + (1 − momentum) · exp(−(1 + s)/gamma)

    with s the updates so far; the first copies. Early on m_s is near 1 and the average follows the model closely.
    Integer buffers (BatchNorm's step counter) keep their first value. The copy, `.module`, is in eval mode.
    """
    if not 0 < momentum < 1:
        raise ValueError(f"momentum {momentum}: must lie between 0 and 1")

    def average(averages: Tensors, sources: Tensors, _: Tensor | int) -> None:
        if averages[0].is_floating_point():  # of one dtype
            ramp = math.exp(-(1 + int(averaged.n_averaged)) / gamma)  # the counter is on the CPU: nothing waits
            weight = momentum + (1 - momentum) * ramp
            get_ema_multi_avg_fn(1 - weight)(averages, sources, _)

    averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    averaged.module.requires_grad_(False)
    return averaged.eval()
