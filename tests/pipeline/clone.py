"""A copy of the project with settings so small that the whole pipeline runs in a minute or two."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mend

from posedistill.params import read_settings

ROOT = Path(__file__).parents[2]

TINY: dict[str, Any] = {
    "data.train": [{"source": "synthetic", "name": "rendered", "images": 24, "seed": 1000}],
    "data.val": [
        {"source": "synthetic", "name": "rendered", "images": 8, "seed": 2000},
        {"source": "synthetic", "name": "second", "images": 2, "seed": 2100},
    ],
    "input.height": 64,
    "input.width": 64,
    "augment.weak_epochs": 0,
    "teacher.size": "n",
    "teacher.backbone": None,
    "teacher.epochs": 1,
    "student.backbone": None,
    "student.epochs": 1,
    "train.batch": 8,
    "train.validate_every": 1,
    "stage2.epochs": 1,
    "evaluate.bootstrap": 20,
    "evaluate.batch": 16,
    "export.crops": 4,
    "runtime.device": "cpu",
    "runtime.workers": 0,
    "runtime.threads": 1,
    "runtime.compile": False,
}


class Clone:
    """The project's files in another folder, as a git repository with one commit."""

    def __init__(self, folder: Path, changes: dict[str, Any] | None = None, checkpoints: Path | None = None) -> None:
        self.folder = folder
        self.checkpoints = checkpoints or folder.parent / f"{folder.name}-checkpoints"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            # Of the reports only those of experiments outside the pipeline: compare reads their figures.
            # Of the measurements only those that the export report quotes.
            skipped = name.startswith(("tests/", "recipes/", "benchmarks/", ".ci/"))
            if (skipped and not name.startswith("benchmarks/latency/")) or not (ROOT / name).is_file():
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        # Compiled kernels come along: numba would take half a minute to make them anew.
        for compiled in (ROOT / "src").rglob("__pycache__/*.nb[ic]"):
            target = folder / compiled.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(compiled, target)
        self.change(TINY | (changes or {}))
        (folder / "dvc.lock").unlink(missing_ok=True)
        self.git("init", "--quiet")
        self.git("config", "user.name", "Test")
        self.git("config", "user.email", "test@example.org")
        self.commit("a small copy")

    @classmethod
    def existing(cls, folder: Path, checkpoints: Path) -> "Clone":
        """A folder that git has cloned from another Clone."""
        clone = cls.__new__(cls)
        clone.folder, clone.checkpoints = folder, checkpoints
        return clone

    def change(self, changes: dict[str, Any]) -> None:
        """Replace settings, named as in loss.alpha, in params.yaml (JSON is YAML)."""
        settings = copy.deepcopy(read_settings(self.folder / "params.yaml"))
        for key, value in changes.items():
            section, leaf = key.split(".")
            assert leaf in settings[section], key
            settings[section][leaf] = value
        (self.folder / "params.yaml").write_text(json.dumps(settings, indent=1) + "\n")

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout

    def environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSEDISTILL_")}
        environment.pop("PYTHONPATH", None)
        return environment | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "POSEDISTILL_CHECKPOINTS": str(self.checkpoints),
            "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder.parent / "no-global-config"),
            "DVC_SYSTEM_CONFIG_DIR": str(self.folder.parent / "no-system-config"),
        }

    def dvc(self, *arguments: str, check: bool = True, timeout: float = 3600) -> subprocess.CompletedProcess:
        """Run dvc; where it fails and should not, the end of what it said is the message."""
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"dvc {' '.join(arguments)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def mend(self) -> None:
        """What `make repro` does before dvc starts: an end at any moment may have left dvc's own files half-written."""
        mend.mend(self.folder)

    def ran(self, done: subprocess.CompletedProcess) -> set[str]:
        """Stages whose notebook dvc ran, from what it printed."""
        lines = [line.strip() for line in done.stdout.splitlines()]
        runner = "> python src/run_notebook.py "
        return {line.removeprefix(runner) for line in lines if line.startswith(runner)}

    def hashes(self, *patterns: str) -> dict[str, str]:
        """Path → checksum of files below the clone."""
        from posedistill.files import sha256_file

        paths = [path for pattern in patterns for path in self.folder.glob(pattern) if path.is_file()]
        return {str(path.relative_to(self.folder)): sha256_file(path) for path in sorted(paths)}
