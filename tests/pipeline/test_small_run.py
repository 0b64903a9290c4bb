"""The whole pipeline on a few dozen images, through DVC and papermill, as its users run it."""

import json
import resource
import subprocess
import sys

import mend
import nbformat
import pytest
from clone import Clone
from nbclient import NotebookClient
from small_runs import TRAININGS, steps

from posedistill.params import read_settings

AFTER_ALPHA = {"stage1", "stage2", "evaluate@stage1", "evaluate@stage2", "compare", "export"}
MODELS = "models/*"
REPORTS = "reports/**/*"


def cpu_seconds() -> float:
    """Computing time of all finished child processes and theirs: clocks on a busy machine say little."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def back(project: Clone) -> None:
    """As the README says: git restore . && dvc checkout"""
    project.git("restore", ".")
    project.git("clean", "-fdq", "reports")
    project.dvc("checkout", "--force")


def test_all_reports_and_models_are_made_and_kept_by_git(project):
    reports = {path.name for path in (project.folder / "reports").glob("*.ipynb")}
    assert {
        "01_prepare_data.ipynb",
        "02_train_teacher.ipynb",
        "03_train_baseline.ipynb",
        "04_distill_stage1.ipynb",
        "05_distill_stage2.ipynb",
        *(f"06_evaluate-{model}.ipynb" for model in TRAININGS),
        "07_compare.ipynb",
        "08_export.ipynb",
    } <= reports
    for name in TRAININGS:
        assert (project.folder / "models" / f"{name}.safetensors").is_file()
        assert (project.folder / "reports" / "curves" / f"{name}.tsv").is_file()
    assert project.git("status", "--porcelain") == ""
    tracked = project.git("ls-files").splitlines()
    assert "dvc.lock" in tracked and "reports/metrics/summary.json" in tracked
    assert not [name for name in tracked if name.startswith(("models/", "prepared/", "predictions/", "data/"))]


def test_a_second_validation_set_is_kept_and_compared_by_itself(project):
    lock = read_settings(project.folder / "dvc.lock")["stages"]
    report = (project.folder / "reports" / "07_compare.ipynb").read_text()
    assert "On second:" in report
    for model in TRAININGS:
        folder = f"predictions/{model}"
        assert {path.name for path in (project.folder / folder).iterdir()} == {
            "rendered-oks.json",
            "second-oks.json",
            "second.json",
        }
        assert folder in {out["path"] for out in lock[f"evaluate@{model}"]["outs"]}
        metrics = json.loads((project.folder / "reports" / "metrics" / f"{model}.json").read_text())
        assert list(metrics["other_sets"]) == ["second"]


def test_reports_hold_nothing_of_this_machine_and_no_errors(project):
    for path in (project.folder / "reports").glob("*.ipynb"):
        text = path.read_text()
        assert str(project.folder) not in text and str(project.checkpoints) not in text, path.name
        report = nbformat.reads(text, as_version=4)
        nbformat.validate(report)
        kinds = {output.output_type for cell in report.cells for output in cell.get("outputs", [])}
        assert "error" not in kinds and kinds & {"display_data", "execute_result"}, path.name


def test_again_it_does_nothing_in_five_seconds(project):
    before = cpu_seconds()
    done = project.dvc("repro")
    assert project.ran(done) == set()
    assert "up to date" in done.stdout
    assert cpu_seconds() - before < 5


@pytest.mark.slow
def test_ended_once_a_stage_by_a_signal_it_ends_with_the_same_bytes(project, killed):
    clone, kills = killed
    assert kills == ["prepare", *TRAININGS]
    patterns = (
        "prepared/**/*",
        *(f"models/{stage}.safetensors" for stage in TRAININGS),
        "reports/0[1-5]*",
        "reports/curves/*",
        *(f"reports/figures/{s}/*" for s in TRAININGS),
    )
    assert project.hashes(*patterns) == clone.hashes(*patterns)
    for stage in TRAININGS:
        assert steps(clone, stage) == steps(project, stage), "a finished epoch was repeated"


def test_another_alpha_runs_what_depends_on_it_and_going_back_runs_nothing(project):
    before = project.hashes(MODELS, REPORTS)
    done = project.dvc("exp", "run", "-S", "loss.alpha=1e-2", "--name", "alpha")
    assert project.ran(done) == AFTER_ALPHA
    for shown in ("stage1: epoch 2/2", "stage2: epoch 2/2", "persons/s"):  # the bar, through papermill and DVC
        assert shown in done.stderr
    after = project.hashes(MODELS, REPORTS)
    for name in ("stage1", "stage2"):
        assert after[f"models/{name}.safetensors"] != before[f"models/{name}.safetensors"]
    for name in ("teacher", "baseline"):
        assert after[f"models/{name}.safetensors"] == before[f"models/{name}.safetensors"]

    plots = project.dvc("plots", "diff", "HEAD", "--json")
    curves = json.loads(plots.stdout)["data"]
    assert {f"reports/curves/{name}.tsv" for name in TRAININGS} <= {name.split("::")[-1] for name in curves}
    changed = json.loads(project.dvc("params", "diff", "HEAD", "--json").stdout)
    assert changed == {"params.yaml": {"loss.alpha": {"old": 7e-5, "new": 0.01, "diff": pytest.approx(0.01 - 7e-5)}}}
    metrics = json.loads(project.dvc("metrics", "diff", "HEAD", "--all", "--json").stdout)
    assert list(metrics) == ["reports/metrics/summary.json"]
    names = set(metrics["reports/metrics/summary.json"])
    assert {"stage1.wholebody", "baseline.body", "teacher.hand"} <= names and "stage1.mean_oks.wholebody" in names

    # By the settings: all comes back from the run-cache.
    project.change({"loss.alpha": 7e-5})
    done = project.dvc("repro")
    assert project.ran(done) == set()
    assert project.hashes(MODELS, REPORTS) == before

    # The table that `make experiments` shows: the settings that differ, and what came of them.
    command = [sys.executable, "-m", "posedistill.experiments", "show"]
    environment = project.environment() | {"PYTHONPATH": str(project.folder / "src")}
    shown = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=True)
    assert any(line.split()[:3] == ["alpha", "loss.alpha", "0.01"] for line in shown.stdout.splitlines()), shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 120

    # By git: nothing is left to do.
    project.dvc("exp", "apply", "alpha")
    back(project)
    assert project.git("status", "--porcelain") == ""
    assert project.ran(project.dvc("repro")) == set()
    assert project.hashes(MODELS, REPORTS) == before


def test_a_changed_sentence_is_redrawn_without_training(project):
    notebook = project.folder / "notebooks" / "04_distill_stage1.ipynb"
    book = nbformat.read(notebook, as_version=4)
    book.cells[0].source += "\n\nAnother sentence."
    nbformat.write(book, notebook)
    models, trained = project.hashes(MODELS), steps(project, "stage1")
    before = cpu_seconds()
    done = project.dvc("repro")
    assert cpu_seconds() - before < 30
    assert project.ran(done) == {"stage1"}
    assert "Another sentence." in (project.folder / "reports" / "04_distill_stage1.ipynb").read_text()
    assert project.hashes(MODELS) == models and steps(project, "stage1") == trained
    back(project)


def shown(notebook: nbformat.NotebookNode) -> dict[str, list[dict]]:
    """Cell → what a reader sees of its results."""
    return {
        cell["id"]: [
            {kind: value for kind, value in output["data"].items() if kind != "text/plain"}
            for output in cell.outputs
            if "data" in output
        ]
        for cell in notebook.cells
        if cell.cell_type == "code" and cell["id"] != "injected-parameters"
    }


@pytest.mark.parametrize("name", ["03_train_baseline", "07_compare"])
def test_by_hand_from_its_own_folder_a_notebook_gives_the_same(project, tmp_path, name):
    """As in JupyterLab: a kernel in notebooks/, no settings handed over; the training starts from nothing."""
    before = project.hashes(MODELS)
    book = nbformat.read(project.folder / "notebooks" / f"{name}.ipynb", as_version=4)
    environment = project.environment() | {
        "POSEDISTILL_CHECKPOINTS": str(tmp_path / "checkpoints"),
        "PYTHONPATH": str(project.folder / "src"),  # of the copy; in a project the environment knows its own
    }
    resources = {"metadata": {"path": str(project.folder / "notebooks")}}
    NotebookClient(book, kernel_name="python3", timeout=None, resources=resources).execute(env=environment)
    report = nbformat.read(project.folder / "reports" / f"{name}.ipynb", as_version=4)
    assert shown(book) == shown(report)
    assert project.hashes(MODELS) == before
    assert project.git("status", "--porcelain") == ""
    assert len(list((tmp_path / "checkpoints").glob("*/finished.json"))) == (name == "03_train_baseline")


def test_a_failing_cell_stops_the_stage_and_keeps_the_committed_report(project):
    notebook = project.folder / "notebooks" / "05_distill_stage2.ipynb"
    book = nbformat.read(notebook, as_version=4)
    book.cells[-1] = nbformat.v4.new_code_cell("1 / 0", id="broken")
    nbformat.write(book, notebook)
    committed = project.hashes("reports/**/*")
    done = project.dvc("repro", check=False)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "ZeroDivisionError" in line]
    assert len(lines) == 1 and "Traceback" not in done.stderr
    assert "05_distill_stage2.ipynb, cell" in lines[0]
    assert (project.checkpoints / "failed" / "05_distill_stage2.ipynb").is_file()
    assert project.hashes("reports/**/*") == committed
    back(project)
    assert project.ran(project.dvc("repro")) == set()


@pytest.mark.parametrize("rest", [0, 60, 5000])
def test_files_that_dvc_left_half_written_are_mended(project, rest):
    """A kill while dvc writes: it refuses to go on until `make repro` or `make mend` has been there."""
    lock, readers = project.folder / "dvc.lock", project.folder / ".dvc" / "tmp" / "rwlock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[:rest])
    readers.write_text('{"read": {"/somewhere": [{"pid": 1')
    assert project.dvc("repro", check=False).returncode != 0
    project.mend()
    assert project.ran(project.dvc("repro")) == set()
    assert lock.read_bytes() == whole
    assert project.git("status", "--porcelain") == ""


def test_whole_files_of_dvc_stay(project):
    pinned = project.folder / "data.dvc"
    pinned.write_text(pinned.read_text() + "desc: mine\n")
    assert mend.mend(project.folder) == []
    pinned.write_text("deps:\n- pa")
    assert mend.mend(project.folder) == ["data.dvc was half-written: as in the last commit"]
    assert project.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("student.epochs=-1", "student.epochs: found -1, allowed: a whole number >= 1"),
        ("input.width=100", "input.width: found 100"),
        ("student.size=huge", "student.size: found huge, allowed: n | nw"),
    ],
)
def test_bad_settings_are_one_line_and_overwrite_nothing(project, change, words):
    reports = project.hashes(REPORTS)
    done = project.dvc("exp", "run", "-S", change, check=False)
    assert done.returncode != 0
    assert len([line for line in done.stderr.splitlines() if words in line]) == 1
    assert "Traceback" not in done.stderr
    assert project.hashes(REPORTS) == reports
    back(project)
    assert project.ran(project.dvc("repro")) == set()
