"""Small stand-ins for the prepared store and its loader: the same batches whenever they are asked for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from posedistill.devices import Device
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.training.checkpoints import RunFolder
from posedistill.training.loop import TrainingPlan
from posedistill.training.schedule import Schedule
from posedistill.training.supervised import Supervised

SIZE = (32, 32)


class FakeBatch(SimpleNamespace):
    """A batch whose teacher, if there is one, sees the student's images."""

    teacher_images = None


RECIPE = 9

CPU = Device(
    device=torch.device("cpu"),
    precision=torch.float32,
    channels_last=False,
    compile=False,
    workers=0,
    threads=1,
    micro_batch=None,
)


def plan(epochs: int = 2, steps_per_epoch: int = 4, batch: int = 4, **other) -> TrainingPlan:
    values = {
        "name": "baseline",
        "schedule": Schedule(1e-3, epochs * steps_per_epoch, 2, 1e-5, steps_per_epoch, 0.05),
        "weight_decay": 0.05,
        "clip_norm": 1.0,
        "ema_momentum": 2e-4,
        "ema_gamma": 2000,
        "validate_every": 1,
        "keep": "last",
    }
    return TrainingPlan(epochs=epochs, steps_per_epoch=steps_per_epoch, batch=batch, **(values | other))


def batch_at(epoch: int, step: int, batch: int, dtype: torch.dtype = torch.float32) -> FakeBatch:
    """Images of one bright square; the keypoints are spread around it, the last ten unlabelled."""
    generator = torch.Generator().manual_seed(1000 * epoch + step)
    images = torch.randint(0, 60, (batch, *SIZE, 3), generator=generator, dtype=torch.uint8)
    centre = torch.randint(8, 24, (batch, 2), generator=generator)
    for image, (x, y) in zip(images, centre.tolist()):
        image[y - 3 : y + 3, x - 3 : x + 3] = 220
    spread = torch.randint(-6, 6, (133, 2), generator=torch.Generator().manual_seed(7))
    keypoints = torch.cat((centre[:, None] + spread, torch.ones(batch, 133, 1)), dim=2).to(dtype)
    keypoints[:, -10:, 2] = 0
    return FakeBatch(images=images, keypoints=keypoints, changes=no_augmentation(batch))


def no_augmentation(batch: int) -> Tensor:
    return torch.zeros(batch, RECIPE)


def batches_of(
    plan: TrainingPlan, rank: int = 0, processes: int = 1, dtype: torch.dtype = torch.float32
) -> Callable[[int, int], Iterator[FakeBatch]]:
    def batches(epoch: int, start: int) -> Iterator[FakeBatch]:
        for step in range(start, plan.steps_per_epoch):
            whole = batch_at(epoch, step, plan.batch, dtype)
            yield FakeBatch(**{name: values[rank::processes] for name, values in vars(whole).items()})

    return batches


def model(seed: int = 0, size: str = "n") -> RTMPose:
    torch.manual_seed(seed)
    return build_rtmpose(size, SIZE)


def supervised(seed: int = 0) -> Supervised:
    return Supervised(model(seed), 64)


def lively(objective: Supervised) -> Supervised:
    """With weights whose gradients are far above rounding: the published ones start near 0, where Adam divides noise by
    noise."""
    head = objective.student.head
    for layer in (head.final_layer, head.mlp[1], head.cls_x, head.cls_y):
        torch.nn.init.normal_(layer.weight, std=0.1)
    for name, parameter in objective.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return objective


def folder(path: Path) -> RunFolder:
    found = RunFolder(path)
    found.open()
    return found


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in a.state_dict().items())
