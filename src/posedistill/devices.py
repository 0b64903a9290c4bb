"""The device that models run on and how they use it: `runtime` with every `auto` decided."""

import ctypes
import os
import platform
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, autocast, dtype, nn
from torch import device as torch_device

from posedistill.errors import UserError
from posedistill.parallel import cores
from posedistill.params import Runtime

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Device:
    """A device and how to use it. `precision` is that of convolutions and matrix products; losses are float32."""

    device: torch_device
    precision: dtype
    channels_last: bool
    compile: bool
    workers: int
    threads: int
    micro_batch: int | None

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> autocast:
        return autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def place(self, module: Module) -> Module:
        """`module` on the device, in the memory layout that is fast there."""
        module.to(self.device)
        if self.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return module

    def layout(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images.contiguous()

    def facts(self) -> dict[str, Any]:
        """Everything here that changes results, if only in the last bits; part of a training's key."""
        return {
            "device": self.device.type,
            "precision": str(self.precision),
            "channels_last": self.channels_last,
            "compile": self.compile,
            "threads": self.threads,
            "micro_batch": self.micro_batch,
            "torch": torch.__version__,
            "machine": platform.machine(),
        }


def choose_device(wanted: str, name: str = "--device") -> str:
    """cpu or cuda for `wanted` (auto | cpu | cuda): `auto` takes the GPU if there is one.

    UserError, naming the option or setting `name`, where cuda is wanted and PyTorch finds no GPU: a training that
    silently falls back to the CPU is noticed days later.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{name} is cuda, but PyTorch finds no GPU here; allowed: auto, cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def device_type(runtime: Runtime) -> str:
    """cpu or cuda for `runtime.device` (see `choose_device`)."""
    return choose_device(runtime.device, "runtime.device")


def worker_processes(runtime: Runtime) -> int:
    """Loader processes of this process: `runtime.workers`, or for `auto` on a GPU its share of the cores, up to 16, and
    on the CPU one if a core is left for it, which keeps up with a model that takes all cores."""
    if runtime.workers != "auto":
        return int(runtime.workers)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # that train on this machine
    if device_type(runtime) == "cpu":
        return min(1, max(0, cores() - processes))
    return min(16, max(1, cores() // processes))


def choose(runtime: Runtime) -> Device:
    """Decide every `auto` of `runtime` for this machine and this one of its processes."""
    cuda = device_type(runtime) == "cuda"
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if cuda and processes > torch.cuda.device_count():
        raise UserError(f"{processes} processes need a GPU each, but this machine has {torch.cuda.device_count()}")
    precision = runtime.precision
    if precision == "auto":
        precision = "bfloat16" if cuda and torch.cuda.is_bf16_supported() else "float32"
    return Device(
        device=torch.device("cuda", rank) if cuda else torch.device("cpu"),
        precision=getattr(torch, precision),
        channels_last=runtime.channels_last is not False,  # faster on GPUs, and on CPUs by a third
        compile=cuda if runtime.compile == "auto" else bool(runtime.compile),
        workers=worker_processes(runtime),
        threads=runtime.threads,
        micro_batch=runtime.micro_batch,
    )


def set_up(device: Device) -> None:
    """Process-wide settings: number of threads, and deterministic algorithms on the CPU."""
    torch.set_num_threads(device.threads)
    if device.cuda:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    else:
        torch.use_deterministic_algorithms(True)
        # Filling new memory takes time and only helps to find reads of uninitialised values.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        keep_memory()


def keep_memory() -> None:
    """Make the C library serve large blocks from memory that it keeps. Does nothing where it has no `mallopt`.

    Training steps of the default's sizes then take about 0.94 of the CPU time; at 256×192 there is no gain.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    mallopt(M_TOP_PAD, 1 << 28)
