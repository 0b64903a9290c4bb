"""Loading weights of any layout into a model, and saving them as safetensors or in mmpose's layout."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from posedistill.errors import UserError, shorten
from posedistill.models.head import SPLIT_RATIO
from posedistill.models.layouts import Branch, State, has_head, normalise, size_of
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.models.sizes import SIZES
from posedistill.models.weights_file import METADATA_KEY, read_weights, write_safetensors, write_torch

Layout = Literal["own", "mmpose"]

# Head tensors that depend on the input size: a token's weights over the cells of the map, and the bins of the axes.
INPUT_SIZED = ("head.mlp.1.weight", "head.cls_x.weight", "head.cls_y.weight")
LARGEST_INPUT = 4096  # pixels a side


@dataclass(frozen=True)
class LoadedWeights:
    """The file's own `metadata` (empty unless this project wrote it), and the names `fresh` that it did not give."""

    metadata: Mapping[str, Any]
    fresh: tuple[str, ...] = ()


def load_checkpoint(
    model: RTMPose, path: str | Path, *, branch: Branch = "auto", complete: bool = False
) -> LoadedWeights:
    """Load the weights of `path` into `model`, in the model's own dtype.

    Reads safetensors and PyTorch files in our layout, mmpose's (`state_dict`), a distiller's (`branch`, see
    `layouts.normalise`), an averaged copy, and a CSPNeXt backbone alone. Never runs code from the file. Nothing is
    loaded when it fails.

    A file for another input size gives all but the three head tensors that depend on it, a backbone file all but the
    head; these keep their present values, and a warning names them. With `complete`, which a model that is to predict
    needs, that is a UserError instead.

    Raises:
        UserError: no such file, damaged, one that would run code, another size or number of keypoints; one line that
            says what was expected and what was found.
    """
    state, metadata = _read_for(model, path, branch)
    if has_head(state):
        _check_keypoints(model.keypoints, state, path)
    else:
        state = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    fresh = _copy(model, state, path)
    if fresh:
        what = _why(model, state)
        if complete:
            raise UserError(f"{path}: {what}; expected a file made for this input size, with its head")
        warnings.warn(f"{path}: {what}; loaded all but {_names(fresh)}", stacklevel=2)
    return LoadedWeights(metadata, fresh)


def load_backbone(model: RTMPose, path: str | Path, *, branch: Branch = "auto") -> LoadedWeights:
    """Load the backbone alone, from a backbone file or from any that `load_checkpoint` reads, for any input size.

    The published CSPNeXt files (AIC + COCO) carry a heatmap head of their own, which is left out. Errors as there.
    """
    state, metadata = _read_for(model, path, branch)
    prefix = "backbone."
    _copy(model.backbone, {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}, path)
    return LoadedWeights(metadata)


def model_from_checkpoint(path: str | Path, *, branch: Branch = "auto") -> RTMPose:
    """The model in a file, in eval mode: its size, input size and number of keypoints follow from the tensors' shapes.

    Raises:
        UserError: as `load_checkpoint`; also a file with no SimCC head, or of no known size.
    """
    content, _ = read_weights(path)
    return model_from_state(normalise(content, str(path), branch), path)


def model_from_state(state: State, path: str | Path) -> RTMPose:
    """The same of tensors that `layouts.normalise` gave; `path` names the file in errors."""
    size = size_of(state)
    if size is None or not has_head(state):
        missing = "a SimCC head" if size else f"a CSPNeXt of a known size ({', '.join(SIZES)})"
        raise UserError(f"{path}: expected a whole RTMPose, found no tensors of {missing}")
    height, width = input_size_of(state)
    if max(height, width) > LARGEST_INPUT:  # a tensor may claim any shape in a small file
        raise UserError(f"{path}: made for input {height}×{width}, expected at most {LARGEST_INPUT} pixels a side")
    try:
        model = build_rtmpose(size, (height, width), int(state["head.final_layer.weight"].shape[0]))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    _copy(model, state, path)
    return model.eval()


def input_size_of(state: State) -> tuple[int, int]:
    """(height, width) in pixels for which a state with a head was made."""
    return len(state["head.cls_y.weight"]) // SPLIT_RATIO, len(state["head.cls_x.weight"]) // SPLIT_RATIO


def save_checkpoint(
    model: RTMPose,
    path: str | Path,
    layout: Layout = "own",
    metadata: Mapping[str, Any] | None = None,
    *,
    backbone_only: bool = False,
    half: bool = False,
) -> None:
    """Write the model's weights, atomically; the same weights and metadata give the same bytes.

    Args:
        layout: "own" is safetensors; "mmpose" a PyTorch file {meta, state_dict} that mmpose loads. The names of the
            tensors are the same.
        metadata: plain values to keep with the weights; size, input size and number of keypoints are always added.
        backbone_only: leave the head out.
        half: floating-point tensors in float16.

    Raises:
        UserError: a value is too large for float16.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        if backbone_only and not name.startswith("backbone."):
            continue
        tensor = tensor.detach().cpu().contiguous()
        state[name] = _halved(name, tensor) if half and tensor.is_floating_point() else tensor
    about = dict(metadata or {})
    about |= {"size": model.size.name, "input_size": list(model.input_size), "keypoints": model.keypoints}
    if layout == "own":
        write_safetensors(path, state, about)
    elif layout == "mmpose":
        # A clone each: a view would drag its whole storage into the file.
        write_torch(path, {"meta": {METADATA_KEY: about}, "state_dict": {n: t.clone() for n, t in state.items()}})
    else:
        raise ValueError(f"layout {layout!r}: own or mmpose")


def _halved(name: str, tensor: Tensor) -> Tensor:
    halved = tensor.half()
    if halved.isinf().any():
        raise UserError(f"{name}: holds {tensor.abs().max():.3g}, float16 at most 65504: save it in float32")
    return halved


@torch.no_grad()
def _copy(model: nn.Module, state: State, path: str | Path) -> tuple[str, ...]:
    """Copy `state` into `model`; returns the names that stay as they are. Checks everything before it copies."""
    target: dict[str, Tensor] = model.state_dict()
    head_given = any(name.startswith("head.") for name in state)
    fresh = [name for name in target if name.startswith("head.") and not head_given]
    fresh += [n for n in INPUT_SIZED if n in target and n in state and target[n].shape != state[n].shape]
    missing = [n for n in target if n not in state and n not in fresh and not n.endswith("num_batches_tracked")]
    surplus = [n for n in state if n not in target]
    if missing or surplus:
        parts = [f"{word} {_names(names)}" for word, names in (("lacks", missing), ("has also", surplus)) if names]
        raise UserError(f"{path}: not the tensors of this model: {', '.join(parts)}")
    for name, tensor in state.items():
        if name not in fresh and target[name].shape != tensor.shape:
            raise UserError(f"{path}: {shorten(name)}: expected {_shape(target[name])}, found {_shape(tensor)}")
        if name not in fresh and not tensor.to(target[name].dtype).isfinite().all():
            raise UserError(
                f"{path}: {shorten(name)}: holds values that are not finite: its training diverged, or it is damaged"
            )
    for name, tensor in state.items():
        if name not in fresh:
            target[name].copy_(tensor)
    return tuple(fresh)


def _read_for(model: RTMPose, path: str | Path, branch: Branch) -> tuple[State, dict[str, Any]]:
    """The tensors and metadata of a file whose backbone is of the model's size."""
    content, metadata = read_weights(path)
    state = normalise(content, str(path), branch)
    _check_size(model.size.name, state, path)
    return state, metadata


def _check_size(expected: str, state: State, path: str | Path) -> None:
    found = size_of(state)
    if found != expected:
        named = f"size {found}" if found else f"a CSPNeXt of no known size ({_stem(state)})"
        raise UserError(f"{path}: expected model size {expected}, found {named}")


def _stem(state: State) -> str:
    width = state.get("backbone.stem.2.conv.weight")
    return f"{len(state)} tensors" if width is None else f"stem width {len(width)}, {len(state)} tensors"


def _check_keypoints(expected: int, state: State, path: str | Path) -> None:
    found = int(state["head.final_layer.weight"].shape[0])
    if found != expected:
        raise UserError(f"{path}: expected {expected} keypoints, found {found}")


def _why(model: RTMPose, state: State) -> str:
    if not has_head(state):
        return "holds a backbone, no SimCC head"
    (height, width), (h, w) = input_size_of(state), model.input_size
    return f"made for input {height}×{width}, the model's is {h}×{w}"


def _names(names: list[str] | tuple[str, ...]) -> str:
    return shorten(", ".join(names[:4])) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"
