"""python -m posedistill export: a folder with a model in all layouts, its metadata and its model card."""

import argparse
import os
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.data.geometry import BOX_PADDING
from posedistill.errors import UserError
from posedistill.export.onnx_file import export_onnx
from posedistill.files import writable_folder
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.models.checkpoint import model_from_checkpoint
from posedistill.models.onnx_wrapper import is_onnx
from posedistill.models.weights_file import read_weights
from posedistill.params import ROLES, load_params
from posedistill.pipeline.handover import check_fresh, hand_over
from posedistill.pipeline.origin import made_here, padding_of

DESCRIPTION = (
    "Write a folder to hand a model over: safetensors, mmpose's layout (.pth) and ONNX, with settings, data hash, git "
    "revision and metrics, and a model card."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", choices=ROLES, default="stage2", help="one of the pipeline's models (%(default)s)")
    what.add_argument("--weights", type=Path, help="or any file of weights: .safetensors, mmpose .pth")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (runs/export/NAME)")
    parser.add_argument("--onnx-only", type=Path, metavar="FILE", help="write an ONNX file and nothing else")
    parser.add_argument("--opset", type=int, default=17, help="of the ONNX file (%(default)s)")


def run(args: argparse.Namespace) -> int:
    name, weights, out, known = _own(args) if args.weights is None else _given(args)
    if is_onnx(weights):
        raise UserError(f"{weights}: an ONNX model (a teacher that was given as one), expected weights to export")
    model = model_from_checkpoint(weights)
    if model.keypoints != NUM_KEYPOINTS:
        raise UserError(f"{weights}: expected {NUM_KEYPOINTS} keypoints (COCO-WholeBody), found {model.keypoints}")
    params = None if known is not None else load_params()
    writable_folder(out if args.onnx_only is None else args.onnx_only.parent)
    if args.onnx_only is not None:
        files = [args.onnx_only]
        padding = padding_of((known or {}).get("settings")) if params is None else params.augment.box_padding
        export_onnx(model, args.onnx_only, args.opset, padding or BOX_PADDING)
    else:
        files = hand_over(model, name, out, params, opset=args.opset, known=known)
    for file in files:
        print(f"{file}: {file.stat().st_size / 2**20:.2f} MiB")
    return 0


# Name, weights, folder to write, and of weights from elsewhere their metadata.
Chosen = tuple[str, Path, Path, dict[str, Any] | None]


def _own(args: argparse.Namespace) -> Chosen:
    """One of the pipeline's models; the project becomes the working folder: settings hold paths relative to it."""
    name, weights = args.model, Path("models") / f"{args.model}.safetensors"
    out = (args.out or project.root() / "runs/export" / name).resolve()
    args.onnx_only = args.onnx_only and args.onnx_only.resolve()
    project.enter()
    if not weights.is_file():
        raise UserError(f"there is no {weights}: make it with  dvc repro {name}, or name a file with --weights")
    if args.onnx_only is None:
        check_fresh(name)
    return name, weights, out, None


def _given(args: argparse.Namespace) -> Chosen:
    """A file of weights, which may be one of the pipeline's models, or a copy of one."""
    name, weights, out = args.weights.stem, args.weights, args.out or Path("runs/export") / args.weights.stem
    known = {} if is_onnx(weights) else read_weights(weights)[1]
    origin = made_here(weights) if not known.get("settings") and weights.is_file() else None
    if origin is None:
        return name, weights, out, known
    print(f"{weights} is {origin.role} of the project {origin.root}")
    args.onnx_only = args.onnx_only and args.onnx_only.resolve()
    chosen = origin.role, weights.resolve(), out.resolve(), None
    os.chdir(origin.root)
    if args.onnx_only is None:
        check_fresh(origin.role)
    return chosen
