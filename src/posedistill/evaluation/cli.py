"""python -m posedistill evaluate: COCO-WholeBody metrics of a file of predictions."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.evaluation.accumulate import METRICS
from posedistill.evaluation.advice import advice
from posedistill.evaluation.records import GroundTruth, read_ground_truth, read_predictions
from posedistill.evaluation.wholebody import REPORTED, evaluate_wholebody, match_wholebody, metrics_of
from posedistill.files import dumps_json, printable, refuse_overwrite, write_atomic
from posedistill.keypoints import PART_NAMES

DESCRIPTION = """COCO-WholeBody AP and AR of body, feet, face, left and right hand, hands (their mean) and whole body.
Equal to xtcocotools, the tool of the published numbers. Predictions: COCO results, keypoints as one list of 399 numbers
or split as mmpose writes them."""
MOST_SAMPLES = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `evaluate`."""
    parser.description = DESCRIPTION
    parser.add_argument("--annotations", required=True, type=Path, metavar="GT.json", help="COCO-WholeBody annotations")
    parser.add_argument("--predictions", required=True, type=Path, metavar="DT.json", help="COCO results")
    parser.add_argument(
        "--compare", type=Path, metavar="DT.json", help="other predictions to compare with, on the same images"
    )
    parser.add_argument(
        "--bootstrap", type=_count, default=None, metavar="N", help="95 %% intervals from N samples of the images"
    )
    parser.add_argument("--seed", type=_count, default=0, help="seed of the bootstrap (default: 0)")
    parser.add_argument("--no-area", action="store_true", help="take areas from the boxes, × 0.53 (as for CrowdPose)")
    parser.add_argument("--reference", action="store_true", help="compute with pycocotools' COCOeval, slowly")
    parser.add_argument("--output", type=Path, metavar="metrics.json", help="write the metrics as JSON")


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"found {text!r:.200}, expected a whole number of at least 0")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the tables, write the file; 0 if all went well."""
    if args.reference and (args.bootstrap or args.compare):
        raise UserError("--reference gives the metrics alone: leave out --bootstrap and --compare")
    if args.bootstrap is not None and args.bootstrap > MOST_SAMPLES:
        raise UserError(f"--bootstrap: found {args.bootstrap}, expected at most {MOST_SAMPLES}")
    if args.output:
        if args.output.is_dir():
            raise UserError(f"--output {args.output}: is a folder; give the name of a file")
        refuse_overwrite(args.output, args.annotations, args.predictions, args.compare)
    truth = read_ground_truth(args.annotations, use_area=not args.no_area)
    if args.reference:
        predictions = read_predictions(args.predictions, truth)
        _print_notes(truth.notes, predictions.notes)
        content: dict[str, Any] = evaluate_wholebody(truth, predictions, reference=True)
        _print_notes(tuple(advice(truth, predictions, content)))
        print(metric_table(content))
    else:
        content = _evaluate(args, truth)
    if args.output:
        write_atomic(args.output, dumps_json(content))
    return 0


def _evaluate(args: argparse.Namespace, truth: GroundTruth) -> dict[str, Any]:
    from posedistill.evaluation import bootstrap

    samples = args.bootstrap if args.bootstrap is not None else (1000 if args.compare else 0)
    matched = match_wholebody(truth, args.predictions)
    other = match_wholebody(truth, args.compare) if args.compare else None
    _print_notes(matched.notes, other.predictions.notes if other else ())
    metrics = metrics_of(matched)
    _print_notes(tuple(advice(truth, matched.predictions, metrics)))
    content: dict[str, Any] = dict(metrics)
    drawn = bootstrap.resampled_metrics(matched, samples, args.seed, progress=True) if samples else None
    intervals = None
    if drawn is not None:
        intervals = content["intervals"] = bootstrap.intervals(drawn)
    print(metric_table(metrics, intervals))
    if other:
        content["compared"] = metrics_of(other)
        print(f"\n{printable(args.compare)}\n{metric_table(content['compared'])}")
        if drawn is not None:
            against = bootstrap.resampled_metrics(other, samples, args.seed, progress=True)
            differences = bootstrap.paired_intervals(drawn, against)
            content["difference_intervals"] = differences
            names = f"{printable(args.predictions)} − {printable(args.compare)}"
            print(f"\n{names}, paired 95 % interval of the difference of AP\n")
            print(difference_table(metrics, content["compared"], differences))
    return content


def _print_notes(*notes: tuple[str, ...]) -> None:
    for note in itertools.chain(*notes):
        print(note, file=sys.stderr)


def metric_table(metrics: dict[str, dict[str, float]], intervals: Any = None) -> str:
    """Metrics in percent as aligned text; with intervals the AP's stands behind it."""
    head = ["part", *METRICS] if not intervals else ["part", "AP", "95 % interval", *METRICS[1:]]
    rows = [head]
    for part in REPORTED:
        cells = [_percent(metrics[part][metric]) for metric in METRICS]
        if intervals:
            low, high = intervals[part]["AP"]
            cells.insert(1, f"{_percent(low)} to {_percent(high)}")
        rows.append([PART_NAMES[part], *cells])
    return _aligned(rows)


def difference_table(a: dict, b: dict, intervals: Any) -> str:
    """Difference of AP per part in points, its interval, and whether that excludes 0."""
    rows = [["part", "difference", "95 % interval", ""]]
    for part in REPORTED:
        low, high = intervals[part]["AP"]
        real = "real" if low > 0 or high < 0 else "not told apart from 0"
        difference = a[part]["AP"] - b[part]["AP"]
        rows.append([PART_NAMES[part], _points(difference), f"{_points(low)} to {_points(high)}", real])
    return _aligned(rows)


def _points(value: float) -> str:
    return f"{100 * value:+z.2f}".replace("+0.00", "0.00")


def _percent(value: float) -> str:
    return "–" if value < 0 else f"{100 * value:.2f}"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in rows
    )
