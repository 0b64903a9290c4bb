"""One training from the prepared store to models/<name>.safetensors: what the stages share around the loop."""

import dataclasses
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from posedistill import project
from posedistill.data.feed.loader import TrainLoader
from posedistill.data.store.arrow import TrainStore, ValStore
from posedistill.devices import Device, choose, device_type, set_up
from posedistill.errors import UserError
from posedistill.files import atomic_path, write_atomic
from posedistill.fingerprint import VALIDATING, code_hash
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.onnx_model import OnnxModel, wrap
from posedistill.models.rtmpose import RTMPose
from posedistill.params import Augment, Params, Section, to_settings
from posedistill.training import distributed
from posedistill.training.checkpoints import RunFolder, digest_inputs, run_key, say
from posedistill.training.loop import Plan, Row, fit
from posedistill.training.objective import Objective
from posedistill.training.schedule import build_schedule, scaled_lr
from posedistill.training.validation import validation_ap

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Where:
    """Folders and names of a training, for those who run it outside the pipeline. Paths are relative to the project.

    `name` is the model's (default: the stage's), `output` its file (default models/<name>.safetensors), `curves` the
    file of its curves (default reports/curves/<name>.tsv). Distillation learns from the model file `teacher`, and
    stage 2 starts from `init` (default: by the setting stage2.init).
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

    def arguments(self) -> list[str]:
        """The same as arguments of `python -m posedistill train`."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Recipe:
    """What distinguishes one stage's training from another's."""

    stage: str  # teacher | baseline | stage1 | stage2
    module: str  # whose code, with all it imports, decides the result
    build: Callable[[Device], Objective]
    settings: dict[str, Any]  # the stage's own, plain values; what all share is added
    inputs: dict[str, Path]  # files that it reads besides the prepared store
    augment: Augment
    seed: int
    epochs: int
    lr: float
    clip_norm: float | None
    shape: Any = "cosine"
    validated: bool = True  # a model of other keypoints than the 133 cannot be judged on the validation images


@dataclass(frozen=True)
class Run:
    """A finished training: `history` has a row for each point of the curves (epoch, step, lr, weighted loss terms
    label/feature/logit/total, decay, accuracy, agreement, grad_*, val_ap; empty if the model was not trained here)."""

    name: str
    model_path: Path
    curves_path: Path
    history: "pd.DataFrame" = field(repr=False)


def plain(section: Section) -> dict[str, Any]:
    """A section of the settings as plain values, for a key."""
    return to_settings(section)


def run_recipe(P: Params, recipe: Recipe, where: Where) -> Run:
    """Train as `recipe` says (or continue, or read back what is finished), then write the model and its curves."""
    kind = device_type(P.runtime)
    with distributed.joined(kind) as group:
        device = choose(P.runtime)
        folder = _folder(P, recipe, where, device, max(group.size, P.runtime.devices))
        finished = folder.finished()
        if finished is None:
            folder.open()
            if P.runtime.devices > 1 and group.size == 1:
                distributed.launch(recipe.stage, to_settings(P), P.runtime.devices, where.arguments())
            else:
                _train(P, recipe, where, device, group, folder)
                group.wait()
            finished = folder.finished()
            if finished is None:
                raise UserError(
                    f"{recipe.stage}: no result in {folder.path}; did code or data change during the training?"
                )
        else:
            say(f"{recipe.stage}: finished before with these settings, read from {folder.path}")
        run = _written(finished["rows"], recipe.stage, where)
        if group.main:
            with atomic_path(run.model_path) as temporary:
                shutil.copyfile(folder.finished_model, temporary)
            _write_curves(run.curves_path, finished["rows"])
        group.wait()
    return run


def take_model(model: RTMPose, stage: str, where: Where) -> Run:
    """Write a model that was not trained here as if it had been: no curves but their header."""
    run = _written([], stage, where)
    save_checkpoint(model, run.model_path)
    _write_curves(run.curves_path, [])
    return run


def take_onnx(path: Path, P: Params, stage: str, where: Where) -> Run:
    """Write an ONNX teacher, which teaches by its logits alone, as the stage's model."""
    model = OnnxModel(path)
    if model.input_size != P.input.size:
        found, wanted = ("×".join(map(str, size)) for size in (model.input_size, P.input.size))
        raise UserError(f"teacher.checkpoint: {path} takes {found} pixels, the settings {wanted} (input.height, width)")
    run = _written([], stage, where)
    wrap(path, run.model_path)
    _write_curves(run.curves_path, [])
    return run


def _folder(P: Params, recipe: Recipe, where: Where, device: Device, devices: int) -> RunFolder:
    settings = {
        "stage": recipe.stage,
        "own": recipe.settings,
        "input": plain(P.input),
        "augment": plain(recipe.augment),
        "train": plain(P.train),
        "device": device.facts(),
        "devices": devices,
    }
    prepared = Path(where.prepared)
    inputs = digest_inputs({"train": prepared / "train", "val": _validation(prepared), **recipe.inputs})
    # What is seen of the validation set decides the result only where the best model is kept.
    code = code_hash(recipe.module, without=() if P.train.keep == "best" else VALIDATING)
    return RunFolder(project.checkpoints() / f"{recipe.stage}-{run_key(settings, inputs, code)}")


def _train(
    P: Params, recipe: Recipe, where: Where, device: Device, group: distributed.Group, folder: RunFolder
) -> None:
    set_up(device)
    random.seed(recipe.seed)
    np.random.seed(recipe.seed % 2**32)
    torch.manual_seed(recipe.seed)
    store = TrainStore(Path(where.prepared) / "train")
    plan = make_plan(P, recipe, len(store), group.size)
    objective = distributed.synchronise_batch_norm(device.place(recipe.build(device)), device.device, group)

    def augment(epoch: int) -> Augment:
        weak = epoch >= plan.epochs - recipe.augment.weak_epochs and recipe.shape != "published"
        return recipe.augment.weakened() if weak else recipe.augment

    val_store = ValStore(_validation(Path(where.prepared)))

    def validate(model: RTMPose) -> float:
        return validation_ap(model, val_store, P, device)

    curves = where.curves_path(recipe.stage)
    with TrainLoader(
        store,
        P.input,
        augment,
        batch=plan.batch,
        seed=recipe.seed,
        epochs=plan.epochs,
        workers=device.workers,
        rank=group.rank,
        world_size=group.size,
        for_gpu=device.cuda,
    ) as loader:
        result = fit(
            objective,
            plan,
            loader.epoch,
            device,
            folder,
            group=group,
            validate=validate if recipe.validated else None,
            on_rows=lambda rows: _write_curves(curves, rows),
        )
    if group.main:
        save_checkpoint(result.model, folder.finished_model)
        folder.finish({"rows": result.rows})


def make_plan(P: Params, recipe: Recipe, persons: int, processes: int = 1) -> Plan:
    """The loop's plan for `persons` in the training store; says so when the learning rate is scaled to the batch."""
    batch, reference = P.train.batch, P.train.reference_batch
    if batch % processes:
        raise UserError(
            f"train.batch: {batch} cannot be shared by {processes} devices; allowed: a multiple of {processes}"
        )
    if persons < batch:
        raise UserError(f"train.batch: {batch} is more than the {persons} persons of the training store")
    lr = scaled_lr(recipe.lr, batch, reference)
    if lr != recipe.lr:
        say(f"{recipe.stage}: learning rate {recipe.lr:g} × {batch}/{reference} = {lr:g}, since train.batch is {batch}")
    steps_per_epoch = persons // batch
    return Plan(
        name=recipe.stage,
        epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch,
        batch=batch,
        schedule=build_schedule(P.train, lr, recipe.epochs, steps_per_epoch, recipe.shape),
        weight_decay=P.train.weight_decay,
        clip_norm=recipe.clip_norm,
        ema_momentum=P.train.ema.momentum,
        ema_gamma=P.train.ema.gamma,
        validate_every=P.train.validate_every,
        keep=P.train.keep,
    )


def _validation(prepared: Path) -> Path:
    """The validation set that is looked at during training: the first by name."""
    found = sorted(prepared.glob("val-*"))
    if not found:
        raise UserError(f"{prepared} has no validation set val-…: run the stage prepare first (`dvc repro prepare`)")
    return found[0]


COLUMNS = ["epoch", "step", "lr", "decay", "label", "feature", "logit", "total", "accuracy", "agreement", "val_ap"]
COLUMNS += ["grad_label", "grad_feature", "grad_logit"]


def _table(rows: list[Row]) -> "pd.DataFrame":
    import pandas as pd

    columns = [name for name in COLUMNS if not rows or any(name in row for row in rows)]
    return pd.DataFrame([{name: row.get(name, float("nan")) for name in columns} for row in rows], columns=columns)


def _write_curves(path: Path, rows: list[Row]) -> None:
    """Tab-separated, six digits: what differs only in a float's last bits makes the same file."""
    write_atomic(path, _table(rows).astype({"step": int}).to_csv(sep="\t", index=False, float_format="%.6g"))


def _written(rows: list[Row], stage: str, where: Where) -> Run:
    return Run(where.name or stage, where.model_path(stage), where.curves_path(stage), _table(rows))
