"""Where the project is: notebooks, tests and the command line may be started from any folder."""

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
