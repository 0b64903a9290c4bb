"""`make back`: after an experiment, and on a machine that did not make the committed results."""

import re
import subprocess
import sys
from pathlib import Path

import back

SCRIPT = Path(back.__file__)


def go_back(folder: Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False, **options)


def commit(folder: Path) -> None:
    """Commit everything."""
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    for command in (["git", "add", "--all"], ["git", *who, "commit", "--quiet", "--message=all"]):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


def repository(folder: Path) -> Path:
    """A committed project without stages."""
    (folder / "reports").mkdir(parents=True)
    (folder / "src").mkdir()
    (folder / "params.yaml").write_text("a: 1\n")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "src" / "code.py").write_text("one\n")
    (folder / "reports" / "metrics.json").write_text("{}\n")
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    commit(folder)
    return folder


def test_settings_and_reports_come_back_and_code_stays(tmp_path: Path):
    folder = repository(tmp_path / "project")
    (folder / "params.yaml").write_text("a: 2\n")
    subprocess.run(["git", "add", "params.yaml"], cwd=folder, check=True)
    (folder / "reports" / "metrics.json").unlink()
    (folder / "src" / "code.py").write_text("two\n")
    done = go_back(folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "params.yaml").read_text() == "a: 1\n"
    assert (folder / "reports" / "metrics.json").read_text() == "{}\n"
    assert (folder / "src" / "code.py").read_text() == "two\n"
    assert "as in the last commit: params.yaml, reports/metrics.json" in done.stdout
    assert "changed code stays, and the stages that use it run anew: src/code.py" in done.stdout
    assert "byte for byte" in done.stdout


STAGE = """\
stages:
  train:
    cmd: cp params.yaml model && cp params.yaml reports/metrics.json
    params: [a]
    outs: [model]
    metrics:
    - reports/metrics.json: {cache: false}
"""


def test_a_lock_that_names_files_of_another_machine_ends_with_those_of_this_one(tmp_path: Path):
    folder = repository(tmp_path / "project")
    (folder / "dvc.yaml").write_text(STAGE)
    (folder / ".gitignore").write_text("/model\n")
    run = [sys.executable, "-m", "dvc", "repro", "--quiet"]
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    lock, model = folder / "dvc.lock", folder / "model"
    made_here = lock.read_text()
    (digest,) = set(re.findall(r"path: model\s+hash: md5\s+md5: (\w{32})", made_here))
    lock.write_text(made_here.replace(digest, digest[::-1]))  # other bytes, by another processor
    commit(folder)
    (folder / "params.yaml").write_text("a: 2\n")
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    assert model.read_text() == "a: 2\n"
    done = go_back(folder)
    assert done.returncode == 0, done.stderr
    assert model.read_text() == (folder / "reports" / "metrics.json").read_text() == "a: 1\n"
    assert lock.read_text() == made_here
    assert "results of this machine: 1 file differs from the commit (dvc.lock)" in done.stdout
    status = [sys.executable, "-m", "dvc", "status"]
    assert "up to date" in subprocess.run(status, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_without_a_commit_it_is_one_line_and_nothing_changes(tmp_path: Path):
    (tmp_path / "params.yaml").write_text("a: 2\n")
    done = go_back(tmp_path, env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    assert (done.returncode, done.stderr) == (2, f"{tmp_path}: there is no git commit to go back to\n")
    assert (tmp_path / "params.yaml").read_text() == "a: 2\n"
