"""`make back`: after an experiment, and on a machine that did not make the committed results."""

import subprocess
import sys
from pathlib import Path

import back

SCRIPT = Path(back.__file__)


def go_back(folder: Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False, **options)


def repository(folder: Path) -> Path:
    """A committed project without stages."""
    (folder / "reports").mkdir(parents=True)
    (folder / "src").mkdir()
    (folder / "params.yaml").write_text("a: 1\n")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "src" / "code.py").write_text("one\n")
    (folder / "reports" / "metrics.json").write_text("{}\n")
    for command in (
        ["git", "init", "--quiet"],
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        ["git", "add", "--all"],
        ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "--quiet", "--message=first"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
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


def test_without_a_commit_it_is_one_line_and_nothing_changes(tmp_path: Path):
    (tmp_path / "params.yaml").write_text("a: 2\n")
    done = go_back(tmp_path, env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    assert (done.returncode, done.stderr) == (2, f"{tmp_path}: there is no git commit to go back to\n")
    assert (tmp_path / "params.yaml").read_text() == "a: 2\n"
