"""`python -m posedistill convert`: a checkpoint from any layout into ours or mmpose's."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posedistill.data.geometry import BOX_PADDING
from posedistill.errors import UserError
from posedistill.files import printable, refuse_overwrite, sha256_file
from posedistill.inference.weights import padding_of
from posedistill.models.checkpoint import Layout, load_backbone, model_from_state, save_checkpoint
from posedistill.models.layouts import has_head, normalise, size_of
from posedistill.models.macs import count_parameters
from posedistill.models.rtmpose import build_rtmpose
from posedistill.models.weights_file import read_weights
from posedistill.pipeline.provenance import find_origin

LAYOUTS: dict[str, Layout] = {".safetensors": "own", ".pth": "mmpose", ".pt": "mmpose"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Rewrite weights: from mmpose's layout, a distiller's file, an averaged copy, a CSPNeXt backbone, or ours, "
        "to ours (safetensors) or to what mmpose loads. No code in the file is ever run."
    )
    parser.add_argument("source", metavar="IN", type=Path, help="weights to read (.pth, .safetensors)")
    parser.add_argument("target", metavar="OUT", type=Path, help="file to write")
    parser.add_argument("--layout", choices=("own", "mmpose"), help="of OUT; by default told by its suffix")
    parser.add_argument(
        "--branch",
        choices=("auto", "student", "teacher", "stage2"),
        default="auto",
        help="model of a distiller file; stage2: its student's head on its teacher's backbone (default: auto)",
    )
    parser.add_argument("--backbone-only", action="store_true", help="leave out the head")
    parser.add_argument("--half", action="store_true", help="store float16")


def run(args: argparse.Namespace) -> int:
    layout: Layout | None = args.layout or LAYOUTS.get(args.target.suffix.lower())
    if layout is None:
        raise UserError(
            f"{args.target}: suffix not known, expected {', '.join(LAYOUTS)}, or say --layout own or mmpose"
        )
    refuse_overwrite(args.target, args.source)
    content, metadata = read_weights(args.source)
    state = normalise(content, str(args.source), args.branch)
    size = size_of(state)
    if size is None or has_head(state):
        model = model_from_state(state, args.source)
    else:
        model = build_rtmpose(size)
        load_backbone(model, args.source, branch=args.branch)
    backbone_only = args.backbone_only or not has_head(state)
    save_checkpoint(
        model, args.target, layout, _with_padding(metadata, args.source), backbone_only=backbone_only, half=args.half
    )
    parameters = count_parameters(model.backbone if backbone_only else model) / 1e6
    height, width = model.input_size
    what = "backbone" if backbone_only else f"input {height}×{width}, {model.keypoints} keypoints"
    print(
        f"{printable(args.target)}: size {model.size.name}, {what}, {parameters:.2f} M parameters, {layout} layout, "
        f"sha256 {sha256_file(args.target)}"
    )
    return 0


def _with_padding(metadata: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """The metadata, and for a model of the pipeline the box padding of its training where it is not the usual one:
    its own file leaves that to dvc.lock, which does not know the converted file."""
    origin = find_origin(source) if padding_of(metadata) is None else None
    return {**metadata, **({"box_padding": origin.padding} if origin and origin.padding != BOX_PADDING else {})}
