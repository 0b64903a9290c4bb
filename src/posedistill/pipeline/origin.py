"""Where a file of weights comes from: is it one of the pipeline's models, and for what crops was it trained?"""

import hashlib
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.data.geometry import BOX_PADDING
from posedistill.errors import UserError
from posedistill.params import ROLES, read_settings


@dataclass(frozen=True)
class Origin:
    """A model of the pipeline in the project `root`, trained on boxes widened `padding` times."""

    root: Path
    role: str
    padding: float


def made_here(weights: Path) -> Origin | None:
    """Which of the pipeline's models a file is, by its content: as dvc.lock records it, or as it lies in models/.

    Looked for in the project around the working folder and in the one around the file; None if it is in neither.
    """
    digest = md5_file(weights)
    for root in _projects(weights):
        lock = root / "dvc.lock"
        recorded = lock.is_file() and digest in lock.read_text(encoding="utf-8", errors="replace")
        stages = read_settings(lock).get("stages", {}) if recorded else {}
        for role in ROLES:
            stage = stages.get(role, {})
            if any(out.get("md5") == digest for out in stage.get("outs", [])):
                made_with = stage.get("params", {}).get("params.yaml", {})
                return Origin(root, role, padding_of(made_with) or BOX_PADDING)
        for role in ROLES:  # trained without DVC: from a notebook, or by hand
            model = root / "models" / f"{role}.safetensors"
            if model.is_file() and model.stat().st_size == weights.stat().st_size and md5_file(model) == digest:
                return Origin(root, role, padding_of(read_settings(root / "params.yaml")) or BOX_PADDING)
    return None


def box_padding(weights: Path, told: float | None) -> float:
    """By how much a model wants boxes widened: what its file says (`told`), else what its training in this pipeline
    had, else the published 1.25."""
    if told is not None:
        return told
    origin = made_here(weights)
    return BOX_PADDING if origin is None else origin.padding


def padding_of(settings: Any) -> float | None:
    """`augment.box_padding` of settings, None where they do not say it."""
    augment = settings.get("augment") if isinstance(settings, Mapping) else None
    return as_padding(augment.get("box_padding")) if isinstance(augment, Mapping) else None


def as_padding(value: Any) -> float | None:
    """A file's word for its padding as a number; None where it is none, since anybody may write into metadata."""
    with suppress(TypeError, ValueError):
        return float(value) if math.isfinite(float(value)) and float(value) > 0 else None
    return None


def md5_file(path: Path) -> str:
    """A file's hash as DVC records it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _projects(weights: Path) -> list[Path]:
    found = []
    with suppress(UserError):
        found.append(project.root())
    around = [folder for folder in weights.absolute().parents if (folder / "dvc.yaml").is_file()]
    return found + [folder for folder in around[:1] if folder not in found]
