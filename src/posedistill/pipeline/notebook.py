"""Execute a notebook in a fresh kernel and write it as a report: identical runs give identical files."""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError
from posedistill.files import write_atomic
from posedistill.parallel import limit_spinning
from posedistill.progress import on_terminal

VOLATILE = ("papermill", "execution", "ExecuteTime")  # metadata of notebook and cells that holds times and paths
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
OWN_FRAME = re.compile(r"(src/posedistill/\S+?\.py)[^\n]*?(?:, line |:)(\d+)")
LONGEST_TEMPORARY = 60  # characters; it holds sockets, whose paths may have 103


class CellFailed(Exception):
    """A cell failed other than by bad input; the text is one line naming the cell, error and place."""


def exit_status(work: Callable[[], None], name: str, after: str) -> int:
    """Do `work` and return the status for the shell. A fault is one line on standard error; `after` says how to go on
    after an interruption."""
    try:
        work()
        return 0
    except CellFailed as error:
        line, status = str(error), 1
    except UserError as error:
        line, status = str(error), 2
    except OSError as error:  # a full disk, or a folder without write permission
        line, status = f"{name}: cannot write {error.filename or 'its files'}: {error.strerror or error}", 2
    except KeyboardInterrupt:
        line, status = f"{name}: interrupted; {after}", 130
    print(line, file=sys.stderr)
    return status


def make_report(name: str) -> Path:
    """Run notebooks/<name>.ipynb outside the pipeline and write reports/<name>.ipynb."""
    report = Path("reports") / f"{name}.ipynb"
    with kernel_environment():
        execute(Path("notebooks") / report.name, report, {})
    return report


def execute(notebook: Path, report: Path, parameters: Mapping[str, Any]) -> None:
    """Run `notebook` with `parameters` inside `kernel_environment`, streaming what it prints, and write `report`.

    If a cell fails, the report is left unchanged and the executed part is kept in the checkpoint folder. Raises
    UserError for bad input and CellFailed for anything else.
    """
    # Imported late: they take two seconds, and bad settings should fail at once.
    import logging

    import nbformat
    import papermill
    from traitlets.config import Config

    logging.getLogger("papermill").setLevel(logging.ERROR)
    source = nbformat.read(notebook, as_version=4)
    if not any("parameters" in cell.metadata.get("tags", []) for cell in source.cells):
        raise UserError(f"{notebook}: no cell has the tag parameters, which receives the settings")
    running = project.checkpoints() / "running" / f"{os.getpid()}-{report.name}"
    failed = project.checkpoints() / "failed" / report.name
    config = {
        # Sockets in a private folder instead of ports: parallel runs never collide.
        "KernelManager": {"transport": "ipc", "ip": f"{os.environ['JUPYTER_RUNTIME_DIR']}/k"},
        # Silences a kernel's complaints about its sockets when it is interrupted.
        "NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=CRITICAL"]},
    }
    finished = False
    running.parent.mkdir(parents=True, exist_ok=True)
    try:
        executed = papermill.execute_notebook(
            str(notebook),
            str(running),
            parameters=dict(parameters),
            kernel_name="python3",
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            cwd=str(Path.cwd()),
            config=Config(config),
        )
        write_atomic(report, nbformat.writes(clean(executed)) + "\n")
        finished = True
    except papermill.PapermillExecutionError as error:
        line = _failure_line(notebook, error, failed)
        raise (UserError if error.ename == "UserError" else CellFailed)(line) from error
    except RuntimeError as error:  # of nbclient: the kernel died, or did not answer
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CellFailed(
            f"{notebook}: its Python process ended or does not answer ({first}); often it ran out of memory, then "
            f"runtime.micro_batch or runtime.workers must be smaller; the report up to there: {failed}"
        ) from error
    finally:
        if finished:
            running.unlink(missing_ok=True)
        elif running.exists():
            failed.parent.mkdir(parents=True, exist_ok=True)
            running.replace(failed)


def clean(notebook: Any) -> Any:
    """Drop whatever differs between identical runs; progress and warnings went to the terminal."""
    for key in VOLATILE:
        notebook.metadata.pop(key, None)
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
            # Timing decides into how many outputs a text is split.
            if kept and kept[-1].output_type == "stream":
                kept[-1]["text"] += output["text"]
                continue
        elif "text/plain" in output.get("data", {}):
            output["data"]["text/plain"] = ADDRESS.sub("", output["data"]["text/plain"])
        kept.append(output)
    return kept


def _failure_line(notebook: Path, error: Any, failed: Path) -> str:
    """One line on a failed cell: the UserError's message, otherwise the cell, error and place in the code."""
    message = COLOUR.sub("", str(error.evalue)).strip()
    if error.ename == "UserError":
        return message
    places = OWN_FRAME.findall(COLOUR.sub("", "\n".join(error.traceback)))
    place = f" ({places[-1][0]}, line {places[-1][1]})" if places else ""
    first = message.splitlines()[0] if message else ""
    return f"{notebook}, cell {error.exec_count}: {error.ename}: {first}{place}; the report up to there: {failed}"


@contextmanager
def kernel_environment() -> Iterator[None]:
    """Set what a kernel inherits: this tree's code and root, one thread per library, a short folder for sockets."""
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=_short_folder()) as folder:
        if len(tempfile.gettempdir()) > LONGEST_TEMPORARY:
            os.environ["TMPDIR"] = folder  # worker processes have sockets there, too
        os.environ["JUPYTER_RUNTIME_DIR"] = folder
        os.environ["POSEDISTILL_ROOT"] = str(Path.cwd())
        os.environ["POSEDISTILL_CHECKPOINTS"] = str(project.checkpoints())
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        # The number of threads changes results in the last bits; runtime.threads sets torch's.
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = "1"
        limit_spinning()
        os.environ["PYTHONHASHSEED"] = "0"
        os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one in the home folder
        os.environ["POSEDISTILL_PROGRESS"] = "terminal" if on_terminal() else "lines"
        yield


def _short_folder() -> str:
    """The folder for temporary files, or a common one if its path is too long for sockets."""
    given = tempfile.gettempdir()
    usual = [folder for folder in ("/tmp", "/var/tmp", "/dev/shm") if os.access(folder, os.W_OK)]
    return next((folder for folder in (given, *usual) if len(folder) <= LONGEST_TEMPORARY), given)
