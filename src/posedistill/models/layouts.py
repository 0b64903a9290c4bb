"""Whose names a checkpoint uses: its tensors brought to `backbone.…` and `head.…`, as RTMPose (mmpose) names them."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from posedistill.errors import UserError
from posedistill.models.cspnext import CSPNeXt
from posedistill.models.head import RTMCCHead
from posedistill.models.sizes import SIZES

Branch = Literal["auto", "student", "teacher", "stage2"]
State = dict[str, Tensor]

WRAPPERS = ("module.", "_orig_mod.", "model.")  # data parallel and averaged, compiled, other trainers


def normalise(content: Any, path: str, branch: Branch = "auto") -> State:
    """The tensors `backbone.…` and `head.…` of one model, from whatever a file holds.

    Understood: our own files; mmpose's `state_dict`; files with `ema_state_dict` or `ema_` names alone (where plain
    names stand beside them, mmengine and mmcv have put the average under the plain names); CSPNeXt backbone files of
    mmpretrain, mmdet and mmpose, with or without `backbone.`; distiller files with `student.` and `teacher.`.

    Args:
        branch: which model of a distiller file. "stage2" is the teacher's backbone under the student's head: there the
            student's own backbone was never run. "auto" sees that from its BatchNorm counters, all 0, and otherwise
            takes the student.

    Raises:
        UserError: no CSPNeXt tensors in it, or `branch` names a part that is not there.
    """
    state = _unwrapped(_tensors(content, path))
    if any(name.startswith(("student.", "teacher.")) for name in state):
        state = _branch(state, path, branch)
    elif branch not in ("auto", "student"):
        raise UserError(f"{path}: not a distiller file, so it has no {branch} part")
    if not _has_backbone(state):
        state = _averaged(state)
    if "stem.0.conv.weight" in state:
        state = {f"backbone.{name}": tensor for name, tensor in state.items()}
    if not _has_backbone(state):
        raise UserError(f"{path}: expected the weights of an RTMPose or CSPNeXt, found {_some(state)}")
    return {name: tensor for name, tensor in state.items() if name.startswith(("backbone.", "head."))}


def _tensors(content: Any, path: str) -> State:
    for key in ("state_dict", "ema_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected tensors by name, found {type(content).__name__}")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _unwrapped(state: State) -> State:
    """Without the prefixes that wrappers of a model put before its names."""
    for wrapper in WRAPPERS * 2:
        if any(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    return state


def _branch(state: State, path: str, branch: Branch) -> State:
    def part(prefix: str) -> State:
        return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}

    student, teacher = part("student."), part("teacher.")
    if branch == "auto":
        untouched = _never_run(student) and teacher and not _never_run(teacher)
        branch = "stage2" if untouched else "student" if student else "teacher"
    if branch == "stage2":
        chosen = {n: t for n, t in teacher.items() if n.startswith("backbone.")}
        chosen |= {n: t for n, t in student.items() if n.startswith("head.")}
    else:
        chosen = student if branch == "student" else teacher
    if not chosen:
        raise UserError(f"{path}: expected a {branch} part, found {_some(state)}")
    return chosen


def _never_run(state: State) -> bool:
    counters = [t for n, t in state.items() if n.startswith("backbone.") and n.endswith("num_batches_tracked")]
    return bool(counters) and not any(int(counter) for counter in counters)


def _averaged(state: State) -> State:
    """Names `ema_backbone.stem…`, or with dots turned to underscores as mmcv's buffers, brought back."""
    averages = {name.removeprefix("ema_"): tensor for name, tensor in state.items() if name.startswith("ema_")}
    dotted = _dotted_names() if averages else {}
    return {dotted.get(name, name): tensor for name, tensor in averages.items()} or state


@lru_cache(maxsize=1)
def _dotted_names() -> dict[str, str]:
    largest = SIZES["x"]  # its names hold those of all sizes
    with torch.device("meta"):
        names = [f"backbone.{name}" for name in CSPNeXt(largest).state_dict()]
        names += [f"head.{name}" for name in RTMCCHead(largest, (64, 64), 1).state_dict()]
    return {name.replace(".", "_"): name for name in names}


def _has_backbone(state: Iterable[str]) -> bool:
    return any(name.startswith("backbone.stem.") for name in state)


def _some(state: State) -> str:
    names = list(state)
    return f"tensors named {', '.join(names[:3])} …" if names else "no tensors at all"


def has_head(state: State) -> bool:
    """Whether there is a SimCC head of RTMPose (published CSPNeXt files carry a heatmap or classification head)."""
    return "head.cls_x.weight" in state and "head.final_layer.weight" in state


@lru_cache(maxsize=len(SIZES))
def _backbone_shapes(size: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        tensors = CSPNeXt(SIZES[size]).state_dict()
    return {f"backbone.{name}": tuple(t.shape) for name, t in tensors.items() if "num_batches" not in name}


def size_of(state: State) -> str | None:
    """The size whose backbone has exactly these shapes; None where none has."""
    found = {n: tuple(t.shape) for n, t in state.items() if n.startswith("backbone.") and "num_batches" not in n}
    return next((size for size in SIZES if _backbone_shapes(size) == found), None)
