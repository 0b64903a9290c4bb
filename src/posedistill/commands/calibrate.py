"""python -m posedistill calibrate: a model with the curves that turn its scores into probabilities."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posedistill import project
from posedistill.commands.convert import LAYOUTS
from posedistill.data.feed.loader import ValBatch, val_batches
from posedistill.data.geometry import BOX_PADDING, crop_of_box, warp_image, warp_matrix
from posedistill.data.store.arrow import ValStore
from posedistill.devices import choose_device
from posedistill.errors import UserError
from posedistill.evaluation.calibrate import LEAST_POINTS, ScoredPoints, cross_fitted, fit_calibration, reliabilities
from posedistill.evaluation.calibrate import scored_points as scored
from posedistill.evaluation.calibration import CALIBRATED, METADATA_KEY, PASSES, Calibration
from posedistill.evaluation.evaluate import own_boxes
from posedistill.evaluation.predict import predict_both
from posedistill.evaluation.records import GroundTruth, read_ground_truth
from posedistill.export.precision import with_metadata
from posedistill.files import printable, refuse_overwrite, write_atomic
from posedistill.inference.weights import load_model, padding_of, read_metadata
from posedistill.keypoints import PART_NAMES
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.onnx_model import OnnxModel, PoseModel
from posedistill.models.onnx_wrapper import unwrap, write_wrapped
from posedistill.pipeline.evaluate import val_sets
from posedistill.pipeline.provenance import TRAINED_ON, box_padding, trained_on
from posedistill.progress import progress
from posedistill.reporting.tables import aligned
from posedistill.sources import pixels
from posedistill.sources.coco import open_annotations

DESCRIPTION = """Measure on labelled persons how often points of a given score are right (OKS of the point at least
0.5), and write the model with these curves in its metadata. predict then gives the confidence of each point, and
--min-confidence means the same for every model. Calibrate on pictures of the kind that the model will see, and that it
was not trained on."""

MODEL = "models/stage2.safetensors"  # models/student.safetensors has a calibration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("model", metavar="MODEL", type=Path, nargs="?", default=Path(MODEL), help="(%(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the calibrated model, of MODEL's kind")
    parser.add_argument("--annotations", type=Path, metavar="GT.json", help="COCO-WholeBody annotations, and")
    parser.add_argument("--images", type=Path, metavar="DIR", help="their pictures; by default the project's prepared/")
    parser.add_argument("--no-area", action="store_true", help="take areas from the boxes, × 0.53 (as for CrowdPose)")
    parser.add_argument("--batch", type=int, default=32, help="persons at a time (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all cores")


def run(args: argparse.Namespace) -> int:
    if args.batch < 1 or not 0 <= args.threads <= 1024:  # each thread costs memory
        raise UserError("--batch must be at least 1 and --threads from 0 to 1024")
    if (args.annotations is None) != (args.images is None):
        raise UserError("--annotations and --images belong together: give both, or neither")
    refuse_overwrite(args.out, args.model, args.annotations, args.images)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    model = load_model(args.model, device, args.threads or torch.get_num_threads())
    _check_suffix(args.model, args.out, model)
    padding = box_padding(args.model, model)
    data = _prepared() if args.annotations is None else _annotated(args)
    total = -(-len(data.boxes) // args.batch)
    bar = progress(data.batches(model.input_size, padding, args.batch), desc="predict", unit="batches", total=total)
    model.to(device)
    plain, flip_test = (scored(data.truth, p.predictions(data.truth)) for p in predict_both(model, bar, device=device))
    for note in data.truth.notes:
        print(note, file=sys.stderr)
    if data.skipped:
        print(f"{len(data.skipped)} pictures cannot be read, the first: {data.skipped[0]}")
    calibration = fit_calibration(plain, flip_test, data.name)
    _write(args.model, args.out, model.to("cpu"), calibration, padding)
    print(report(calibration, (plain, flip_test)))
    print(f"{printable(args.out)}: calibrated on {calibration.persons} persons of {data.name}")
    return 0


@dataclass
class LabelledSet:
    """Labelled persons with their own boxes, from a prepared store or from annotations and a folder of pictures."""

    name: str
    truth: GroundTruth
    boxes: Any  # rows of the truth, or the store's ValPersons
    store: ValStore | None = None
    folder: Path | None = None
    images: dict[int, dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        self.skipped: list[str] = []
        if not len(self.boxes):
            raise UserError(f"{self.name}: no person has a box and labelled keypoints")

    def batches(self, size: tuple[int, int], padding: float, batch: int) -> Iterator[ValBatch]:
        if self.store is not None:
            yield from val_batches(self.store, size, batch, persons=self.boxes, padding=padding)
            return
        waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
        for row, image in self._pictures():
            centre, scale = crop_of_box(self.truth.box[row : row + 1].astype(np.float32), padding, size)
            crop = warp_image(image, warp_matrix(centre[0], scale[0], 0.0, size), size)
            waiting.append((crop, centre[0], scale[0], row))
            if len(waiting) == batch:
                yield self._batch(waiting)
                waiting = []
        if waiting:
            yield self._batch(waiting)

    def _pictures(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each person's row and picture, a picture at a time; unreadable ones are noted and left out."""
        assert self.folder is not None and self.images is not None
        for image, rows in groupby(
            self.boxes.tolist(), key=lambda row: int(self.truth.image_ids[self.truth.image[row]])
        ):
            about = self.images[image]
            try:
                picture = pixels.load(self.folder / about["file_name"], about["width"], about["height"])[1]
            except pixels.BrokenImage as error:
                self.skipped.append(f"{printable(about['file_name'])}: {error}")
                continue
            for row in rows:
                yield row, picture

    def _batch(self, waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]) -> ValBatch:
        crops, centres, scales, rows = (np.stack(column) for column in zip(*waiting))
        image_ids, ids = self.truth.image_ids[self.truth.image[rows]], self.truth.annotation_id[rows]
        return ValBatch(torch.from_numpy(crops), centres, scales, rows, image_ids, ids, np.ones(len(rows)))


def _prepared() -> LabelledSet:
    """The first prepared validation set of the project."""
    prepared = project.root() / "prepared"
    name = val_sets(prepared)[0]
    store = ValStore(prepared / f"val-{name}")
    truth = read_ground_truth(store.ground_truth)
    return LabelledSet(name, truth, own_boxes(store, truth, np.empty(0, np.int64)), store=store)


def _annotated(args: argparse.Namespace) -> LabelledSet:
    if not args.images.is_dir():
        raise UserError(f"--images {printable(args.images)}: expected the folder of the pictures")
    images = open_annotations(args.annotations).images
    truth = read_ground_truth(args.annotations, use_area=not args.no_area)
    labelled = (truth.keypoints[:, :, 2] > 0).any(axis=1) & ~truth.crowd & (truth.box[:, 2:] > 0).all(axis=1)
    rows = np.flatnonzero(labelled)
    rows = rows[np.argsort(truth.image[rows], kind="stable")]
    name = printable(args.annotations.name)
    return LabelledSet(name, truth, rows, folder=args.images, images=images)


def _check_suffix(source: Path, target: Path, model: PoseModel) -> None:
    allowed = (".onnx", ".safetensors") if isinstance(model, OnnxModel) else tuple(LAYOUTS)
    if target.suffix.lower() not in allowed or (source.suffix.lower() == ".onnx" and target.suffix.lower() != ".onnx"):
        allowed = (".onnx",) if source.suffix.lower() == ".onnx" else allowed
        raise UserError(f"--out {printable(target)}: expected a file ending in {' or '.join(allowed)}")


def _write(source: Path, target: Path, model: PoseModel, calibration: Calibration, padding: float) -> None:
    text = calibration.to_json()
    kinds = ",".join(sorted(trained_on(source, model)))  # dvc.lock does not know the new file
    known = {TRAINED_ON: kinds} if kinds else {}
    if isinstance(model, OnnxModel):
        wrapped = unwrap(source)
        content = with_metadata(source.read_bytes() if wrapped is None else wrapped, known | {METADATA_KEY: text})
        if target.suffix.lower() == ".onnx":
            write_atomic(target, content)
        else:
            write_wrapped(content, target, model.input_size, model.keypoints)
        return
    metadata = {**known, **read_metadata(source, model), METADATA_KEY: text}
    if padding_of(metadata) is None and padding != BOX_PADDING:
        metadata["box_padding"] = padding
    save_checkpoint(model, target, LAYOUTS[target.suffix.lower()], metadata)


def report(calibration: Calibration, points: tuple[ScoredPoints, ScoredPoints]) -> str:
    """What was found, as text: one line for each pass and part."""
    rows = [("part", "pass", "points", "right", "50 % at score", "calibration error")]
    for name, one in zip(PASSES, points):
        judged = reliabilities(one, cross_fitted(one))
        for part, where in CALIBRATED.items():
            counts = one.labelled[:, where]
            row = (PART_NAMES[part], name.replace("_", " "), str(counts.sum()))
            if part in calibration.curves[name]:
                right = f"{100 * one.right[:, where][counts].mean():.1f} %"
                rows.append((*row, right, _even(calibration, name, part), f"{100 * judged[part].error:.1f} %"))
            else:
                rows.append((*row, f"left out: fewer than {LEAST_POINTS}", "", ""))
    return aligned(rows)


def _even(calibration: Calibration, name: str, part: str) -> str:
    """The raw score from which on a point is more probably right than wrong."""
    curve = calibration.curves[name][part]
    if curve.probabilities[-1] < 0.5:
        return "none"
    if curve.probabilities[0] >= 0.5:
        return "any"
    scores = np.linspace(curve.scores[0], curve.scores[-1], 1001)
    return f"{scores[np.argmax(curve(scores) >= 0.5)]:.2f}"
