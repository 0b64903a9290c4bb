"""Whether a step of stage 1 on a device agrees with the same step in float32 on the CPU, tensor by tensor.

Compare trained weights on pictures of people. In a deep network with random weights the rounding of bfloat16 grows
from layer to layer, until the first layers' gradients hardly agree (a cosine of 0.5), whatever the device.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from posedistill.data.feed.device_augment import to_model_input
from posedistill.data.feed.loader import Batch
from posedistill.devices import Device
from posedistill.models.rtmpose import RTMPose
from posedistill.params import Loss
from posedistill.training.compiled import prepare_compiler
from posedistill.training.frozen import frozen
from posedistill.training.stage1 import Stage1

MATTERS = 1e-3  # of the norm of all gradients together: tensors below it hold rounding, and are left out
HOST = Device(torch.device("cpu"), torch.float32, True, False, workers=0, threads=1, micro_batch=None)


@dataclass(frozen=True)
class Parity:
    """lowest: the lowest cosine of a tensor's two gradients, which is that of the tensor `name`; of `count` tensors.
    loss: relative difference of the total loss."""

    lowest: float
    name: str
    count: int
    loss: float


def step_parity(student: RTMPose, teacher: RTMPose, loss: Loss, batch: Batch, device: Device) -> Parity:
    """One step of `student` under `teacher` (both on the CPU; they stay as they are) on `device`, in its precision and
    compiled if it says so, beside the same step in float32 on the CPU."""
    expected_loss, expected = _gradients(student, teacher, loss, batch, HOST)
    found_loss, found = _gradients(student, teacher, loss, batch, device)
    return compare(expected, found, abs(found_loss / expected_loss - 1))


def compare(expected: dict[str, Tensor], found: dict[str, Tensor], loss: float) -> Parity:
    """The lowest cosine of the gradients that matter."""
    whole = torch.stack([one.norm() for one in expected.values()]).norm()
    cosines = {
        name: torch.nn.functional.cosine_similarity(one.flatten(), found[name].flatten(), dim=0).nan_to_num(-1).item()
        for name, one in expected.items()
        if one.norm() >= MATTERS * whole
    }
    name = min(cosines, key=cosines.__getitem__)
    return Parity(cosines[name], name, len(cosines), loss)


def _gradients(
    student: RTMPose, teacher: RTMPose, loss: Loss, batch: Batch, device: Device
) -> tuple[float, dict[str, Tensor]]:
    """The loss, and the gradient of every trained tensor in float64 on the CPU."""
    torch.manual_seed(0)  # of the alignment of features
    objective = device.place(Stage1(copy.deepcopy(student), frozen(teacher, device), loss)).train()
    if device.compile:
        prepare_compiler()
        objective.compile()
    images = device.layout(to_model_input(batch.images, batch.changes).to(device.device))  # the same pixels
    with device.autocast():
        terms, _, _ = objective(images, batch.keypoints.to(device.device))
    terms["total"].backward()
    gradients = {name: one.grad for name, one in objective.named_parameters() if one.grad is not None}
    return terms["total"].item(), {name: one.double().cpu() for name, one in gradients.items()}
