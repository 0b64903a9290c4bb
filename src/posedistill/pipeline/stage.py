"""Run one stage of dvc.yaml: execute its notebook with the settings that the stage lists, and write its report.

A failing cell prints one line; committed reports that DVC removed before the run are restored from git.
"""

import argparse
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError
from posedistill.params import from_settings, load_params
from posedistill.parent import end_with_parent
from posedistill.pipeline.notebook import execute, exit_status, kernel_environment
from posedistill.stages import read_stage, stage_settings


@dataclass(frozen=True)
class Job:
    """One stage: its notebook, report, parameters and reported outputs."""

    notebook: Path
    report: Path
    parameters: dict[str, Any]  # besides its settings: {"model": "stage1"} for evaluate@stage1
    reported: tuple[str, ...]  # all outputs that git keeps, not DVC's cache


def read_job(stage: str) -> Job:
    """Read a stage from dvc.yaml (evaluate@stage1 for an item of a `foreach`). UserError if it has no such stage."""
    entry = read_stage(stage)
    notebooks = [dep for dep in entry.get("deps", []) if dep.endswith(".ipynb")]
    uncached = [
        out
        for kind in ("outs", "plots", "metrics")
        for one in entry.get(kind, [])
        if isinstance(one, dict)
        for out, options in one.items()
        if options.get("cache") is False
    ]
    reports = [out for out in uncached if out.endswith(".ipynb")]
    if len(notebooks) != 1 or len(reports) != 1:
        raise UserError(f"dvc.yaml: stage {stage} needs one notebook among its deps and one report among its plots")
    _, _, model = stage.partition("@")
    return Job(Path(notebooks[0]), Path(reports[0]), {"model": model} if model else {}, tuple(uncached))


def checked_settings(stage: str) -> dict[str, Any]:
    """The settings that the stage lists. All of params.yaml is checked, so that bad settings of a later stage fail
    before the first one trains."""
    if extra := load_params("params.yaml").loss.dump()["extra"]:  # not recorded as a read of this stage
        from posedistill.training.stage1 import check_extra  # PyTorch takes a second

        check_extra(extra)
    settings = stage_settings(stage, Path.cwd())
    from_settings(settings, stage)
    return settings


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


def run(stage: str) -> None:
    """Run one stage. Raises UserError for bad input, CellFailed where a cell fails for another reason."""
    project.enter()
    job = read_job(stage)
    try:
        with kernel_environment():
            execute(job.notebook, job.report, {"settings": checked_settings(stage), **job.parameters})
    except BaseException:
        put_back(job)
        raise


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the notebook of one pipeline stage and write its report.")
    parser.add_argument("stage", help="a stage of dvc.yaml, such as stage1 or evaluate@stage1")
    stage = parser.parse_args(arguments).stage
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the kernel, restores the report
    if "DVC_STAGE" in os.environ:  # if dvc is killed, its stage must not keep training beside the next run
        end_with_parent()
    return exit_status(lambda: run(stage), stage, "the next run continues from the last checkpoint")
