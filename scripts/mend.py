"""Mend what a run of dvc that was ended while it wrote leaves behind: dvc writes its files in place.

    python scripts/mend.py [FOLDER]     the project's folder (default: this one)

Its list of readers and writers is removed, dvc.lock and data.dvc come from the last commit. Nothing is lost: stages
that have ended come back from dvc's run cache, trainings go on from their checkpoints.
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
    """Does dvc accept the file? Half of it may be valid YAML."""
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
    """The file of the last commit; without git none, and dvc makes it anew."""
    path.unlink()
    with suppress(FileNotFoundError):
        subprocess.run(["git", "checkout", "--quiet", "HEAD", "--", path.name], cwd=path.parent, capture_output=True)


def mend(folder: Path) -> list[str]:
    """What was mended."""
    mended = []
    readers = folder / ".dvc" / "tmp" / "rwlock"
    if readers.exists() and not readable_list(readers):
        from dvc.lock import make_lock

        with make_lock(str(readers.with_name("rwlock.lock")), tmp_dir=str(readers.parent)):  # nobody writes it just now
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
