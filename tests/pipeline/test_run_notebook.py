"""The runner of stage notebooks: reproducible reports, one line on a failure, the committed report kept."""

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import nbformat
import psutil
import pytest

from posedistill.params import read_settings
from posedistill.pipeline import stage as stages

ROOT = Path(__file__).parents[2]
RUNNER = ROOT / "src" / "run_notebook.py"

PIPELINE = """\
stages:
  one:
    cmd: python src/run_notebook.py one
    deps: [notebooks/01_one.ipynb]
    params: [loss.alpha, student]
    plots:
      - reports/01_one.ipynb: {cache: false}
      - reports/figures/one: {cache: false}
  each:
    foreach: {a: loss, b: student}
    do:
      cmd: python src/run_notebook.py each@${key}
      deps: [notebooks/02_each.ipynb]
      params: [loss.beta, "${item}.clip_norm"]
      plots:
        - reports/02_each-${key}.ipynb: {cache: false}
"""


def notebook(*sources: str, parameters: str = "settings = None") -> str:
    cells = [nbformat.v4.new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.writes(book)


class Project:
    """A folder with a pipeline of two notebooks and a committed report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("notebooks", "reports/figures/one"):
            (folder / name).mkdir(parents=True)
        (folder / "dvc.yaml").write_text(PIPELINE)
        (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        (folder / "assets").symlink_to(ROOT / "assets")  # the starting weights that the settings name
        self.report.write_text("committed report")
        self.figure.write_text("committed figure")
        self.git("init", "--quiet")
        self.git("add", ".")

    @property
    def report(self) -> Path:
        return self.folder / "reports" / "01_one.ipynb"

    @property
    def figure(self) -> Path:
        return self.folder / "reports" / "figures" / "one" / "a.png"

    @property
    def failed(self) -> Path:
        return self.folder / ".checkpoints" / "failed" / "01_one.ipynb"

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True)

    def remove_outputs(self) -> None:
        """As DVC does before it starts a stage."""
        self.report.unlink()
        self.figure.unlink()
        self.figure.parent.rmdir()

    def environment(self) -> dict[str, str]:
        drop = ("POSEDISTILL_CHECKPOINTS", "POSEDISTILL_ROOT", "PYTHONPATH")
        return {name: value for name, value in os.environ.items() if name not in drop}

    def run(self, *sources: str, stage: str = "one", **more: str) -> subprocess.CompletedProcess:
        file = "01_one.ipynb" if stage == "one" else "02_each.ipynb"
        if sources:
            (self.folder / "notebooks" / file).write_text(notebook(*sources, **more))
        return subprocess.run(
            [sys.executable, RUNNER, stage],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
            timeout=120,
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_same_run_gives_the_same_report_and_only_the_listed_settings(project):
    cells = (
        "import os, sys, pathlib\nprint(sorted(settings), settings['loss'])",
        "import time, tqdm\nfor _ in tqdm.tqdm(range(3)): print('step', flush=True)\nprint('warned', file=sys.stderr)",
        "object(), settings['student']['seed']",
        "from posedistill import project\nproject.enter();",
        "pathlib.Path('reports/where').write_text(f\"{os.getcwd()} {os.environ['OMP_NUM_THREADS']}\")",
    )
    first = project.run(*cells)
    assert first.returncode == 0, first.stderr
    content = project.report.read_bytes()
    assert project.run().returncode == 0
    assert project.report.read_bytes() == content
    report = nbformat.read(project.report, as_version=4)
    nbformat.validate(report)
    assert [cell["id"] for cell in report.cells][:3] == ["parameters", "injected-parameters", "cell-0"]
    text = json.dumps([cell.get("outputs") for cell in report.cells])
    assert "['loss', 'student'] {'alpha': 7e-05}" in text
    assert "warned" not in text and "3/3" not in text  # progress and warnings went to the terminal
    assert "warned" in first.stderr and "3/3" in first.stderr and "step" in first.stdout
    for machine in (str(project.folder), "0x7f", "papermill", "duration"):
        assert machine not in content.decode(), machine
    assert (project.folder / "reports" / "where").read_text() == f"{project.folder} 1"
    assert not list((project.folder / ".checkpoints").rglob("*.ipynb"))
    assert not list(project.folder.glob("kernel*"))  # sockets lie elsewhere: several runs never meet


def test_a_failing_cell_is_one_line_and_the_committed_report_comes_back(project):
    project.remove_outputs()
    done = project.run("print('before')", "raise ValueError('it\\nbroke')", "print('after')")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "notebooks/01_one.ipynb, cell 4: ValueError: it" in line
    assert str(project.failed) in line
    assert project.report.read_text() == "committed report"
    assert project.figure.read_text() == "committed figure"
    partial = project.failed.read_text()
    assert "before" in partial and "Traceback" in partial


def test_the_place_in_the_package_is_named_and_a_report_that_is_there_stays(project):
    project.report.write_text("newer than the commit")
    done = project.run("from posedistill import files\nfiles.sha256_file('absent')")
    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr and "src/posedistill/files.py, line" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert project.report.read_text() == "newer than the commit"


def test_a_killed_kernel_is_one_line_and_the_committed_report_comes_back(project):
    project.remove_outputs()
    run = project.run("print('before')", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert run.returncode == 1 and "before" in run.stdout
    lines = run.stderr.strip().splitlines()
    line = lines[-1]
    assert len(lines) <= 2  # nbclient has a line of its own
    assert line.startswith("notebooks/01_one.ipynb: its Python process ended") and "memory" in line
    assert project.report.read_text() == "committed report"


def test_bad_input_in_a_notebook_is_its_own_line(project):
    project.remove_outputs()
    done = project.run("from posedistill.errors import UserError\nraise UserError('a.json: no such annotation 7')")
    assert done.returncode == 2
    assert done.stderr.strip() == "a.json: no such annotation 7"
    assert project.report.read_text() == "committed report"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("alpha: 7e-5", "alpha: -1", "loss.alpha: found -1, allowed: a number >= 0"),
        ("alpha: 7e-5", "alhpa: 7e-5", "loss.alhpa: unknown key (did you mean loss.alpha?): remove it"),
        ("  height: 128", "  height: 100", "input.height: found 100, allowed: a whole number >= 32"),
        ("size: nw", "size: huge", "teacher.size: found huge, allowed: n | nw"),
        (
            "checkpoint: ",
            "checkpoint: {path: no.pth, sha256: '01234567'}",
            "teacher.checkpoint.path: there is no file",
        ),
    ],
)
def test_bad_settings_are_one_line_and_nothing_is_overwritten(project, old, new, words):
    settings = project.folder / "params.yaml"
    assert old in settings.read_text()
    settings.write_text(settings.read_text().replace(old, new, 1))
    project.remove_outputs()
    done = project.run("print(1)")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert words in line
    assert project.report.read_text() == "committed report"
    assert project.figure.read_text() == "committed figure"


def test_a_checkpoint_folder_that_cannot_be_written_is_one_line(project):
    (project.folder / ".checkpoints").write_text("in the way")
    project.remove_outputs()
    done = project.run("print(1)")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("one: cannot write") and ".checkpoints" in line
    assert project.report.read_text() == "committed report"


def test_a_full_disk_is_one_line_and_the_committed_report_comes_back(project, monkeypatch, capsys):
    """Met by the runner itself: papermill keeps the notebook after every cell."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "running.ipynb")

    project.remove_outputs()
    (project.folder / "notebooks" / "01_one.ipynb").write_text(notebook("print(1)"))
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("papermill.execute_notebook", full)
    monkeypatch.setattr(stages, "kernel_environment", nullcontext)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(project.folder))
    monkeypatch.delenv("POSEDISTILL_CHECKPOINTS", raising=False)
    assert stages.main(["one"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "one: cannot write running.ipynb: No space left on device"
    assert project.report.read_text() == "committed report"
    assert project.figure.read_text() == "committed figure"


def test_one_of_several_stages_gets_its_name_and_its_settings(project):
    done = project.run("print(model, settings)", stage="each@b", parameters="settings = None\nmodel = 'a'")
    assert done.returncode == 0, done.stderr
    all_settings = read_settings(ROOT / "params.yaml")
    beta, clip = all_settings["loss"]["beta"], all_settings["student"]["clip_norm"]
    assert (
        f"b {{'loss': {{'beta': {beta}}}, 'student': {{'clip_norm': {clip}}}}}"
        in (project.folder / "reports" / "02_each-b.ipynb").read_text()
    )


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("each", "each: found no item, allowed: each@a, each@b"),
        ("each@c", "each@c: found c, allowed: each@a, each@b"),
        ("one@a", "one@a: stage one has no items, run it as one"),
        ("two", "dvc.yaml has no stage two, allowed: one, each"),
    ],
)
def test_a_stage_that_is_not_there_is_one_line(project, stage, words):
    done = project.run(stage=stage)
    assert done.returncode == 2 and done.stderr.strip() == words


def test_without_a_parameters_cell_there_is_no_run(project):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", id="a")])
    (project.folder / "notebooks" / "01_one.ipynb").write_text(nbformat.writes(book))
    done = project.run()
    assert done.returncode == 2 and "no cell has the tag parameters" in done.stderr


def test_a_long_folder_for_temporary_files(project, tmp_path):
    """Sockets lie there, and their paths must be short."""
    long = tmp_path / ("t" * 90)
    long.mkdir()
    (project.folder / "notebooks" / "01_one.ipynb").write_text(
        notebook("import tempfile\nprint(tempfile.gettempdir())")
    )
    done = subprocess.run(
        [sys.executable, RUNNER, "one"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        env=project.environment() | {"TMPDIR": str(long)},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) < 80


def test_started_from_another_folder(project):
    below = project.folder / "notebooks"
    (below / "01_one.ipynb").write_text(notebook("print('done')"))
    done = subprocess.run(
        [sys.executable, RUNNER, "one"], cwd=below, capture_output=True, text=True, env=project.environment()
    )
    assert done.returncode == 0, done.stderr
    assert "done" in project.report.read_text()


def test_started_outside_of_a_project(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "POSEDISTILL_ROOT"}
    done = subprocess.run(
        [sys.executable, RUNNER, "one"], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert done.stderr.startswith("no dvc.yaml in ") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(project, number):
    """The kernel ends with the runner, the partial report is kept, the committed one comes back."""
    project.remove_outputs()
    source = "import os, time\nprint('kernel', os.getpid(), flush=True)\nwhile True: time.sleep(0.05)"
    (project.folder / "notebooks" / "01_one.ipynb").write_text(notebook(source))
    process = subprocess.Popen(
        [sys.executable, RUNNER, "one"],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=project.environment(),
    )
    assert process.stdout is not None
    kernel = int(process.stdout.readline().split()[1])
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("one: interrupted")
    assert "Traceback" not in errors
    assert project.report.read_text() == "committed report"
    assert json.loads(project.failed.read_text())["cells"]
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def test_a_stage_ends_with_dvc(project):
    """dvc is killed, its stage is not: it would train beside the next run."""
    project.remove_outputs()
    source = "import os, time\nprint('kernel', os.getpid(), flush=True)\nwhile True: time.sleep(0.05)"
    (project.folder / "notebooks" / "01_one.ipynb").write_text(notebook(source))
    dvc = f"import subprocess, sys; subprocess.run([sys.executable, {str(RUNNER)!r}, 'one'])"
    process = subprocess.Popen(
        [sys.executable, "-c", dvc],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=project.environment() | {"DVC_STAGE": "one"},
    )
    assert process.stdout is not None
    kernel = psutil.Process(int(process.stdout.readline().split()[1]))
    runner = kernel.parent()
    assert runner is not None
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs([runner, kernel], timeout=30)
    assert not alive
    assert project.report.read_text() == "committed report"
