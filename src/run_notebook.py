"""Run the notebook of one pipeline stage and write its report:  python src/run_notebook.py STAGE

STAGE is a stage of dvc.yaml, evaluate@stage1 for one of a matrix. The notebook gets only the settings that the stage
lists there. Identical runs give identical reports. A failing cell ends with one line; the partial report is kept in
the checkpoint folder, and what DVC removed of the committed reports before the run is put back from git.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the code beside this file, installed or not

from posedistill.errors import UserError
from posedistill.files import write_atomic
from posedistill.params import from_settings, load_params, read_settings, stage_settings
from posedistill.parent import end_with_parent

VOLATILE = ("papermill", "execution", "ExecuteTime")  # metadata of notebook and cells that holds times and paths
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
OWN_FRAME = re.compile(r"(src/posedistill/\S+?\.py)[^\n]*?(?:, line |:)(\d+)")


@dataclass(frozen=True)
class Job:
    """One stage: its notebook, the report it becomes, and what the notebook is given."""

    stage: str
    notebook: Path
    report: Path
    items: dict[str, Any]  # of a matrix: {"model": "stage1"}
    reported: tuple[str, ...]  # all outputs that git keeps, not DVC's cache


def read_job(stage: str) -> Job:
    """What dvc.yaml says about a stage."""
    name, _, item = stage.partition("@")
    stages = read_settings("dvc.yaml").get("stages", {})
    if name not in stages:
        raise UserError(f"dvc.yaml has no stage {name}, allowed: {', '.join(stages)}")
    entry = stages[name]
    matrix = entry.get("matrix", {})
    items: dict[str, Any] = {}
    if matrix:
        ((key, values),) = matrix.items()
        if item not in values:
            raise UserError(f"{stage}: found {item or 'no item'}, allowed: {', '.join(f'{name}@{v}' for v in values)}")
        items[key] = item
    elif item:
        raise UserError(f"{stage}: stage {name} has no items, run it as {name}")

    def filled(text: str) -> str:
        for key, value in items.items():
            text = text.replace(f"${{item.{key}}}", str(value))
        return text

    notebooks = [dep for dep in entry.get("deps", []) if dep.endswith(".ipynb")]
    uncached = [
        filled(out)
        for kind in ("outs", "plots", "metrics")
        for one in entry.get(kind, [])
        if isinstance(one, dict)
        for out, options in one.items()
        if options.get("cache") is False
    ]
    reports = [out for out in uncached if out.endswith(".ipynb")]
    if len(notebooks) != 1 or len(reports) != 1:
        raise UserError(f"dvc.yaml: stage {name} needs one notebook among its deps and one report among its outs")
    return Job(stage, Path(filled(notebooks[0])), Path(reports[0]), items, tuple(uncached))


def checked_settings(stage: str) -> dict[str, Any]:
    """The settings that the stage lists. All of params.yaml is checked: what a stage ignores may be wrong, too."""
    load_params("params.yaml")
    settings = stage_settings(stage, Path.cwd())
    from_settings(settings, stage)
    return settings


def clean(notebook: Any) -> Any:
    """Drop from an executed notebook all that differs between identical runs; progress and warnings went to the
    terminal."""
    for key in VOLATILE:
        notebook.metadata.pop(key, None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for key in VOLATILE:
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
            cell.metadata["jupyter"] = {"source_hidden": True}
        if cell.cell_type == "code":
            cell.outputs = _cleaned_outputs(cell.outputs)
    return notebook


def _cleaned_outputs(outputs: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            # How many pieces a text comes in is a matter of timing.
            if kept and kept[-1].output_type == "stream":
                kept[-1]["text"] += output["text"]
                continue
        elif "text/plain" in output.get("data", {}):
            output["data"]["text/plain"] = ADDRESS.sub("", output["data"]["text/plain"])
        kept.append(output)
    return kept


def execute(job: Job, settings: dict[str, Any], running: Path, failed: Path) -> bool:
    """Run the notebook in a fresh kernel, streaming what it prints, and write its report.

    The file `running` holds it cell by cell until it is finished. False, after one line on what went wrong, where a
    cell failed; UserError where the input is to blame. `failed` is where the partial report will be.
    """
    # Only now: they take two seconds, and bad settings should not wait for them.
    import logging

    import nbformat
    import papermill
    from traitlets.config import Config

    logging.getLogger("papermill").setLevel(logging.ERROR)
    source = nbformat.read(job.notebook, as_version=4)
    if not any("parameters" in cell.metadata.get("tags", []) for cell in source.cells):
        raise UserError(f"{job.notebook}: no cell has the tag parameters, so the settings have no place")
    running.parent.mkdir(parents=True, exist_ok=True)
    try:
        notebook = papermill.execute_notebook(
            str(job.notebook),
            str(running),
            parameters={"settings": settings, **job.items},
            kernel_name="python3",
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            cwd=str(Path.cwd()),
            config=Config(
                {
                    # Sockets in a folder of their own, no ports: several runs never meet.
                    "KernelManager": {"transport": "ipc", "ip": f"{os.environ['JUPYTER_RUNTIME_DIR']}/k"},
                    # What a kernel says about its sockets when it is interrupted helps nobody.
                    "NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=CRITICAL"]},
                }
            ),
        )
    except papermill.PapermillExecutionError as error:
        line = failure_line(job, error, failed)
        if error.ename == "UserError":
            raise UserError(line) from error
        print(line, file=sys.stderr)
        return False
    write_atomic(job.report, nbformat.writes(clean(notebook)) + "\n")
    running.unlink(missing_ok=True)
    return True


def failure_line(job: Job, error: Any, target: Path) -> str:
    """One line on a failed cell: a UserError's own words, otherwise the cell, the error and the place in the code."""
    message = COLOUR.sub("", str(error.evalue)).strip()
    if error.ename == "UserError":
        return message
    places = OWN_FRAME.findall(COLOUR.sub("", "\n".join(error.traceback)))
    place = f" ({places[-1][0]}, line {places[-1][1]})" if places else ""
    first = message.splitlines()[0] if message else ""
    return f"{job.notebook}, cell {error.exec_count}: {error.ename}: {first}{place}; the report up to there: {target}"


def put_back(job: Job) -> list[str]:
    """Restore from git the committed reports that are missing: DVC removes a stage's outputs before it starts."""
    if shutil.which("git") is None:
        return []
    command = ["git", "ls-files", "-z", "--deleted", "--", *job.reported]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    files = [name for name in listed.stdout.split("\0") if name]
    if files:
        subprocess.run(["git", "checkout-index", "--force", "--", *files], capture_output=True, check=False)
    return [name for name in files if Path(name).exists()]


def checkpoint_folder() -> Path:
    """The folder of all trainings: absolute, and that of the project itself where this is one of DVC's temporary
    copies of it (<project>/.dvc/tmp/exps/…), so that `dvc exp run --temp` and queued runs find what is finished."""
    given = os.environ.get("POSEDISTILL_CHECKPOINTS")
    if given:
        return Path(given).resolve()
    here = Path.cwd()
    project, inside, _ = str(here).partition(f"{os.sep}.dvc{os.sep}tmp{os.sep}exps{os.sep}")
    return Path(project if inside else here) / ".checkpoints"


def prepare_environment(runtime: str) -> None:
    """What the kernel inherits: this tree's code and root, one thread a library, and a folder for its sockets."""
    root = Path.cwd()
    os.environ["POSEDISTILL_ROOT"] = str(root)
    os.environ["POSEDISTILL_CHECKPOINTS"] = str(checkpoint_folder())
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    # The number of threads changes results in the last bits; runtime.threads sets torch's.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one in the home folder
    os.environ["JUPYTER_RUNTIME_DIR"] = runtime  # short: a socket's path has at most 107 characters


def run(stage: str) -> int:
    """Run one stage and return the exit code: 0, or 1 where a cell failed."""
    job = read_job(stage)
    running = checkpoint_folder() / "running" / f"{os.getpid()}-{job.report.name}"
    failed = checkpoint_folder() / "failed" / job.report.name
    finished = False
    try:
        settings = checked_settings(stage)
        finished = execute(job, settings, running, failed)
        return 0 if finished else 1
    finally:
        if not finished:
            if running.exists():
                failed.parent.mkdir(parents=True, exist_ok=True)
                running.replace(failed)
            put_back(job)


def _stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the notebook of one pipeline stage and write its report.")
    parser.add_argument("stage", help="a stage of dvc.yaml, such as stage1 or evaluate@stage1")
    stage = parser.parse_args(arguments).stage
    signal.signal(signal.SIGTERM, _stop)  # as Ctrl-C: the kernel ends, the committed report comes back
    if "DVC_STAGE" in os.environ:  # started by dvc: what it leaves when it is killed would train beside the next run
        end_with_parent()
    try:
        with tempfile.TemporaryDirectory(prefix="kernel-") as runtime:
            prepare_environment(runtime)
            return run(stage)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, or a folder that nobody may write to, met outside of the notebook
        print(f"{stage}: cannot write {error.filename or 'its files'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{stage}: interrupted; the next run continues from the last checkpoint", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
