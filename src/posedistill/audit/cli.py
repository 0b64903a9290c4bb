"""python -m posedistill audit: what looks wrong in annotations, and a corrected copy."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.files import dumps_json, printable, refuse_overwrite, sha256_file, writable_folder, write_atomic

DESCRIPTION = "Rank what looks wrong in COCO-WholeBody annotations: a model against the labels, and they themselves."
EPILOG = (
    "Writes DIR/audit.json (the findings, surest first) and DIR/audit.html (label beside proposal for the first "
    "hundred). To correct: set `accepted` to true in audit.json, then `posedistill audit --apply DIR/audit.json "
    "--annotations FILE --write corrected.json`. Exit code 1 if pictures were skipped."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("model", type=Path, nargs="?", help=".safetensors, mmpose .pth or .onnx, as `predict` takes it")
    parser.add_argument("--annotations", type=Path, required=True, metavar="FILE", help="COCO-WholeBody JSON")
    parser.add_argument("--images", type=Path, metavar="DIR", help="the pictures; for a scene of UBody, its videos")
    parser.add_argument("--out", type=Path, default=Path("runs/audit"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--least", type=float, default=0.05, help="findings less sure are not listed (%(default)s)")
    parser.add_argument("--apply", type=Path, metavar="audit.json", help="apply what is accepted in it; needs --write")
    parser.add_argument("--write", type=Path, metavar="corrected.json", help="where --apply writes the corrected copy")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(args: argparse.Namespace) -> int:
    if (args.apply is None) != (args.write is None):
        raise UserError("--apply and --write go together: --apply audit.json --write corrected.json")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: half-written files are removed
    return _apply(args) if args.apply is not None else _audit(args)


def _apply(args: argparse.Namespace) -> int:
    from posedistill.audit.apply import apply_audit

    if args.model is not None or args.images is not None:
        raise UserError("--apply needs neither a model nor --images: leave them out")
    refuse_overwrite([args.write], args.annotations, args.apply)
    changed, removed = apply_audit(args.apply, args.annotations, args.write)
    print(f"{changed} annotations changed, {removed} removed; written to {printable(args.write)}")
    if not changed and not removed:
        print(f"nothing is accepted in {printable(args.apply)}: the copy is unchanged", file=sys.stderr)
    return 0


def _audit(args: argparse.Namespace) -> int:
    if args.model is None or args.images is None:
        raise UserError("an audit needs a model and --images (or --apply audit.json --write corrected.json)")
    if not 0 < args.least < 1:
        raise UserError(f"--least: found {args.least:g}, expected a probability between 0 and 1")
    from posedistill.audit.apply import decided
    from posedistill.audit.candidates import KINDS
    from posedistill.audit.findings import SURE, ranked
    from posedistill.audit.labels import read_pictures
    from posedistill.audit.page import audit_page
    from posedistill.audit.survey import counts, survey
    from posedistill.inference.pose import load

    json_file, page_file = args.out / "audit.json", args.out / "audit.html"
    refuse_overwrite([json_file, page_file], args.annotations, args.model)
    if count := decided(json_file):
        raise UserError(
            f"{printable(json_file)}: a new audit would replace it, and `accepted` is set in {count} of its findings; "
            "move it, or choose another --out"
        )
    pictures = read_pictures(args.annotations, args.images)
    if not pictures:
        raise UserError(f"{printable(args.annotations)}: no person with a box and labels; there is nothing to audit")
    pose = load(args.model, args.device, flip_test=True)
    writable_folder(args.out)
    result = survey(pose, pictures)
    rows = ranked(result, args.least)
    title = f"{printable(args.annotations)}, {len(result.people):,} persons in {len(result.pictures):,} pictures"
    content: dict[str, Any] = {
        "annotations": args.annotations.name,
        "model": {"name": args.model.name, "sha256": sha256_file(args.model)},
        "persons": len(result.people),
        "counts": counts(rows, list(KINDS), 0.0),
        "sure": counts(rows, list(KINDS), SURE),
        "findings": rows,
    }
    write_atomic(json_file, dumps_json(content))
    write_atomic(page_file, audit_page(result, rows, title))
    print(
        f"{title}: {len(rows):,} findings, {sum(content['sure'].values()):,} of them at least {100 * SURE:.0f} % sure"
    )
    for kind, text in KINDS.items():
        print(f"{content['sure'][kind]:6,} of {content['counts'][kind]:6,}  {text}")
    print(f"written to {printable(json_file)} and {printable(page_file)}")
    for name, reason in result.skipped.items():
        print(f"skipped {printable(name)}: {reason}", file=sys.stderr)
    return 1 if result.skipped else 0
