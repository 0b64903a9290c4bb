"""`make back` where the commit was made on another kind of processor."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import back
import pytest
from clone import Clone

METRICS = "reports/metrics/stage1.json"


def as_of_another_machine(clone: Clone) -> None:
    """Commit a lock whose models and predictions were never made here, with metrics that fit them."""
    lock = clone.folder / "dvc.lock"
    text = lock.read_text()
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.strip().startswith(("path: models/", "- path: models/", "- path: predictions")):
            (digest,) = [one.split()[-1] for one in lines[i + 1 : i + 4] if one.strip().startswith("md5:")]
            text = text.replace(digest, hashlib.md5(digest.encode()).hexdigest() + digest[32:])
    metrics = clone.folder / METRICS
    old = hashlib.md5(metrics.read_bytes()).hexdigest()
    metrics.write_text(metrics.read_text() + "\n")
    lock.write_text(text.replace(old, hashlib.md5(metrics.read_bytes()).hexdigest()))
    clone.commit("made elsewhere")


@pytest.mark.slow
def test_going_back_ends_with_models_reports_and_lock_of_this_machine(project: Clone, tmp_path: Path) -> None:
    made_here = project.hashes("models/*", "dvc.lock", "predictions/**/*", METRICS)
    folder = tmp_path / "clone"
    shutil.copytree(project.folder, folder, symlinks=True)
    clone = Clone.existing(folder, project.checkpoints)
    as_of_another_machine(clone)
    clone.change({"loss.alpha": 1e-3})
    (folder / "models" / "stage1.safetensors").unlink()
    command = [sys.executable, back.__file__, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clone.environment())
    assert done.returncode == 0, done.stderr
    assert clone.hashes("models/*", "dvc.lock", "predictions/**/*", METRICS) == made_here
    assert "Data and pipelines are up to date" in clone.dvc("status").stdout
    assert clone.git("diff", "--name-only", "HEAD").splitlines() == ["dvc.lock", METRICS]
    assert "2 files differ from the commit (dvc.lock, reports/metrics/stage1.json)" in done.stdout
