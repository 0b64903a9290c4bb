"""The pipeline's `export` stage: the student as ONNX: checked against the model, calibrated, in three precisions."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posedistill.data.feed.augment import sample_train
from posedistill.data.feed.device_augment import to_model_input
from posedistill.data.feed.loader import val_batches
from posedistill.data.geometry import BOX_PADDING
from posedistill.data.store.arrow import TrainStore, ValPersons, ValStore
from posedistill.devices import worker_processes
from posedistill.errors import UserError
from posedistill.evaluation.calibrate import fit_calibration
from posedistill.evaluation.calibration import METADATA_KEY, Calibration
from posedistill.evaluation.evaluate import own_boxes, rounded
from posedistill.evaluation.mean_oks import mean_of
from posedistill.evaluation.records import GroundTruth, load_json, read_ground_truth
from posedistill.export.certificate import Judged, Row, certificate, differences, file_name, judge, too_much
from posedistill.export.exported import Exported
from posedistill.export.onnx_file import export_onnx
from posedistill.export.parity import AP_DIFFERENCE, Parity, compare
from posedistill.export.precision import to_half, to_int8, with_metadata
from posedistill.files import dumps_json, write_atomic
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.macs import parameters_and_macs
from posedistill.models.onnx_model import OnnxModel, PoseModel
from posedistill.params import Augment, Params
from posedistill.pipeline.evaluate import PREPARED, load_trained, val_sets

STUDENT = "stage2"
PATH = Path("models/student.onnx")
WEIGHTS = Path("models/student.safetensors")  # those of stage 2, with the calibration
PRECISIONS = Path("models/onnx")  # the file in other precisions, and their certificate
# All run on the CPU to be compared, where a large validation set would take hours and show nothing more.
MOST_PERSONS = 4096
RANGE_CROPS = 128  # of training persons, which show the range of each activation to int8


def export_student(params: Params) -> Exported:
    """Write models/student.onnx from models/stage2.safetensors, check it on the first validation set, calibrate it, and
    write models/student.safetensors and the folder models/onnx with fp16, int8 and the certificate of all three.

    Raises:
        RuntimeError: the file does not compute what the model computes; it is then removed.
    """
    torch.set_num_threads(params.runtime.threads)
    model = load_trained(params, STUDENT)
    val_set = val_sets()[0]
    judging = Judging.of(params, ValStore(PREPARED / f"val-{val_set}"))
    export_onnx(model, PATH, params.export.opset, params.augment.box_padding)
    onnx_model = OnnxModel(PATH, threads=params.runtime.threads)
    crops = first_crops(params, judging.store, params.export.crops)
    parity = compare(model, onnx_model, crops, params.evaluate.batch)
    ours, theirs = judging(model), judging(onnx_model)
    _require_parity(parity, ours, theirs)
    calibration = _calibration(ours, val_set)
    _write_weights(params, model, calibration)
    content = PATH.read_bytes()
    write_atomic(PATH, _calibrated(content, theirs, val_set))
    parameters, macs = parameters_and_macs(model)
    return Exported(
        path=PATH,
        file_bytes=PATH.stat().st_size,
        model=model,
        store=judging.store,
        parity=parity,
        ap={part: (ours.ap[part], theirs.ap[part]) for part in ours.ap},
        poses=(ours.poses, theirs.poses),
        parameters=parameters,
        macs=macs,
        calibration=calibration,
        certificate=_certify(params, content, theirs, judging, val_set),
    )


@dataclass(frozen=True)
class Judging:
    """How each file is judged: on a store's first MOST_PERSONS persons, on the CPU."""

    params: Params
    store: ValStore
    truth: GroundTruth
    own: ValPersons  # own boxes that the store lacks

    @classmethod
    def of(cls, params: Params, store: ValStore) -> Judging:
        content, name = load_json(store.ground_truth, "ground truth")
        most = _most(params) * params.evaluate.batch
        if most < len(store.persons):
            content = _only(content, store.persons.image_id[:most])
        truth = read_ground_truth(content, name=name)
        return cls(params, store, truth, own_boxes(store, truth, store.persons.annotation_id))

    def __call__(self, model: PoseModel) -> Judged:
        boxes = _batches(self.params, self.store, _most(self.params))
        own = val_batches(
            self.store,
            self.params.input.size,
            self.params.evaluate.batch,
            persons=self.own,
            padding=self.params.augment.box_padding,
        )
        return judge(model, boxes, own if len(self.own) else (), self.truth, self.params.evaluate)


def _require_parity(parity: Parity, ours: Judged, theirs: Judged) -> None:
    difference = max(abs(ours.ap[part] - theirs.ap[part]) for part in ours.ap)
    if not parity.good or difference > AP_DIFFERENCE:
        PATH.unlink()
        raise RuntimeError(
            f"{PATH} differs from the model: logits by up to {parity.max_difference:.2g}, the same arg-max on "
            f"{parity.same_argmax:.2%} of the points, AP by up to {difference:.4f}"
        )


def _calibration(judged: Judged, val_set: str) -> Calibration | None:
    """None where the validation set has too few labelled points."""
    try:
        return fit_calibration(*judged.points, val_set)
    except UserError:
        return None


def _calibrated(content: bytes, judged: Judged, val_set: str) -> bytes:
    """The ONNX file `content` with the calibration of its own scores."""
    calibration = _calibration(judged, val_set)
    return content if calibration is None else with_metadata(content, {METADATA_KEY: calibration.to_json()})


def _write_weights(params: Params, model: Any, calibration: Calibration | None) -> None:
    about: dict[str, Any] = {} if calibration is None else {METADATA_KEY: calibration.to_json()}
    if params.augment.box_padding != BOX_PADDING:
        about["box_padding"] = params.augment.box_padding
    save_checkpoint(model, WEIGHTS, metadata=about)


def _certify(params: Params, content: bytes, base: Judged, judging: Judging, val_set: str) -> tuple[Row, ...]:
    """Write the folder PRECISIONS for the float32 file `content`, judged as `base`; the rows of its certificate."""
    shutil.rmtree(PRECISIONS, ignore_errors=True)  # names depend on the losses
    rows = [Row("fp32", PATH, PATH.stat().st_size, base.ap, mean_of(base.person_oks), {}, {})]
    made: dict[str, Callable[[], bytes]] = {
        "fp16": lambda: to_half(content),
        "int8": lambda: to_int8(content, training_crops(params, RANGE_CROPS).numpy()),
    }
    for precision, make in made.items():
        other = make()
        judged = _judge_content(params, other, judging)
        ap, oks = differences(judged, base)
        path = PRECISIONS / file_name(PATH.stem, precision, too_much(ap))
        write_atomic(path, _calibrated(other, judged, val_set))
        rows.append(Row(precision, path, path.stat().st_size, judged.ap, mean_of(judged.person_oks), ap, oks))
    write_atomic(PRECISIONS / "certificate.json", dumps_json(rounded(certificate(rows, len(base.poses.score)))))
    return tuple(rows)


def _judge_content(params: Params, content: bytes, judging: Judging) -> Judged:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PATH.name)
        path.write_bytes(content)
        return judging(OnnxModel(path, threads=params.runtime.threads))


def training_crops(params: Params, count: int) -> Tensor:
    """Inputs [B, 3, H, W], normalised, of `count` training persons (fewer, if there are fewer) drawn evenly, with the
    crops of the training but for its random changes."""
    still = Augment(
        box_padding=params.augment.box_padding,
        **dict.fromkeys(("flip", "half_body", "shift", "shift_p", "rotation", "rotation_p"), 0.0),
        **dict.fromkeys(("blur_p", "median_blur_p", "dropout_p"), 0.0),
        hsv=False,
        scale=(1.0, 1.0),
        dropout_size=(0.0, 0.0),
        weak_epochs=0,
        weak=None,
    )
    store = TrainStore(PREPARED / "train")
    rows = np.linspace(0, len(store) - 1, min(count, len(store))).astype(int)
    unused = np.random.default_rng(0)
    images = [sample_train(store[row], still, params.input, unused).image for row in rows.tolist()]
    return to_model_input(torch.from_numpy(np.stack(images)), None)


def first_crops(params: Params, store: ValStore, count: int) -> Tensor:
    """Model inputs of the first `count` persons of a store (fewer, if it has fewer), normalised [B, 3, H, W]."""
    batches = _batches(params, store, -(-count // params.evaluate.batch))
    return torch.cat([to_model_input(one.images, None) for one in batches])[:count]


def _most(params: Params) -> int:
    """Batches of a judgement."""
    return -(-MOST_PERSONS // params.evaluate.batch)


def _batches(params: Params, store: ValStore, most: int) -> islice:
    size, batch, padding = params.input.size, params.evaluate.batch, params.augment.box_padding
    workers = worker_processes(params.runtime)
    return islice(val_batches(store, size, batch, workers=workers, padding=padding), most)


def _only(truth: dict[str, Any], image_ids: np.ndarray) -> dict[str, Any]:
    """The ground truth of some images."""
    wanted = set(image_ids.tolist())
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in wanted],
        "annotations": [annotation for annotation in truth["annotations"] if annotation["image_id"] in wanted],
    }
