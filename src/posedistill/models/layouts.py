"""Layouts of checkpoints: any of them brought to the names `backbone.…` and `head.…` of mmpose's RTMPose."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from posedistill.errors import UserError, shorten
from posedistill.models.cspnext import block_counts
from posedistill.models.sizes import SIZES

Branch = Literal["auto", "student", "teacher", "stage2"]
State = dict[str, Tensor]

# Name parts with underscores of their own, in the order in which they may occur in a name.
UNDERSCORED = (
    *("main_conv", "short_conv", "depthwise_conv", "pointwise_conv", "final_conv", "final_layer", "res_scale"),
    *("cls_x", "cls_y", "running_mean", "running_var", "num_batches_tracked"),
)
BLOCK = re.compile(r"backbone\.stage(\d)\.\d\.blocks\.(\d+)\.")
SIMCC = ("head.final_layer.weight", "head.cls_x.weight", "head.cls_y.weight")  # all heads of RTMPose have them
DIMENSIONS = {"backbone.stem.2.conv.weight": 4, **dict(zip(SIMCC, (4, 2, 2)))}  # of those whose shape says the model
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
        UserError: no CSPNeXt tensors in it, a tensor that is no plain array of numbers, half a head, or `branch` names
            a part that is not there.
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
    state = {name: tensor for name, tensor in state.items() if name.startswith(("backbone.", "head."))}
    _check_tensors(state, path)
    return state


def _check_tensors(state: State, path: str) -> None:
    """UserError where a tensor is no dense array of real numbers, or where those that say the model are malformed."""
    for name, tensor in state.items():
        if kind := _odd_kind(tensor):
            raise UserError(f"{path}: {shorten(name)}: expected a dense tensor of real numbers, found a {kind} one")
        expected = DIMENSIONS.get(name, tensor.dim())
        if tensor.dim() != expected and (name not in SIMCC or has_head(state)):
            raise UserError(f"{path}: {name}: expected {expected} dimensions, found {tensor.dim()}")
    missing = [name for name in SIMCC if name not in state]
    if has_head(state) and missing:
        raise UserError(f"{path}: not a whole SimCC head: lacks {', '.join(missing)}")


def _odd_kind(tensor: Tensor) -> str | None:
    if tensor.is_meta:
        return "meta"
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided:
        return "sparse"
    return "complex" if tensor.is_complex() else None


def _tensors(content: Any, path: str) -> State:
    for key in ("state_dict", "ema_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected tensors by name, found a {type(content).__name__}")
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
    return bool(counters) and not any(_odd_kind(counter) or counter.any() for counter in counters)


def _averaged(state: State) -> State:
    """Names `ema_backbone.stem…`, or with dots turned to underscores as mmcv's buffers, brought back."""
    averages = {name.removeprefix("ema_"): tensor for name, tensor in state.items() if name.startswith("ema_")}
    return {n if "." in n else _dotted(n): tensor for n, tensor in averages.items()} or state


def _dotted(name: str) -> str:
    name = name.replace("_", ".")
    for part in UNDERSCORED:
        name = name.replace(part.replace("_", "."), part, 1)
    return name


def _has_backbone(state: Iterable[str]) -> bool:
    return any(name.startswith("backbone.stem.") for name in state)


def _some(state: State) -> str:
    names = list(state)
    return f"tensors named {shorten(', '.join(names[:3]))} …" if names else "no tensors at all"


def has_head(state: State) -> bool:
    """Whether it has RTMPose's SimCC head (published CSPNeXt files have a heatmap or classification head instead)."""
    return "head.cls_x.weight" in state or "head.cls_y.weight" in state


def size_of(state: State) -> str | None:
    """The size whose backbone has this width and these numbers of blocks; None if there is none."""
    width = state.get("backbone.stem.2.conv.weight")
    for size in SIZES.values():
        if width is not None and len(width) == int(64 * size.widen) and _blocks(state) == block_counts(size):
            return size.name
    return None


def _blocks(state: Iterable[str]) -> list[int]:
    """Number of CSP blocks of each stage, by the names."""
    found = {match.groups() for name in state if (match := BLOCK.match(name))}
    stages = sorted({stage for stage, _ in found})
    return [len([block for stage, block in found if stage == this]) for this in stages]
