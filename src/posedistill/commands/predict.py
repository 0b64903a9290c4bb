"""python -m posedistill predict: keypoints and drawings for pictures, folders and videos."""

import argparse
import math
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import torch

from posedistill.errors import UserError, shorten
from posedistill.evaluation.calibration import CALIBRATED, PASSES
from posedistill.files import printable, refuse_overwrite, writable_folder
from posedistill.inference.boxes import Boxes, whole_image
from posedistill.inference.detector import Detector
from posedistill.inference.drawing import MIN_CONFIDENCE, RAW_THRESHOLD, RAW_THRESHOLD_RENDERED, usual_threshold
from posedistill.inference.outputs import FORMATS, output_files
from posedistill.inference.pose import Pose, load
from posedistill.inference.predict import CHOICES, STEPS, FindBoxes, Predicted, Wanted, predict_source
from posedistill.inference.sources import Source, open_source
from posedistill.inference.weights import WEIGHTS, describe_device
from posedistill.keypoints import PART_NAMES
from posedistill.pipeline.provenance import box_padding, trained_on

FEW = 0.25  # if a smaller share of a part's points is drawn, a note says so
RENDERED = {"synthetic"}

DESCRIPTION = "Predict 133 keypoints per person, write them as COCO or OpenPose JSON and draw them."
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
    parser.add_argument("input", type=_path("input"), help="a picture, a folder of pictures, or a video")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--boxes",
        type=_path("--boxes"),
        help="JSON: COCO detections, a keypoints.json, or {file name: [[x, y, width, height], ...]}; see below",
    )
    where.add_argument(
        "--detector", type=_path("--detector"), help="ONNX with outputs dets and labels, as mmdeploy exports RTMDet"
    )
    parser.add_argument(
        "--weights", type=_path("--weights"), default=Path(WEIGHTS), help=".safetensors, mmpose .pth or .onnx"
    )
    parser.add_argument("--out", type=_path("--out"), default=Path("runs/predict"), metavar="DIR", help="(%(default)s)")
    parser.add_argument(
        "--format",
        type=_some_of("--format", FORMATS),
        default=("coco",),
        metavar="FORMAT,...",
        help="coco (keypoints.json), openpose (openpose_json/, one file a frame), or both; (coco)",
    )
    parser.add_argument(
        "--parts",
        type=_some_of("--parts", CHOICES),
        default=tuple(CHOICES),
        metavar="PART,...",
        help="what to write and draw, of body,feet,face,hands (all)",
    )
    parser.add_argument(
        "--flip-test", action="store_true", help="mean of the picture and its mirror: better, half as fast"
    )
    parser.add_argument("--smooth", action="store_true", help="steady keypoints of a video: One-Euro filter")
    parser.add_argument("--box-score", type=float, default=0.3, help="boxes below are left out (%(default)s)")
    drawn = parser.add_mutually_exclusive_group()
    drawn.add_argument(
        "--min-confidence", type=float, help=f"points below are not drawn; needs calibrated weights ({MIN_CONFIDENCE})"
    )
    drawn.add_argument(
        "--threshold",
        type=float,
        help=f"the same by raw score, for weights without calibration ({RAW_THRESHOLD}; {RAW_THRESHOLD_RENDERED} for "
        "models of rendered people)",
    )
    parser.add_argument(
        "--score",
        choices=("min", "mean"),
        default="min",
        help="a point's raw score: the smaller of both axes' maxima, as in mmpose, or their mean, as in rtmlib (min)",
    )
    parser.add_argument("--no-drawings", action="store_true", help="records alone")
    parser.add_argument("--batch", type=int, default=32, help="persons at a time (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all cores")


def run(args: argparse.Namespace) -> int:
    _check(args)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: half-written files are removed
    source = open_source(args.input)
    if args.smooth and source.kind != "video":
        raise UserError(f"--smooth is for videos, found {printable(args.input)}")
    drawings = not args.no_drawings
    files = output_files(source, args.out, drawings, args.format)
    refuse_overwrite(files, args.boxes, args.detector, args.weights)
    if args.threads:
        torch.set_num_threads(args.threads)
    threads = args.threads or torch.get_num_threads()
    pose = load(args.weights, args.device, flip_test=args.flip_test, score=args.score, threads=threads)
    pose.padding = box_padding(args.weights, pose.model)  # of the pipeline's own models, too
    kinds = trained_on(args.weights, pose.model)
    threshold, by_confidence = _threshold(args, pose, kinds)
    find_boxes = _boxes(args, source, threads, str(pose.device))
    writable_folder(args.out)
    _say_what_runs(args, pose, kinds, threshold)
    _say_what_is_read(args, source, find_boxes)
    wanted = Wanted(threshold, by_confidence, drawings, args.format, args.parts, args.smooth)
    done = predict_source(source, find_boxes, pose, args.out, wanted, batch=args.batch)
    return _report(done, args, wanted, kinds, find_boxes.notes() if isinstance(find_boxes, Boxes) else [])


def _check(args: argparse.Namespace) -> None:
    if args.batch < 1 or not 0 <= args.threads <= 1024:  # each thread costs memory
        raise UserError("--batch must be at least 1 and --threads from 0 to 1024")
    for name in ("box_score", "threshold"):
        value = getattr(args, name)
        if value is not None and not math.isfinite(value):
            raise UserError(f"--{name.replace('_', '-')}: found {value}, expected a number")
    if args.min_confidence is not None and not 0 <= args.min_confidence <= 1:
        raise UserError(f"--min-confidence: found {args.min_confidence}, expected a probability from 0 to 1")


def _path(name: str) -> Callable[[str], Path]:
    """A path argument. Path("") would be the current folder."""

    def read(text: str) -> Path:
        if not text:
            raise UserError(f"{name}: found an empty name, expected a file or folder ('.' is the current folder)")
        return Path(text)

    return read


def _some_of(name: str, allowed: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """An argument that lists some of `allowed`, separated by commas."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
        if not set(found) <= set(allowed):
            raise UserError(f"{name}: found {shorten(text)!r}, expected some of {','.join(allowed)}")
        return found

    return read


def _threshold(args: argparse.Namespace, pose: Pose, kinds: set[str]) -> tuple[float, bool]:
    """From which value on points are drawn, and whether it is a confidence (else a raw score)."""
    if args.threshold is not None:
        return args.threshold, False
    calibrated = pose.calibration is not None
    if args.min_confidence is None:
        return usual_threshold(calibrated, kinds == RENDERED), calibrated
    if not calibrated:
        raise UserError(
            f"--min-confidence: {printable(args.weights)} has no calibration; make one with "
            "`python -m posedistill calibrate`, or give a raw score with --threshold"
        )
    return args.min_confidence, True


def _boxes(args: argparse.Namespace, source: Source, threads: int, device: str) -> FindBoxes:
    if args.boxes is not None:
        boxes = Boxes(args.boxes, args.box_score, by_number=source.kind == "video")
        source.number_as(boxes.image_ids)
        return boxes
    if args.detector is not None:
        return Detector(args.detector, args.box_score, threads, device)
    return whole_image


def _say_what_runs(args: argparse.Namespace, pose: Pose, kinds: set[str], threshold: float) -> None:
    height, width = pose.input_size
    crops = f"input {height}x{width}, boxes widened {pose.padding:g} times"
    print(f"{printable(args.weights)} ({crops}) runs on {describe_device(pose.model, str(pose.device))}")
    if pose.calibration is not None:
        fitted = f"{shorten(printable(pose.calibration.data))} ({pose.calibration.persons:,} persons)"
        print(f"confidence is calibrated on {fitted}; trained on {_sources(kinds)}")
        curves = pose.calibration.curves[PASSES[pose.flip_test]]
        if left_out := [PART_NAMES[part] for part in CALIBRATED if part not in curves]:
            print(f"no calibration for {_listed(left_out)}: confidence 0; --threshold draws by raw score")
    else:
        print(f"no calibration: points are drawn from raw score {threshold:g} on; trained on {_sources(kinds)}")


def _sources(kinds: set[str]) -> str:
    if kinds == RENDERED:
        return "rendered people alone"
    return ", ".join(sorted(map(shorten, kinds))) if kinds else "unknown data (the file does not say)"


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


def _few_points(done: Predicted, limit: str) -> str:
    """Which parts the drawings nearly lack, and what would show them; empty if none."""
    parts = [part for part, points in done.points.items() if done.shown[part] < FEW * points]
    if not parts:
        return ""
    halves = {part: STEPS[done.reached[part] >= done.points[part] / 2] for part in parts}
    enough = [f"{part} from {steps.max():g} on" for part, steps in halves.items() if len(steps)]
    never = [part for part, steps in halves.items() if not len(steps)]
    told = [f"half would be drawn of {_listed(enough)}"] if enough else []
    told += [f"most of {_listed(never)} lie outside the picture or below {STEPS[0]:g}"] if never else []
    return f"few points of {_listed(parts)} reach {limit}: {'; '.join(told)}"


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _report(done: Predicted, args: argparse.Namespace, wanted: Wanted, kinds: set[str], notes: list[str]) -> int:
    print(f"{done.persons} persons in {done.frames} pictures or frames; written to {printable(args.out)}")
    if done.empty:
        print(f"{done.empty} of them have no box, and so no person")
    option = "--min-confidence" if wanted.by_confidence else "--threshold"
    if points := done.points.total():
        drawn = f"points {'would be' if args.no_drawings else 'are'} drawn"
        where = f"inside the picture, {option} {wanted.threshold:g} or more"
        print(f"{done.shown.total()} of {points} {drawn}: {where}")
    if few := _few_points(done, f"{option} {wanted.threshold:g}"):
        notes.append(few + ("; a model of rendered people is unsure of photographs" if kinds == RENDERED else ""))
    for note in notes:
        print(note, file=sys.stderr)
    for skipped in done.skipped:
        print(f"skipped {skipped.name}: {skipped.reason}", file=sys.stderr)
    return 1 if done.skipped else 0
