"""params.yaml as frozen, typed, checked dataclasses.

The sections stand in params_sections.py, one class each. Every error is one line: the setting, what was found, what
is allowed.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError
from posedistill.params_check import fail, mapping, unknown
from posedistill.params_sections import (
    ROLES,
    SIZES,
    Augment,
    Data,
    Ema,
    Evaluate,
    Export,
    Input,
    Loss,
    Runtime,
    Section,
    Source,
    Stage2,
    Student,
    Teacher,
    Train,
    UnlistedSetting,
    Weights,
)

__all__ = [
    "ROLES",
    "SECTIONS",
    "SIZES",
    "Augment",
    "Data",
    "Ema",
    "Evaluate",
    "Export",
    "Input",
    "Loss",
    "Params",
    "Runtime",
    "Section",
    "Source",
    "Stage2",
    "Student",
    "Teacher",
    "Train",
    "UnlistedSetting",
    "Weights",
    "from_settings",
    "load_params",
    "read_settings",
    "stage_params",
    "stage_settings",
    "to_settings",
]

SECTIONS: dict[str, type[Section]] = {
    "data": Data,
    "input": Input,
    "augment": Augment,
    "teacher": Teacher,
    "student": Student,
    "train": Train,
    "loss": Loss,
    "stage2": Stage2,
    "evaluate": Evaluate,
    "export": Export,
    "runtime": Runtime,
}


@dataclass(frozen=True, repr=False)
class Params(Section):
    """All settings, or those that one stage lists."""

    data: Data
    input: Input
    augment: Augment
    teacher: Teacher
    student: Student
    train: Train
    loss: Loss
    stage2: Stage2
    evaluate: Evaluate
    export: Export
    runtime: Runtime

    def augment_for(self, role: str) -> Augment:
        """The augmentation of a training; the teacher's own `teacher.augment` replaces single values."""
        return self.augment.replaced(self.teacher.augment) if role == "teacher" else self.augment


def read_settings(path: str | Path) -> dict[str, Any]:
    """The content of a settings file as plain values: YAML 1.2 (5e-5 is a number), or JSON if it ends in .json."""
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a settings file ({error.__class__.__name__})") from error
    if path.suffix == ".json":
        try:
            return dict(mapping(str(path), json.loads(content)))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    try:
        from ruamel.yaml import YAML, YAMLError
    except ImportError as error:
        raise UserError(f"{path}: reading YAML needs ruamel.yaml; without it, pass the settings as JSON") from error
    try:
        return dict(mapping(str(path), YAML(typ="safe", pure=True).load(content)))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error


def load_params(path: str | Path = "params.yaml") -> Params:
    """All settings of a file, checked; every setting must be there."""
    settings = read_settings(path)
    for name in SECTIONS:
        if name not in settings:
            raise UserError(f"{name}: missing in {path}, allowed: see params.yaml of this version")
    return from_settings(settings)


def from_settings(settings: Mapping[str, Any], stage: str | None = None) -> Params:
    """Build Params from plain values.

    With a `stage`, `settings` may hold only what that stage lists, and reading another setting raises
    UnlistedSetting. Without, each section must be complete, and missing sections raise UnlistedSetting when read.
    """
    for name in mapping("", settings):
        if name not in SECTIONS:
            raise unknown("", name, SECTIONS)
    params: Params = object.__new__(Params)
    for name, section in SECTIONS.items():
        if name in settings:
            value = section.read(name, settings[name], stage=stage)
        elif stage is not None:
            value = section.read(name, {}, stage=stage)
        else:
            continue
        object.__setattr__(params, name, value)
    object.__setattr__(params, "_listed_by", ("params", stage or "?"))
    _check_together(params)
    return params


def to_settings(params: Section) -> dict[str, Any]:
    """The plain values of `params` (lists, dictionaries, numbers, text), which `from_settings` reads back."""
    return {name: _plain(value) for name, value in params.present()}


def stage_settings(stage: str, folder: str | Path | None = None) -> dict[str, Any]:
    """The settings that dvc.yaml lists for `stage` (evaluate@stage1 means evaluate), with their values in params.yaml.

    `folder` holds both files; null means the project's root.
    """
    folder = Path(folder) if folder is not None else project.root()
    stages = mapping("dvc.yaml", read_settings(folder / "dvc.yaml")).get("stages", {})
    name = stage.split("@")[0]
    if name not in stages:
        raise UserError(f"dvc.yaml has no stage {name}, allowed: {', '.join(stages)}")
    settings = read_settings(folder / "params.yaml")
    listed: dict[str, Any] = {}
    for key in stages[name].get("params", []):
        section, _, leaf = key.partition(".")
        if section not in settings or (leaf and leaf not in settings[section]):
            raise UserError(f"{key}: stage {name} needs it, but params.yaml does not have it")
        if leaf:
            listed.setdefault(section, {})[leaf] = settings[section][leaf]
        else:
            listed[section] = settings[section]
    return listed


def stage_params(stage: str, settings: Mapping[str, Any] | None = None) -> Params:
    """Params as one stage sees them: from `settings`, or (null) from dvc.yaml and params.yaml of the project.

    `runtime` says how, not what: a stage need not list it, so what `settings` lacks of it is read from params.yaml.
    """
    settings = dict(stage_settings(stage) if settings is None else settings)
    if len(settings.get("runtime", {})) < len(dataclasses.fields(Runtime)):
        runtime = read_settings(project.root() / "params.yaml").get("runtime", {})
        settings["runtime"] = {**mapping("runtime", runtime), **settings.get("runtime", {})}
    return from_settings(settings, stage)


def _check_together(params: Params) -> None:
    """What single settings cannot know: files that must be there, and settings that must fit each other."""
    for section, leaf in (("teacher", "checkpoint"), ("teacher", "backbone"), ("student", "backbone")):
        weights = params.__dict__.get(section, params).__dict__.get(leaf)
        # A file under data.root comes with the data, which the pipeline may not have fetched yet.
        if weights and not Path(weights.path).is_file() and not _is_data(weights.path):
            raise UserError(
                f"{section}.{leaf}.path: there is no file {weights.path}; allowed: a file of weights, or "
                f"{section}.{leaf}: null"
            )
    data = params.__dict__.get("data", params).__dict__
    if data.get("boxes") == "detections":
        for i, source in enumerate(data.get("val", ())):
            if source.source in ("coco_wholebody",) and source.detections is None:
                raise fail(f"data.val[{i}].detections", None, "a file of detections, since data.boxes is detections")


def _is_data(path: str) -> bool:
    return Path(path).parts[:1] == ("data",)


def _plain(value: Any) -> Any:
    if isinstance(value, Source):
        return {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
    if isinstance(value, Section):
        return to_settings(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
