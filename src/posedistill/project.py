"""Where the project and its checkpoints are: notebooks, tests and commands may be started from any folder."""

import os
from pathlib import Path

from posedistill.errors import UserError


def root() -> Path:
    """The folder that holds dvc.yaml: POSEDISTILL_ROOT, or the nearest one upward from the working folder."""
    given = os.environ.get("POSEDISTILL_ROOT")
    if given:
        return Path(given).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise UserError(f"no dvc.yaml in {here} or above it: run this inside the project, or set POSEDISTILL_ROOT")


def enter() -> Path:
    """Make the project's root the working folder (settings hold paths relative to it) and return it."""
    folder = root()
    os.chdir(folder)
    return folder


def checkpoints() -> Path:
    """The folder of unfinished and finished work, absolute: POSEDISTILL_CHECKPOINTS, or .checkpoints in the project.

    DVC runs experiments in temporary copies of the project (<project>/.dvc/tmp/exps/…); they share the project's
    folder, so that `dvc exp run --temp` and queued runs find what is finished.
    """
    given = os.environ.get("POSEDISTILL_CHECKPOINTS")
    if given:
        return Path(given).resolve()
    project, *_ = str(root()).partition(f"{os.sep}.dvc{os.sep}tmp{os.sep}exps{os.sep}")
    return Path(project) / ".checkpoints"
