"""`python -m posedistill convert`: a checkpoint from any layout into ours or mmpose's."""

import argparse
from pathlib import Path

from posedistill.errors import UserError
from posedistill.files import sha256_file
from posedistill.models.checkpoint import load_backbone, model_from_checkpoint, save_checkpoint
from posedistill.models.layouts import Branch, has_head, normalise, size_of
from posedistill.models.macs import count_parameters
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.models.weights_file import read_weights

LAYOUTS = {".safetensors": "own", ".pth": "mmpose", ".pt": "mmpose"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Rewrite weights: from mmpose's layout, a distiller's file, an averaged copy or a CSPNeXt backbone file, or from "
        "ours, to ours (safetensors) or to one that mmpose loads. The file never runs code."
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
    layout = args.layout or LAYOUTS.get(args.target.suffix.lower())
    if layout is None:
        raise UserError(
            f"{args.target}: suffix not known, expected {', '.join(LAYOUTS)}, or say --layout own or mmpose"
        )
    model, backbone_only = _read(args.source, args.branch)
    backbone_only = backbone_only or args.backbone_only
    save_checkpoint(model, args.target, layout, backbone_only=backbone_only, half=args.half)
    part = model.backbone if backbone_only else model
    height, width = model.input_size
    what = "backbone" if backbone_only else f"input {height}×{width}, {model.keypoints} keypoints"
    print(
        f"{args.target}: size {model.size.name}, {what}, {count_parameters(part) / 1e6:.2f} M parameters, {layout} layout, "
        f"sha256 {sha256_file(args.target)}"
    )
    return 0


def _read(path: Path, branch: Branch) -> tuple[RTMPose, bool]:
    """The model in a file, and whether it is its backbone alone."""
    state = normalise(read_weights(path)[0], str(path), branch)
    size = size_of(state)
    if size is None or has_head(state):
        return model_from_checkpoint(path, branch=branch), False
    model = build_rtmpose(size)
    load_backbone(model, path, branch=branch)
    return model, True
