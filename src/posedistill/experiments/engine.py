"""Runs as experiments of DVC: its queue holds them, its workers run them, its run cache shares their stages.

A run that is finished with the present settings, code and data is used as it is; any other is replaced. The message of
an experiment's commit carries the key by which this is told.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.experiments.plan import Plan, Run, override
from posedistill.progress import progress

POLL = 1.0  # seconds
PATIENCE = 30.0  # seconds until a worker that was started must be there, or one that was stopped be gone
MANIFEST = "code"  # the stage whose outputs the others depend on one by one: what it reads itself does not matter


@contextlib.contextmanager
def opened() -> Iterator[Any]:
    """DVC's repository of the working folder. UserError for what DVC has to say against it."""
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
    """UserError where the pipeline has not run with the present settings, code and data: runs start from its results,
    and are compared with them."""
    targets = sorted({target for run in plan.runs for target in run.targets})
    status = repo.status(targets=targets, with_deps=True)
    stale = [stage for stage, why in status.items() if any(one != "always changed" for one in why)]
    if stale:
        raise UserError(f"not up to date: {', '.join(sorted(stale))}; run `make repro` first")


def keys(repo: Any, plan: Plan) -> dict[str, str]:
    """Run → hash of what decides its result: what dvc.lock says of the pipeline's commands, settings and inputs, and
    the changes of the run."""
    from dvc.utils.serialize import load_yaml

    targets = {target for run in plan.runs for target in run.targets}
    stages = {stage.addressing for target in targets for stage in repo.stage.collect(target, with_deps=True)}
    locked = load_yaml("dvc.lock").get("stages", {}) if Path("dvc.lock").is_file() else {}
    recorded = {
        name: [
            locked[name]["cmd"],
            {dep["path"]: dep.get("md5") for dep in locked[name].get("deps", [])},
            locked[name].get("params"),
        ]
        for name in sorted(stages - {MANIFEST})
        if name in locked
    }

    def key(run: Run) -> str:
        content = json.dumps([recorded, dict(run.changes), run.targets], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    return {run.name: key(run) for run in plan.runs}


def finished(repo: Any, plan: Plan) -> dict[str, str]:
    """Run → revision of its experiment, of those that are finished and were made as they would be now."""
    wanted = keys(repo, plan)
    return {
        name: revision
        for name, revision, _ in experiments(repo)
        if name in wanted and wanted[name] in repo.scm.resolve_commit(revision).message
    }


def experiments(repo: Any) -> list[tuple[str, str, str]]:
    """(name, revision, git reference) of all finished experiments, those of the user, too."""
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
    """Follow the queue until all of `names` are through, with workers as long as there is work for them."""
    queue = repo.experiments.celery_queue
    pending, started, idle = set(names), float("-inf"), 0
    with progress(desc=plan.name, unit="experiments", total=len(names)) as bar:
        while pending:
            # First what waits, then what runs: an experiment that starts meanwhile is in both, never in none.
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
            if time.monotonic() - started > PATIENCE:
                if active and not alive:
                    raise UserError("\n".join(f"{name}: DVC's worker died; run it again" for name in sorted(active)))
                if waiting and alive < min(jobs, len(waiting)):
                    idle += not alive
                    if idle > 3:
                        raise UserError(f"DVC's workers end at once; their logs: {queue.wdir}/*.out")
                    with _quiet():
                        queue.start_workers(jobs)
                    started = time.monotonic()
            bar.set_postfix_str(", ".join(sorted(active)))
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
        with _quiet(), contextlib.suppress(Exception):  # what has ended meanwhile cannot be ended
            queue.kill(active, force=time.monotonic() - began > PATIENCE)
        if time.monotonic() - began > 2 * PATIENCE:
            raise UserError(f"still running: {', '.join(sorted(active))}; end them with  dvc queue kill --force")
        time.sleep(2 * POLL)


def _forget(repo: Any, names: Sequence[str]) -> None:
    """Remove finished and failed experiments of these names: others take their place."""
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
    """Without what DVC prints for those who type its commands."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
