"""A GPU in N minutes: speed and memory of the steps, the loader beside them, evaluation, and a training that is judged.

Each part runs in a separate process with a share of the time; time it does not use goes to the parts after it. A part
that hangs is stopped, a failure is recorded, and the others still run. Figures are written as they come, so an aborted
run keeps them; what was not measured is listed with the reason.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from posedistill import project
from posedistill.benchmark.figures import Figures
from posedistill.errors import UserError, shorten
from posedistill.files import refuse_overwrite, writable_folder
from posedistill.reporting.tables import aligned

MINUTES = 8.0
MARGIN = 6.0  # seconds of the whole that no part gets: starting, stopping, printing
LEAST = 2.0  # seconds below which a part is not started
GRACE = 2.0  # seconds between asking a process to end and killing it


@dataclass(frozen=True)
class Part:
    """A part of the run. seconds: its share of the time, as a share of all parts' seconds; on an H100 also about what
    it takes. rows: what it measures, by the beginning of each row's name. needs: parts without which it cannot run."""

    name: str
    seconds: float
    rows: tuple[str, ...]
    needs: tuple[str, ...] = ()


CARD = Part("card", 60, ("matrix product",))
DATA = Part("data", 60, ("rendering and preparing",))
PARITY = Part("parity", 25, ("bfloat16 step",), ("data",))  # of the models that were trained, where they were
FIGURES = (
    Part(
        "stage 1 x to l",
        120,
        ("stage 1, x to l, micro-batch 256", "stage 1, x to l, micro-batch 512", "stage 1, x to l, micro-batch 64"),
    ),
    Part(
        "stage 1 x to l, started again",
        45,
        ("stage 1, x to l, started again", "stage 1, x to l, with the loader"),
        ("data",),
    ),
    Part("stage 1 l to t", 30, ("stage 1, l to t",)),
    Part("stage 2 l", 30, ("stage 2, l",)),
    Part("loader", 25, ("loader alone, long epochs", "loader alone, short epochs"), ("data",)),
    Part("epochs", 30, ("start of a training", "lost at an epoch's end"), ("data",)),
    Part("evaluation", 25, ("evaluation with flip test, l",), ("data",)),
)
TRAINING = (
    Part("training", 170, ("teacher", "baseline", "stage1", "stage2"), ("data",)),
    Part("judgement", 45, ("gain of stage 1 over the baseline", "gain of stage 1 + 2 over the baseline"), ("data",)),
)
# The recipe alone has time for more pictures and longer trainings.
ALONE = (Part("data", 85, DATA.rows), Part("training", 320, TRAINING[0].rows, ("data",)), TRAINING[1])
# What --small measures in place of the large models.
SMALL = {
    "x to l": "nw to n",
    "l to t": "nw to n",
    "stage 2, l": "stage 2, n",
    "flip test, l": "flip test, n",
    "bfloat16 step": "float32 step",
    "batch 256": "batch 4",
    "batch 512": "batch 8",
    "batch 64": "batch 2",
}
TRAIN, JUDGE = TRAINING
PLANS = {
    "all": (CARD, DATA, *FIGURES, TRAIN, PARITY, JUDGE),
    "figures": (CARD, DATA, *FIGURES, PARITY),
    "training": (CARD, *ALONE),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark gpu`."""
    parser.description = __doc__
    parser.add_argument("--minutes", type=float, default=MINUTES, help="the run ends within them (default %(default)g)")
    parser.add_argument(
        "--only", choices=("figures", "training"), help="the speeds alone, or the recipe gpu-short alone"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks"), help="folder of the figures (%(default)s)")
    parser.add_argument(
        "--report", type=Path, default=Path("reports/gpu"), help="of the training's report (%(default)s)"
    )
    parser.add_argument(
        "--work", type=Path, help="folder of data and checkpoints, kept, to continue from; default: none"
    )
    parser.add_argument("--small", action="store_true", help="in miniature, on the CPU too: to test this program")
    parser.add_argument("--elapsed", type=float, default=0.0, help=argparse.SUPPRESS)  # seconds that gpu.sh has spent


def run(args: argparse.Namespace) -> int:
    """Run all parts and write gpu-figures-<card>.csv and the report of the training."""
    end = time.monotonic() + 60 * args.minutes - args.elapsed - MARGIN
    if not 0 < args.minutes <= 24 * 60:
        raise UserError(f"--minutes: found {args.minutes:g}, allowed: above 0, up to 1440")
    root = project.root()
    output, report = writable_folder(args.output).resolve(), args.report.resolve()
    refuse_overwrite([output / "gpu-figures.csv", report / "README.md"], root / "params.yaml", root / "recipes")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # runs the cleanup, which ends the child processes
    with _work_folder(args.work) as work:

        def command(part: Part, figures: Figures, seconds: float) -> list[str]:
            given = ["--work", str(work), "--figures", str(figures.path), "--report", str(report)]
            given += ["--seconds", f"{seconds:.1f}", "--launched", f"{time.time():.3f}"]
            given += ["--small"] * args.small + ["--whole-recipe"] * (args.only == "training")
            return [sys.executable, "-m", "posedistill.benchmark.gpu_parts", part.name, *given]

        first, *parts = map(_in_miniature, PLANS[args.only or "all"]) if args.small else PLANS[args.only or "all"]
        draft = Figures(output / "gpu-figures.csv")
        draft.start()
        failed = run_parts([first], command, draft, end, total=sum(part.seconds for part in (first, *parts)))
        if failed:
            draft.path.unlink(missing_ok=True)
            raise UserError(f"benchmark gpu: {failed[first.name]}")
        figures = Figures(output / f"gpu-figures-{json.loads((work / 'card.json').read_text())['name']}.csv")
        ours = {part.name for part in (first, *parts)}
        figures.start([*(row for row in figures.rows() if row["part"] not in ours), *draft.rows()])
        draft.path.unlink()
        failed = run_parts(parts, command, figures, end)
    _print(figures)
    print(f"written to {figures.path}" + (f" and {report}" if (report / "README.md").is_file() else ""))
    return 1 if failed else 0


def _in_miniature(part: Part) -> Part:
    """The part with the names of the rows that --small measures."""

    def renamed(row: str) -> str:
        for large, small in SMALL.items():
            row = row.replace(large, small)
        return row

    return replace(part, rows=tuple(map(renamed, part.rows)))


@contextlib.contextmanager
def _work_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield writable_folder(given).resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="posedistill-gpu-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


Command = Callable[[Part, Figures, float], list[str]]


def run_parts(
    parts: Sequence[Part], command: Command, figures: Figures, end: float, total: float | None = None
) -> dict[str, str]:
    """Run `parts` one after the other until the time `end` (monotonic) at the latest; name → what went wrong.

    command(part, figures, seconds): its command line. total: the seconds of all parts that share the time, if others
    come after these. Every row that a part should have measured and did not is entered with the reason.
    """
    failed: dict[str, str] = {}
    shares = sum(part.seconds for part in parts) if total is None else total
    for part in parts:
        left = end - time.monotonic()
        seconds = left * part.seconds / shares
        shares -= part.seconds
        missing = [name for name in part.needs if name in failed]
        if missing:
            problem: str | None = f"needs the part {missing[0]}, which failed"
        elif seconds < LEAST:
            problem = f"no time was left ({max(0.0, seconds):.1f} s)"
        else:
            problem = run_part(part.name, command(part, figures, seconds), seconds)
        if problem:
            print(f"{part.name}: {problem}", file=sys.stderr, flush=True)
        found = [row["what"] for row in figures.rows() if row["part"] == part.name]
        absent = [what for what in part.rows if not any(name.startswith(what) for name in found)]
        for what in absent:
            figures.add(part.name, what, note=f"not reached: {problem or 'the part measured nothing'}")
        if absent:  # a part with all its figures counts as done
            failed[part.name] = problem or "the part measured nothing"
    return failed


def run_part(name: str, command: list[str], seconds: float) -> str | None:
    """Run a command for at most `seconds`; None if it ended well, else what went wrong, in one line.

    Its processes form a separate group, which is ended as a whole; its output goes to standard error.
    """
    start = time.monotonic()
    print(f"-- {name}: up to {seconds:.0f} s", file=sys.stderr, flush=True)
    # In a new session, Ctrl-C does not reach the children by accident, and the whole group can be ended at once.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    lines: list[str] = []
    reader = threading.Thread(target=_pass_on, args=(process, lines), daemon=True)
    reader.start()
    try:
        process.wait(max(0.1, seconds - GRACE))
    except subprocess.TimeoutExpired:
        return f"stopped after {time.monotonic() - start:.0f} s, its share of the time"
    finally:
        _end_group(process)
        reader.join(1.0)
    if process.returncode:
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"ended with {process.returncode}: {shorten(last)}"
    return None


def _pass_on(process: subprocess.Popen, lines: list[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        text = line.decode("utf-8", "replace")
        lines[:] = [*lines[-20:], text]
        sys.stderr.write(text)
        sys.stderr.flush()


def _end_group(process: subprocess.Popen) -> None:
    """End the process and its children: SIGTERM first, then SIGKILL. Never waits long: a process that hangs in the
    driver cannot be killed, and is left behind."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE if number == signal.SIGTERM else 1.0)


def _print(figures: Figures) -> None:
    """The rows as an aligned table on standard output."""
    names = ("what", "value", "unit", "bar", "met", "note")
    print(aligned([names, *([row[name] for name in names] for row in figures.rows())]))
