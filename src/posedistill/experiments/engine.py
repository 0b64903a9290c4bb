"""Runs as experiments of DVC: its queue holds them, its workers run them, its run cache shares their stages.

A run that finished with the present settings, code and data is reused; any other is replaced. Its key stands in the
message of the experiment's commit.
"""

import contextlib
import hashlib
import io
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.experiments.plan import Plan, Run, override
from posedistill.pipeline.provenance import locked_settings, locked_stages
from posedistill.progress import progress

POLL = 1.0  # seconds
PATIENCE = 30.0  # seconds for a worker to start or to stop
MANIFEST = "code"  # a stage that reads all code; the others depend on single files that it writes


@contextlib.contextmanager
def opened() -> Iterator[Any]:
    """DVC's repository of the working folder; DVC's errors become UserErrors."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import NoSCMError, SCMError

    # DVC starts its workers as `dvc`: the one of this environment, whatever PATH says.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    try:
        with Repo(".") as repo:
            if repo.config["core"].get("no_scm") or repo.scm.no_commits:
                raise UserError("experiments are kept in git: they need a repository with at least one commit")
            yield repo
    except (DvcException, NoSCMError, SCMError) as error:
        raise UserError(f"DVC: {' '.join(str(error).split())}") from error


def check_fresh(repo: Any, plan: Plan) -> None:
    """UserError if the pipeline is not up to date: runs start from its results and are compared with them."""
    targets = sorted({target for run in plan.runs for target in run.targets})
    status = repo.status(targets=targets, with_deps=True)
    stale = [stage for stage, why in status.items() if any(one != "always changed" for one in why)]
    if stale:
        raise UserError(f"not up to date: {', '.join(sorted(stale))}; run `make repro` first")


def keys(repo: Any, plan: Plan) -> dict[str, str]:
    """Run → hash of what decides its result: commands, settings (with the run's changes), code and raw data of the
    stages up to its targets, as dvc.lock records them."""
    locked = locked_stages()

    def key(run: Run) -> str:
        collected = (repo.stage.collect(target, with_deps=True) for target in run.targets)
        stages = {stage.addressing for stage in itertools.chain(*collected)} & locked.keys() - {MANIFEST}
        made = {out["path"] for name in stages for out in locked[name].get("outs", [])}
        recorded = {
            name: [
                locked[name]["cmd"],
                {dep["path"]: dep.get("md5") for dep in locked[name].get("deps", []) if dep["path"] not in made},
                changed(locked_settings(locked, name), run.changes),
            ]
            for name in stages
        }
        content = json.dumps([recorded, run.targets], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    return {run.name: key(run) for run in plan.runs}


def changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` of a stage (sections or leaves), with those of `changes` (leaves) that it reads replaced."""
    result = dict(settings)
    for name, value in changes.items():
        section, _, leaf = name.partition(".")
        if name in result:
            result[name] = value
        elif section in result:
            result[section] = {**result[section], leaf: value}
    return result


def finished(repo: Any, plan: Plan) -> dict[str, str]:
    """Run → revision of its experiment, for runs that finished and whose key is still the same."""
    wanted = keys(repo, plan)
    return {
        name: revision
        for name, revision, _ in experiments(repo)
        if name in wanted and wanted[name] in repo.scm.resolve_commit(revision).message
    }


def experiments(repo: Any) -> list[tuple[str, str, str]]:
    """(name, revision, git reference) of all finished experiments, including the user's own."""
    from dvc.repo.experiments.utils import exp_refs

    return [(ref.name, repo.scm.get_ref(str(ref)), str(ref)) for ref in exp_refs(repo.scm)]


def run_all(repo: Any, plan: Plan, jobs: int) -> None:
    """Run what is missing of the plan, `jobs` side by side. UserError with a line for each run that failed.

    An interruption stops what runs; the same call later continues from what is finished.
    """
    while True:
        done = finished(repo, plan)
        ready = [run for run in plan.runs if run.name not in done and set(run.after) <= done.keys()]
        if not ready:
            return
        names = [run.name for run in ready]
        try:
            _stop(repo, names)  # of an earlier call that was killed
            _forget(repo, names)
            _queue(repo, plan, ready)
            _wait(repo, plan, names, jobs)
        except BaseException:
            _stop(repo, names)
            raise


def _queue(repo: Any, plan: Plan, runs: Sequence[Run]) -> None:
    wanted = keys(repo, plan)
    for run in progress(runs, desc=f"{plan.name}: queueing", unit="experiments"):
        params = [f"{name}={override(value)}" for name, value in run.changes.items()]
        with _quiet():
            repo.experiments.run(
                targets=list(run.targets),
                params=params,
                name=run.name,
                queue=True,
                message=f"{plan.name}: {run.name} [{wanted[run.name]}]",
            )


def _wait(repo: Any, plan: Plan, names: Sequence[str], jobs: int) -> None:
    """Follow the queue until all of `names` have ended; start workers while runs wait."""
    queue = repo.experiments.celery_queue
    pending, started, idle = set(names), float("-inf"), 0
    complete = time.monotonic()  # when each running experiment last had a worker
    with progress(desc=plan.name, unit="experiments", total=len(names)) as bar:
        while pending:
            # In this order: an experiment that starts in between is in both sets, never in neither.
            waiting = pending & {entry.name for entry in queue.iter_queued()}
            active = pending & {entry.name for entry in queue.iter_active()}
            through = pending - waiting - active
            if through:
                repo.scm.close()  # references were written by other processes
                failed = through - finished(repo, plan).keys()
                if failed:
                    raise UserError("\n".join(f"{name}: failed; its log: dvc queue logs {name}" for name in failed))
                pending -= through
                idle = 0
                bar.update(len(through))
            alive = _workers(queue)
            running = ", ".join(sorted(active))
            if len(active) <= alive:
                complete = time.monotonic()
            elif time.monotonic() - complete > PATIENCE:
                raise UserError(f"one of DVC's workers died while it ran {running}; the same command continues")
            if waiting and alive < min(jobs, len(waiting)) and time.monotonic() - started > PATIENCE:
                idle += not alive
                if idle > 3:
                    raise UserError(f"DVC's workers end at once; their logs: {queue.wdir}/*.out")
                with _quiet():
                    queue.start_workers(jobs)
                started = time.monotonic()
            bar.set_postfix_str(running)
            time.sleep(POLL)


def _workers(queue: Any) -> int:
    """Number of DVC's workers that are alive."""
    alive = 0
    for path in Path(queue.wdir).glob("dvc-exp-worker-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            info = json.loads(path.read_text())
            if info["returncode"] is None:
                os.kill(info["pid"], 0)
                alive += 1
    return alive


def _stop(repo: Any, names: Sequence[str]) -> None:
    """Take `names` out of the queue and interrupt those that run; their trainings keep their checkpoints."""
    queue = repo.experiments.celery_queue
    for name in {entry.name for entry in queue.iter_queued()} & set(names):
        with _quiet():
            queue.remove([name])
    began = time.monotonic()
    while active := {entry.name for entry in queue.iter_active()} & set(names):
        with _quiet(), contextlib.suppress(Exception):  # it may have ended by itself
            queue.kill(active, force=time.monotonic() - began > PATIENCE)
        if time.monotonic() - began > 2 * PATIENCE:
            raise UserError(f"still running: {', '.join(sorted(active))}; end them with  dvc queue kill --force")
        time.sleep(2 * POLL)


def _forget(repo: Any, names: Sequence[str]) -> None:
    """Remove finished and failed experiments of these names, before they are queued again."""
    queue = repo.experiments.celery_queue
    done = {item.entry.name for item in queue.iter_done()} & set(names)
    if done:
        with _quiet():
            queue.remove(sorted(done))
    for name, revision, reference in experiments(repo):
        if name in names:
            repo.scm.remove_ref(reference, revision)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what DVC prints."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
