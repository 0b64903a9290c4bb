"""What a training minimises, as the loop sees it."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from posedistill.losses import Pair
from posedistill.models import simcc
from posedistill.models.rtmpose import RTMPose
from posedistill.training.compiled import compile_regions

Function = TypeVar("Function", bound=Callable)


def full(values: Tensor) -> Tensor:
    """At least float32: softmax and sums of squares lose too much in bfloat16."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def full_pair(pair: Pair) -> Pair:
    """`full` of both axes."""
    return full(pair[0]), full(pair[1])


def detached(pair: Pair) -> Pair:
    """Both axes without their history."""
    return pair[0].detach(), pair[1].detach()


def labels_of(keypoints: Tensor, input_size: tuple[int, int], dtype: torch.dtype) -> tuple[Pair, Tensor]:
    """Keypoints [B, K, 3] in input pixels → Gaussian labels (x [B, K, 2W], y [B, K, 2H]) and weights [B, K]."""
    return simcc.encode(keypoints, input_size, dtype), simcc.label_weight(keypoints, input_size).to(dtype)


class Objective(nn.Module):
    """The networks that are trained, and their loss.

    `parameters()` are the trained parameters and no others. Frozen networks are kept in a tuple, where the optimiser,
    `state_dict()`, `train()` and DistributedDataParallel do not find them: they stay in eval mode whatever is called on
    the objective. (In the published code, `train()` changed the teacher's BatchNorm statistics.)
    """

    _fused: dict[Callable, Callable] | None = None  # once compiled: function → compiled function

    @property
    def frozen(self) -> list[nn.Module]:
        """The frozen networks."""
        tuples = (value for value in vars(self).values() if isinstance(value, tuple))
        return [network for value in tuples for network in value if isinstance(network, nn.Module)]

    def compile(self, **options: Any) -> None:
        """Compile all networks by region, and what goes through `fused`; `options` are torch.compile's."""
        self._options = {"dynamic": False, **options}
        self._fused = {}
        for network in (self, *self.frozen):
            compile_regions(network, **self._options)

    def fused(self, function: Function) -> Function:
        """`function`, compiled where the networks are: many small operations on large tensors become few."""
        if self._fused is None:
            return function
        if function not in self._fused:
            self._fused[function] = torch.compile(function, **self._options)
        return self._fused[function]  # type: ignore[return-value]

    @property
    def averaged(self) -> nn.Module:
        """The module that the moving average follows: the student, or its head."""
        raise TypeError(f"{type(self).__name__} needs an averaged module")

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before every epoch; `epoch` counts from 0."""

    def forward(
        self, images: Tensor, keypoints: Tensor, teacher_images: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Pair, Pair | None]:
        """Images [B, 3, H, W], normalised, and keypoints [B, K, 3] → the weighted loss terms (0-d, batch means; `total`
        is their sum), the student's logits, and the teacher's logits if there is a teacher.

        `teacher_images` are the same views for a teacher of another input size."""
        raise TypeError(f"{type(self).__name__} needs a forward of its own")

    def weight(self, keypoints: Tensor) -> Tensor:
        """Weight [B, K] of the keypoints in the logged accuracy."""
        return keypoints[..., 2]

    def model(self, averaged: Any) -> RTMPose:
        """The model to validate and to write, with `averaged` in its place."""
        return averaged

    def facts(self) -> dict[str, float]:
        """Numbers of the current epoch for the curves."""
        return {}

    def evaluated_terms(self, *inputs: Tensor) -> tuple[float, dict[str, float]]:
        """The loss in eval mode, and the gradient norm of each weighted term (grad_<term>; if there are several), on
        what `forward` takes of one batch, over the averaged module.

        Eval mode keeps the BatchNorm statistics as they are, so measuring does not change the training.
        """
        was_training = self.training
        self.eval()
        terms, _, _ = self.forward(*inputs)
        loss = terms["total"].item()
        terms = {name: term for name, term in terms.items() if name != "total" and term.requires_grad}
        norms = {}
        if len(terms) > 1:
            parameters = [parameter for parameter in self.averaged.parameters() if parameter.requires_grad]
            for name, term in terms.items():
                gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
                norm = torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm()
                norms[f"grad_{name}"] = norm.item()
        self.train(was_training)
        return loss, norms
