"""Stages of the pipeline under other settings, each set of settings in a folder of its own.

A workspace looks like the project to the code that runs in it: its own params.yaml, models/ and reports/, while the
prepared data and the raw data are links to the project's. The stages are the functions that the notebooks call, and
finished trainings lie in the checkpoint folder that they share with the pipeline, so that settings equal to the
pipeline's are not trained again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.files import atomic_path, sha256_file, writable_folder, write_atomic

LINKED = ("prepared", "data", "assets")
MODEL_STAGES = ("teacher", "baseline", "stage1", "stage2")


@dataclass(frozen=True)
class Workspace:
    """One set of settings.

    `stages` run in this order, each followed by its evaluation; `models` names models that come from another
    workspace (or, with an empty name, from the project itself).
    """

    name: str
    changes: Mapping[str, Any]
    stages: tuple[str, ...]
    models: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> set[str]:
        """Workspaces that must be finished before."""
        return {name for name in self.models.values() if name}


@dataclass(frozen=True)
class Experiment:
    """Trainings and what is compared: `pairs` maps a title to (model, minus model); `place(model, seed)` says in which
    workspace a model of a training seed lies and what it is called there; `notes` go into the results."""

    name: str
    workspaces: Sequence[Workspace]
    models: Sequence[str]
    pairs: Mapping[str, tuple[str, str]]
    place: Callable[[str, int], tuple[str, str]]
    seeds: Sequence[int]
    notes: Mapping[str, Any] = field(default_factory=dict)


def changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with `changes` ("loss.alpha" → value) in place; a setting that is not there is an error."""
    result = json.loads(json.dumps(settings))
    for key, value in changes.items():
        section, _, leaf = key.partition(".")
        if section not in result or leaf not in result[section]:
            raise UserError(f"{key}: no such setting in params.yaml")
        result[section][leaf] = value
    return result


def prepare_workspace(
    root: Path,
    base: Path,
    workspace: Workspace,
    settings: Mapping[str, Any],
    linked: Sequence[str] = LINKED,
) -> Path:
    """Make the folder of a workspace below `base` (or bring it up to date) and return it; `linked` folders are the
    project's own."""
    folder = writable_folder(base / workspace.name)
    for name in linked:
        if (root / name).exists():
            _link(folder / name, (root / name).resolve())
    _write_if_changed(folder / "dvc.yaml", (root / "dvc.yaml").read_text())
    # JSON is YAML.
    _write_if_changed(folder / "params.yaml", json.dumps(changed(settings, workspace.changes), indent=1))
    for model, source in workspace.models.items():
        origin = (base / source if source else root) / "models" / f"{model}.safetensors"
        if not origin.is_file():
            raise UserError(f"{origin}: there is no such model yet; run `make repro` first")
        target = folder / "models" / origin.name
        if not target.is_file() or sha256_file(target) != sha256_file(origin):
            with atomic_path(target) as temporary:
                temporary.write_bytes(origin.read_bytes())
    return folder


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _write_if_changed(path: Path, content: str) -> None:
    if not path.is_file() or path.read_text() != content:
        write_atomic(path, content)
