"""One training from the prepared store to models/<name>.safetensors: what the stages share around the loop."""

import dataclasses
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from posedistill import project
from posedistill.data.feed.loader import TrainLoader
from posedistill.data.store.arrow import TrainStore, ValStore
from posedistill.devices import Device, choose, device_type, set_up
from posedistill.errors import UserError
from posedistill.files import atomic_path, write_atomic
from posedistill.fingerprint import VALIDATING, code_hash
from posedistill.keypoints import NUM_KEYPOINTS
from posedistill.models.checkpoint import model_from_checkpoint, save_checkpoint
from posedistill.models.onnx_model import OnnxModel, wrap
from posedistill.models.rtmpose import RTMPose
from posedistill.params import Augment, Input, Params, to_settings
from posedistill.training import distributed
from posedistill.training.checkpoints import RunFolder, digest_inputs, run_key, say
from posedistill.training.loop import Row, TrainingPlan, fit
from posedistill.training.objective import Objective
from posedistill.training.schedule import build_schedule, scaled_lr
from posedistill.training.validation import validation

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Paths:
    """Files of a training and its model's name, for trainings outside the pipeline. Relative to the project.

    `name` is the model's (default: the stage's), `output` its file (default models/<name>.safetensors), `curves` the
    file of its curves (default reports/curves/<name>.tsv). Stage 1 learns from the model file `teacher`, and stage 2
    starts from `init` (default: by the setting stage2.init).
    """

    name: str | None = None
    output: str | None = None
    curves: str | None = None
    teacher: str = "models/teacher.safetensors"
    init: str | None = None
    prepared: str = "prepared"

    def model_path(self, stage: str) -> Path:
        return Path(self.output or f"models/{self.name or stage}.safetensors")

    def curves_path(self, stage: str) -> Path:
        return Path(self.curves or f"reports/curves/{self.name or stage}.tsv")

    @property
    def train(self) -> Path:
        """The training store."""
        return Path(self.prepared) / "train"

    @property
    def validation(self) -> Path:
        """The validation set of the training: the first by name. UserError if there is none."""
        found = sorted(Path(self.prepared).glob("val-*"))
        if not found:
            raise UserError(f"{self.prepared} has no validation set val-…: run `dvc repro prepare` first")
        return found[0]

    def arguments(self) -> list[str]:
        """The same as arguments of `python -m posedistill train`."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Training:
    """One training of a stage: the settings, and what distinguishes it from the other stages'."""

    stage: str  # teacher | baseline | stage1 | stage2
    params: Params
    paths: Paths
    entry: str  # module:function whose code, with all it uses, decides the result
    build: Callable[[Device], Objective]
    own: dict[str, Any]  # the stage's own settings besides those of `section`, as plain values
    inputs: dict[str, Path]  # files that it reads besides the prepared store
    size: str  # of the model
    section: Literal["teacher", "student", "stage2"]  # of the settings: seed, epochs and lr
    clip_norm: tuple[str, float | None]  # setting and value
    shape: Literal["cosine", "published"] = "cosine"  # of the learning rate, see build_schedule
    teacher_input: Input | None = None  # at which a teacher of another input size sees the same views
    keypoints: int = NUM_KEYPOINTS  # a model of others than the 133 cannot be judged on the validation images

    @property
    def seed(self) -> int:
        return getattr(self.params, self.section).seed

    @property
    def epochs(self) -> int:
        return getattr(self.params, self.section).epochs

    @property
    def lr(self) -> float:
        return getattr(self.params, self.section).lr

    @property
    def input(self) -> Input:
        return self.params.input_for("teacher" if self.section == "teacher" else self.stage)

    @property
    def augment(self) -> Augment:
        return self.params.augment_for("teacher" if self.section == "teacher" else self.stage)

    def augment_at(self, epoch: int) -> Augment:
        """The augmentation of an epoch: weak in the last ones, which the published stage 2 never has."""
        weak = epoch >= self.epochs - self.augment.weak_epochs and self.shape != "published"
        return self.augment.weakened() if weak else self.augment


@dataclass(frozen=True)
class Trained:
    """A finished training: `history` has a row for each point of the curves (epoch, step, lr, weighted loss terms
    label/feature/logit/total, decay, accuracy, agreement, grad_*, val_*; empty if the model was not trained here)."""

    name: str
    model_path: Path
    curves_path: Path
    history: "pd.DataFrame" = field(repr=False)


def train(training: Training) -> Trained:
    """Train (or continue, or read back what is finished), then write the model and its curves."""
    stage, params, paths = training.stage, training.params, training.paths
    kind = device_type(params.runtime)
    with distributed.joined(kind) as group:
        device = choose(params.runtime)
        folder = _folder(training, device, max(group.size, params.runtime.devices))
        finished = folder.finished()
        if finished is None:
            folder.open()
            if params.runtime.devices > 1 and group.size == 1:
                distributed.launch(stage, to_settings(params), params.runtime.devices, paths.arguments())
            else:
                _train(training, device, group, folder)
                group.wait()
            finished = folder.finished()
            if finished is None:
                raise UserError(f"{stage}: no result in {folder.path}; did code or data change during the training?")
        else:
            say(f"{stage}: finished before with these settings, read from {folder.path}")
        result = _result(finished["rows"], stage, paths)
        if group.main:
            size_setting = "teacher.size" if training.section == "teacher" else "student.size"
            load_model(folder.finished_model, training.size, training.input.size, size_setting, training.keypoints)
            with atomic_path(result.model_path) as temporary:
                shutil.copyfile(folder.finished_model, temporary)
            _write_curves(result.curves_path, finished["rows"])
        group.wait()
    return result


def load_model(
    path: str | Path, size: str, input_size: tuple[int, int], setting: str, keypoints: int = NUM_KEYPOINTS
) -> RTMPose:
    """The model in `path`, in eval mode.

    UserError, naming `setting`, if it is not of this `size`, input size (height, width) and number of keypoints: a
    cache may have given back the model of other settings.
    """
    model = model_from_checkpoint(path)
    if (model.size.name, model.input_size, model.keypoints) != (size, tuple(input_size), keypoints):
        expected = _describe(size, input_size, keypoints)
        raise UserError(
            f"{path}: expected a model of {expected} ({setting}, input), found one of "
            f"{_describe(model.size.name, model.input_size, model.keypoints)}"
        )
    return model


def _describe(size: str, input_size: tuple[int, int], keypoints: int) -> str:
    return f"size {size} for input {input_size[0]}×{input_size[1]} and {keypoints} keypoints"


def take_model(model: RTMPose, stage: str, paths: Paths) -> Trained:
    """Write a model that was not trained here as if it had been: no curves but their header."""
    result = _result([], stage, paths)
    save_checkpoint(model, result.model_path)
    _write_curves(result.curves_path, [])
    return result


def take_onnx(path: Path, input_size: tuple[int, int], stage: str, paths: Paths) -> Trained:
    """Write an ONNX teacher, which teaches by its logits alone, as the stage's model."""
    model = OnnxModel(path)
    if model.input_size != input_size:
        found, wanted = ("×".join(map(str, size)) for size in (model.input_size, input_size))
        raise UserError(f"teacher.checkpoint: {path} takes {found} pixels, the settings {wanted} (teacher.input)")
    result = _result([], stage, paths)
    wrap(path, result.model_path)
    _write_curves(result.curves_path, [])
    return result


def _folder(training: Training, device: Device, devices: int) -> RunFolder:
    """The checkpoint folder, whose name follows from everything that decides the result."""
    params = training.params
    settings = {
        "stage": training.stage,
        "own": training.own,
        "seed": training.seed,
        "epochs": training.epochs,
        "lr": training.lr,
        "clip_norm": training.clip_norm,
        "input": training.input.dump(),
        "augment": training.augment.dump(),
        "train": params.train.dump(),
        "device": device.facts(),
        "devices": devices,
    }
    stores = {"train": training.paths.train, "val": training.paths.validation}
    inputs = digest_inputs(stores | training.inputs)
    # Validation decides the result only where the best model is kept.
    code = code_hash(training.entry, without=() if params.train.keep == "best" else VALIDATING)
    return RunFolder(project.checkpoints() / f"{training.stage}-{run_key(settings, inputs, code)}")


def _train(training: Training, device: Device, group: distributed.Group, folder: RunFolder) -> None:
    """Run the loop, and leave the finished model and its rows in `folder`."""
    params, paths = training.params, training.paths
    set_up(device)
    random.seed(training.seed)
    np.random.seed(training.seed % 2**32)
    torch.manual_seed(training.seed)
    store = TrainStore(paths.train)
    plan = make_plan(training, len(store), group.size)
    val_store = ValStore(paths.validation)

    def validate(model: RTMPose) -> dict[str, float]:
        return validation(model, val_store, training.input.size, device, whole=params.train.validate_every >= 1)

    with TrainLoader(
        store,
        training.input,
        training.augment_at,
        batch=plan.batch,
        seed=training.seed,
        epochs=plan.epochs,
        workers=device.workers,
        rank=group.rank,
        world_size=group.size,
        for_gpu=device.cuda,
        teacher=training.teacher_input,
        stored=params.input,
    ) as loader:
        # The first batches are made while the networks are built and the device starts.
        loader.start(*divmod(folder.last_step(), plan.steps_per_epoch))
        objective = distributed.synchronise_batch_norm(device.place(training.build(device)), device.device, group)
        result = fit(
            objective,
            plan,
            loader.epoch,
            device,
            folder,
            group=group,
            validate=validate if training.keypoints == NUM_KEYPOINTS else None,
            on_rows=lambda rows: _write_curves(paths.curves_path(training.stage), rows),
        )
    if group.main:
        save_checkpoint(result.model, folder.finished_model)
        folder.finish({"rows": result.rows})


def make_plan(training: Training, persons: int, processes: int = 1) -> TrainingPlan:
    """The loop's plan for `persons` in the training store; says so when the learning rate is scaled to the batch."""
    settings, stage = training.params.train, training.stage
    batch, reference = settings.batch, settings.reference_batch
    if batch % processes:
        raise UserError(
            f"train.batch: {batch} cannot be shared by {processes} devices; allowed: a multiple of {processes}"
        )
    if persons < batch:
        raise UserError(f"train.batch: {batch} is more than the {persons} persons of the training store")
    lr = scaled_lr(training.lr, batch, reference)
    if lr != training.lr:
        say(f"{stage}: learning rate {training.lr:g} × {batch}/{reference} = {lr:g}, since train.batch is {batch}")
    steps_per_epoch = persons // batch
    clip_setting, clip_norm = training.clip_norm
    return TrainingPlan(
        name=stage,
        epochs=training.epochs,
        steps_per_epoch=steps_per_epoch,
        batch=batch,
        schedule=build_schedule(settings, lr, training.epochs, steps_per_epoch, training.shape),
        weight_decay=settings.weight_decay,
        clip_norm=clip_norm,
        ema_momentum=settings.ema.momentum,
        ema_gamma=settings.ema.gamma,
        validate_every=settings.validate_every,
        keep=settings.keep,
        settings=(f"{training.section}.lr", clip_setting),
    )


COLUMNS = ["epoch", "step", "lr", "decay", "label", "feature", "logit", "total", "accuracy", "agreement", "val_ap"]
COLUMNS += ["val_oks", "grad_label", "grad_feature", "grad_logit"]


def _table(rows: list[Row]) -> "pd.DataFrame":
    import pandas as pd

    columns = [name for name in COLUMNS if not rows or any(name in row for row in rows)]
    columns += [name for name in dict.fromkeys(name for row in rows for name in row) if name not in COLUMNS]
    return pd.DataFrame([{name: row.get(name, float("nan")) for name in columns} for row in rows], columns=columns)


def _write_curves(path: Path, rows: list[Row]) -> None:
    """Tab-separated, six digits: what differs only in a float's last bits makes the same file."""
    write_atomic(path, _table(rows).astype({"step": int}).to_csv(sep="\t", index=False, float_format="%.6g"))


def _result(rows: list[Row], stage: str, paths: Paths) -> Trained:
    return Trained(paths.name or stage, paths.model_path(stage), paths.curves_path(stage), _table(rows))
