"""python -m posedistill export: a folder with a model in all layouts, its metadata and its model card."""

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.data.geometry import BOX_PADDING
from posedistill.errors import UserError
from posedistill.evaluation.calibration import METADATA_KEY, read_calibration
from posedistill.export.certificate import PRECISIONS
from posedistill.export.onnx_file import export_onnx
from posedistill.export.precision import to_half, to_int8, with_metadata
from posedistill.files import printable, refuse_overwrite, writable_folder, write_atomic
from posedistill.inference.weights import padding_of
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.models.checkpoint import model_from_checkpoint
from posedistill.models.rtmpose import RTMPose
from posedistill.models.weights_file import read_weights
from posedistill.params import ROLES, Params, load_params
from posedistill.pipeline.export import RANGE_CROPS, training_crops
from posedistill.pipeline.handover import calibration_of, hand_over, output_files
from posedistill.pipeline.provenance import TRAINED_ON, check_fresh, find_origin, trained_on

DESCRIPTION = (
    "Write a folder that can be distributed: the model as safetensors, in mmpose's layout (.pth) and as ONNX, with "
    "settings, data hash, git revision and metrics, and a model card."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", choices=ROLES, default="stage2", help="one of the pipeline's models (%(default)s)")
    what.add_argument("--weights", type=Path, help="or any file of weights: .safetensors, mmpose .pth")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (runs/export/NAME)")
    parser.add_argument("--onnx-only", type=Path, metavar="FILE", help="write an ONNX file and nothing else")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="of --onnx-only; int8 takes its ranges from the project's prepared/train (%(default)s)",
    )
    parser.add_argument("--opset", type=int, default=17, help="of the ONNX file (%(default)s)")


@dataclass(frozen=True)
class Chosen:
    """What to export. `known`: the metadata of weights from elsewhere; None for the pipeline's own models, whose
    project is then the working folder, since settings hold paths relative to it."""

    name: str
    weights: Path
    out: Path
    onnx: Path | None
    known: dict[str, Any] | None = None


def run(args: argparse.Namespace) -> int:
    if args.precision != "fp32" and args.onnx_only is None:
        raise UserError(f"--precision {args.precision}: give --onnx-only FILE, which it is for")
    chosen = _own(args) if args.weights is None else _given(args)
    files = output_files(chosen.out, chosen.name) if chosen.onnx is None else [chosen.onnx]
    refuse_overwrite(files, chosen.weights)
    if args.onnx_only is not None and args.onnx_only.suffix.lower() != ".onnx":
        raise UserError(f"--onnx-only {printable(args.onnx_only)}: expected a file ending in .onnx")
    model = model_from_checkpoint(chosen.weights)
    if model.keypoints != NUM_KEYPOINTS:
        raise UserError(
            f"{chosen.weights}: expected {NUM_KEYPOINTS} keypoints (COCO-WholeBody), found {model.keypoints}"
        )
    params = load_params() if chosen.known is None else None
    writable_folder(files[0].parent)
    if chosen.onnx is None:
        hand_over(model, chosen.name, chosen.out, params, opset=args.opset, known=chosen.known)
    else:
        _write_onnx(model, chosen, chosen.onnx, params, args)
    for file in files:
        print(f"{printable(file)}: {file.stat().st_size / 2**20:.2f} MiB")
    return 0


def _write_onnx(model: RTMPose, chosen: Chosen, path: Path, params: Params | None, args: argparse.Namespace) -> None:
    """One file. Only float32 keeps a calibration: the scores of other precisions differ a little."""
    if args.precision == "int8" and params is None:
        raise UserError(
            f"{chosen.weights}: int8 takes its ranges from the training crops, and no project here has trained this "
            "model; allowed: --precision fp32 or fp16"
        )
    padding = padding_of(chosen.known or {}) if params is None else params.augment.box_padding
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "model.onnx")
        export_onnx(model, plain, args.opset, padding or BOX_PADDING)
        content = plain.read_bytes()
    if kinds := trained_on(chosen.weights, model):
        content = with_metadata(content, {TRAINED_ON: ",".join(sorted(kinds))})
    if args.precision == "fp32":
        found = read_calibration(chosen.known, chosen.name) if chosen.known else calibration_of(model, chosen.name)
        content = with_metadata(content, {METADATA_KEY: found.to_json()}) if found else content
    elif args.precision == "fp16":
        content = to_half(content)
    elif params is not None:
        content = to_int8(content, training_crops(params, RANGE_CROPS).numpy())
    write_atomic(path, content)
    if args.precision != "fp32":
        print(f"{args.precision} is neither judged nor calibrated here: the pipeline's stage `export` does both")


def _own(args: argparse.Namespace) -> Chosen:
    """One of the pipeline's models."""
    return _of_project(project.root(), args.model, Path("models") / f"{args.model}.safetensors", args)


def _given(args: argparse.Namespace) -> Chosen:
    """A file of weights, which may be one of the pipeline's models, or a copy of one."""
    weights, name = args.weights, args.weights.stem
    _, known = read_weights(weights)
    origin = None if known.get("settings") else find_origin(weights)
    if origin is None:
        return Chosen(name, weights, args.out or Path("runs/export") / name, args.onnx_only, known)
    print(f"{printable(weights)} is {origin.role} of the project {printable(origin.root)}")
    return _of_project(origin.root, origin.role, weights.resolve(), args)


def _of_project(root: Path, name: str, weights: Path, args: argparse.Namespace) -> Chosen:
    out = (args.out or root / "runs/export" / name).resolve()
    onnx = args.onnx_only and args.onnx_only.resolve()
    os.chdir(root)
    if not weights.is_file():
        raise UserError(f"there is no {weights}: make it with  dvc repro {name}, or name a file with --weights")
    if onnx is None:
        check_fresh(name)
    return Chosen(name, weights, out, onnx)
