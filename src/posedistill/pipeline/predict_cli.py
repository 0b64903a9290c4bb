"""python -m posedistill predict: keypoints and drawings for pictures, folders and videos."""

import argparse
import math
import signal
import sys
from pathlib import Path

import torch

from posedistill.devices import choose_device
from posedistill.errors import UserError, shorten
from posedistill.files import printable, refuse_overwrite, writable_folder
from posedistill.inference.boxes import Boxes, whole_image
from posedistill.inference.detector import Detector
from posedistill.inference.pose import Pose
from posedistill.inference.predict import FindBoxes, Predicted, output_files, predict_source
from posedistill.inference.sources import Source, open_source
from posedistill.inference.weights import WEIGHTS, describe_device, load_model
from posedistill.models.onnx_model import PoseModel
from posedistill.pipeline.provenance import box_padding, trained_on

FEW = 0.25  # share of points above the threshold below which drawings are nearly empty

DESCRIPTION = "Predict 133 keypoints per person, write them as COCO results and draw them."
EPILOG = (
    "Writes DIR/keypoints.json and, unless --no-drawings, overlays and OpenPose-style pictures on black for ControlNet "
    "(videos for a video). Inputs that cannot be read are listed and skipped, and the exit code is then 1. "
    "Boxes are widened as in the training: augment.box_padding in the metadata of the weights or, for a model of "
    "this pipeline, in dvc.lock; 1.25 otherwise. In --boxes, file_name is the safe way to name a picture. "
    "An image_id is, in a video, the frame's number from 0; in a folder, the number in the picture's name "
    "(000000000139.jpg) if the image_ids are such numbers, else the picture's place from 0 in the names sorted as "
    "text, which shifts when a picture is added. The output says which reading was used."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("input", type=Path, help="a picture, a folder of pictures, or a video")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--boxes", type=Path, help="JSON: COCO detections, or {file name: [[x, y, width, height], ...]}; see below"
    )
    where.add_argument("--detector", type=Path, help="ONNX with outputs dets and labels, as mmdeploy exports RTMDet")
    parser.add_argument("--weights", type=Path, default=Path(WEIGHTS), help=".safetensors, mmpose .pth or .onnx")
    parser.add_argument("--out", type=Path, default=Path("runs/predict"), metavar="DIR", help="(%(default)s)")
    parser.add_argument(
        "--flip-test", action="store_true", help="mean of the picture and its mirror: better, half as fast"
    )
    parser.add_argument("--box-score", type=float, default=0.3, help="boxes below are left out (%(default)s)")
    parser.add_argument("--threshold", type=float, default=0.3, help="points below are not drawn (%(default)s)")
    parser.add_argument("--no-drawings", action="store_true", help="keypoints.json alone")
    parser.add_argument("--batch", type=int, default=32, help="persons at a time (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all cores")


def run(args: argparse.Namespace) -> int:
    if args.batch < 1 or not 0 <= args.threads <= 1024:  # each thread costs memory
        raise UserError("--batch must be at least 1 and --threads from 0 to 1024")
    for name in ("box_score", "threshold"):
        if not math.isfinite(getattr(args, name)):
            raise UserError(f"--{name.replace('_', '-')}: found {getattr(args, name)}, expected a number")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: half-written files are removed
    source = open_source(args.input)
    drawings = not args.no_drawings
    refuse_overwrite(output_files(source, args.out, drawings), args.boxes, args.detector, args.weights)
    device = choose_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    threads = args.threads or torch.get_num_threads()
    model = load_model(args.weights, device, threads)
    padding = box_padding(args.weights, model)
    find_boxes = _boxes(args, source, threads, device)
    writable_folder(args.out)
    _say_what_runs(args, model, device, padding)
    _say_what_is_read(args, source, find_boxes)
    pose = Pose(model, device, args.flip_test, padding)
    done = predict_source(
        source, find_boxes, pose, args.out, batch=args.batch, threshold=args.threshold, drawings=drawings
    )
    notes = find_boxes.notes() if isinstance(find_boxes, Boxes) else []
    if done.shown < FEW * done.points:
        notes.append(_few_points(args, done, model))
    return _report(done, args, notes)


def _boxes(args: argparse.Namespace, source: Source, threads: int, device: str) -> FindBoxes:
    if args.boxes is not None:
        boxes = Boxes(args.boxes, args.box_score, by_number=source.kind == "video")
        source.number_as(boxes.image_ids)
        return boxes
    if args.detector is not None:
        return Detector(args.detector, args.box_score, threads, device)
    return whole_image


def _say_what_runs(args: argparse.Namespace, model: PoseModel, device: str, padding: float) -> None:
    height, width = model.input_size
    crops = f"input {height}x{width}, boxes widened {padding:g} times"
    print(f"{printable(args.weights)} ({crops}) runs on {describe_device(model, device)}")


def _say_what_is_read(args: argparse.Namespace, source: Source, find_boxes: FindBoxes) -> None:
    if find_boxes is whole_image:
        print("no --boxes and no --detector: each whole picture is taken as one person")
    if isinstance(find_boxes, Boxes) and find_boxes.image_ids and source.kind == "pictures":
        print(_say_numbering(source, args.boxes))
    if source.left_out:
        names = ", ".join(map(printable, source.left_out[:5])) + (", …" if len(source.left_out) > 5 else "")
        print(f"subfolders and videos in the folder are ignored ({len(source.left_out)}): {names}")


def _say_numbering(source: Source, boxes: Path) -> str:
    reading = "the number in a picture's name" if source.numbered else "a picture's place in the sorted names, from 0"
    first = f"{source.image_ids()[0]} is {printable(source.files[0].name)}"
    return f"{printable(boxes)}: image_id is read as {reading}: {first}"


def _few_points(args: argparse.Namespace, done: Predicted, model: PoseModel) -> str:
    """Why drawings are nearly empty, and what to do about it."""
    kinds = trained_on(args.weights, model)
    trained = ""
    if kinds == {"synthetic"}:
        trained = "; the model was trained on rendered people alone and is unsure of photographs"
    elif kinds:
        trained = f"; the model was trained on {', '.join(sorted(map(shorten, kinds)))}"
    return f"few points reach --threshold {args.threshold:g}: lower it to see more{trained}"


def _report(done: Predicted, args: argparse.Namespace, notes: list[str]) -> int:
    print(f"{done.persons} persons in {done.frames} pictures or frames; written to {printable(args.out)}")
    if done.empty:
        print(f"{done.empty} of them have no box, and so no person")
    if done.points:
        print(f"{done.shown} of {done.points} points above the threshold {args.threshold:g}")
    for note in notes:
        print(note, file=sys.stderr)
    for skipped in done.skipped:
        print(f"skipped {skipped.name}: {skipped.reason}", file=sys.stderr)
    return 1 if done.skipped else 0
