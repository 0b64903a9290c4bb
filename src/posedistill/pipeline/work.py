"""Unfinished work, kept outside the stage's outputs (DVC deletes those before a run) until the stage has finished.

Its folders are named by a hash of all that decides the result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError


def work_folder(name: str, key: dict[str, Any]) -> Path:
    """The folder of the unfinished work that `key` (plain values) decides."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return project.checkpoints() / f"{name}-{digest}"


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; a UserError if that is refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error


def publish(source: Path, target: Path) -> None:
    """Put a finished file in place: a hard link where the file system allows, otherwise a copy."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)
