"""Repair files left half-written by an interrupted DVC run: DVC writes them in place.

    python scripts/mend.py [FOLDER]     the project's folder (default: this one); `make mend`

DVC's list of readers and writers is removed; dvc.lock and data.dvc are restored from the last commit. Nothing is lost:
finished stages come back from DVC's run cache, trainings continue from their checkpoints.
"""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def readable_list(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def readable_stages(path: Path) -> bool:
    """Whether DVC accepts the file: half of one may still be valid YAML."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA, COMPILED_SINGLE_STAGE_SCHEMA
    from ruamel.yaml import YAML, YAMLError
    from voluptuous import Invalid

    schema = COMPILED_LOCKFILE_SCHEMA if path.suffix == ".lock" else COMPILED_SINGLE_STAGE_SCHEMA
    try:
        schema(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except (YAMLError, Invalid, UnicodeDecodeError):
        return False
    return True


def restore(path: Path) -> None:
    """Restore the file from the last commit; without git remove it, and DVC recreates it."""
    path.unlink()
    with suppress(FileNotFoundError):
        subprocess.run(["git", "checkout", "--quiet", "HEAD", "--", path.name], cwd=path.parent, capture_output=True)


def mend(folder: Path) -> list[str]:
    """Repair the project in `folder`; returns a line for each repaired file."""
    mended = []
    readers = folder / ".dvc" / "tmp" / "rwlock"
    if readers.exists() and not readable_list(readers):
        from dvc.lock import make_lock

        with make_lock(str(readers.with_name("rwlock.lock")), tmp_dir=str(readers.parent)):  # nobody is writing it now
            if not readable_list(readers):
                readers.unlink()
                mended.append(".dvc/tmp/rwlock was half-written: removed")
    for path in (folder / "dvc.lock", folder / "data.dvc"):
        if path.exists() and not readable_stages(path):
            restore(path)
            mended.append(f"{path.name} was half-written: " + ("as in the last commit" if path.exists() else "removed"))
    return mended


if __name__ == "__main__":
    for line in mend(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT):
        print(line)
