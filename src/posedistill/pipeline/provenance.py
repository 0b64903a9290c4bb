"""A model's origin, from dvc.lock: its role in the pipeline, its settings and data, and whether it is up to date."""

import hashlib
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.data.geometry import BOX_PADDING
from posedistill.errors import UserError, shorten
from posedistill.files import printable
from posedistill.inference.weights import as_padding, padding_of, read_metadata
from posedistill.models.onnx_model import PoseModel
from posedistill.params import ROLES, read_settings, setting
from posedistill.pipeline.evaluation_files import METRICS

# The pipeline's model files, and which model each is.
STUDENT = ("models/student.onnx", "models/student.safetensors")
TRAINED_ON = "trained_on"  # in the metadata of copies: the kinds of sources, between commas
FILES = {f"models/{role}.safetensors": role for role in ROLES} | dict.fromkeys(STUDENT, "stage2")


@dataclass(frozen=True)
class Origin:
    """A model of the pipeline in the project `root`, and the settings that it was made with (sections or leaves)."""

    root: Path
    role: str
    settings: Mapping[str, Any]

    @property
    def padding(self) -> float:
        """The box padding of its training."""
        return as_padding(setting(self.settings, "augment.box_padding")) or BOX_PADDING

    @property
    def given(self) -> bool:
        """Whether it is a given teacher, whose training the settings do not tell."""
        return self.role == "teacher" and setting(self.settings, "teacher.checkpoint") is not None


def find_origin(weights: Path) -> Origin | None:
    """The pipeline's model whose content a file has, by the hashes in dvc.lock or the files in models/.

    Searches the project of the working folder, then the one that holds the file; None if not found.
    """
    digest = md5_file(weights)
    for root in _projects(weights):
        lock = root / "dvc.lock"
        if lock.is_file() and digest in lock.read_text(encoding="utf-8", errors="replace"):  # parsing is slow
            stages = locked_stages(root)
            outs = {out.get("path"): out.get("md5") for stage in stages.values() for out in stage.get("outs", [])}
            for path, role in FILES.items():
                if outs.get(path) == digest:
                    return Origin(root, role, locked_settings(stages, "prepare") | locked_settings(stages, role))
        for path, role in FILES.items():  # trained without DVC: from a notebook, or by hand
            model = root / path
            if model.is_file() and model.stat().st_size == weights.stat().st_size and md5_file(model) == digest:
                return Origin(root, role, read_settings(root / "params.yaml"))
    return None


def box_padding(weights: str | Path, model: PoseModel) -> float:
    """The box padding for `model`, read from `weights`: from the file's metadata, else from the training of the
    pipeline's model, else the published 1.25."""
    stated = padding_of(read_metadata(weights, model))
    if stated is not None:
        return stated
    origin = find_origin(Path(weights))
    return BOX_PADDING if origin is None else origin.padding


def trained_on(weights: str | Path, model: PoseModel) -> set[str]:
    """The kinds of sources (`synthetic`, …) that `model` was trained on; empty if unknown."""
    metadata = read_metadata(weights, model)
    stated = kinds_of(metadata)
    if stated or isinstance(metadata.get("settings"), Mapping):
        return stated
    origin = find_origin(Path(weights))
    return set() if origin is None or origin.given else kinds_of({"settings": origin.settings})


def kinds_of(metadata: Mapping[str, Any]) -> set[str]:
    """The same as a file's metadata state it, in their settings or by themselves; a given teacher's settings do not
    tell. Untrusted."""
    settings, text = metadata.get("settings"), metadata.get(TRAINED_ON)
    if not settings and isinstance(text, str):
        return set(text.split(","))
    if metadata.get("name") == "teacher" and setting(settings, "teacher.checkpoint") is not None:
        return set()
    sources = setting(settings, "data.train")
    sources = sources if isinstance(sources, list) else []
    return {str(source["source"]) for source in sources if isinstance(source, Mapping) and "source" in source}


def locked_stages(root: str | Path = ".") -> Mapping[str, Any]:
    """The stages of dvc.lock; empty without one."""
    lock = Path(root) / "dvc.lock"
    return read_settings(lock).get("stages", {}) if lock.is_file() else {}


def locked_settings(stages: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The settings of one stage, as dvc.lock records them: dotted key → value."""
    return dict(stages.get(stage, {}).get("params", {}).get("params.yaml", {}))


def check_fresh(name: str, root: str | Path = ".") -> None:
    """UserError if model, metrics or settings are not those recorded in dvc.lock: its card would state the numbers of
    another model."""
    root = Path(root)
    stages = locked_stages(root)
    evaluated = stages.get(f"evaluate@{name}", {})
    files = {entry["path"]: entry.get("md5") for kind in ("deps", "outs") for entry in evaluated.get(kind, [])}
    for path in (f"models/{name}.safetensors", str(METRICS / f"{name}.json")):
        if path in files and (root / path).is_file() and files[path] != md5_file(root / path):
            raise UserError(f"{path} is not the file that was evaluated (dvc.lock): run  dvc repro  first")
    settings = read_settings(root / "params.yaml")
    for key, value in (locked_settings(stages, "prepare") | locked_settings(stages, name)).items():
        now = setting(settings, key)
        if now != value:
            raise UserError(
                f"params.yaml: {key} is {shorten(now)}, but {name} was made with {shorten(value)} (dvc.lock): "
                "run  dvc repro  first"
            )


def data_hash(root: str | Path) -> str | None:
    """DVC's hash of the prepared data, from dvc.lock; None where nothing was prepared by DVC."""
    outs = locked_stages(root).get("prepare", {}).get("outs", [])
    return next((out.get("md5") for out in outs if out.get("path") == "prepared"), None)


def git_revision(root: str | Path) -> str | None:
    """The commit of the project, with `-dirty` where tracked files differ from it; None without git."""
    try:
        revision = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("-dirty" if changed else "")


def md5_file(path: Path) -> str:
    """A file's hash as DVC records it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise UserError(f"{printable(path)}: cannot be read ({error.strerror})") from error


def _git(root: str | Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _projects(weights: Path) -> list[Path]:
    """The project around the working folder and the one around the file."""
    found = []
    with suppress(UserError):
        found.append(project.root())
    around = [folder for folder in weights.absolute().parents if (folder / "dvc.yaml").is_file()]
    return found + [folder for folder in around[:1] if folder not in found]
