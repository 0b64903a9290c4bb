"""Experiments in DVC's own queue, on a project of two stages that run at once."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mini_project
import pytest

from posedistill.errors import UserError
from posedistill.experiments import engine, results, table
from posedistill.experiments.plan import Plan, Run


def plan(**alphas: float) -> Plan:
    """One run of stage 1 a name."""
    runs = [Run(f"sweep-{name}-seed0", {"loss.alpha": alpha}, ("evaluate@stage1",)) for name, alpha in alphas.items()]
    pairs = {"b − a": ("b", "a")} if {"a", "b"} <= alphas.keys() else {}
    return Plan("sweep", runs, tuple(alphas), pairs, lambda name, seed: (f"sweep-{name}-seed{seed}", "stage1"), (0,))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiments") / "project"
    mini_project.make(folder)
    return folder


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("POSEDISTILL_ROOT", str(made))
    monkeypatch.setattr(engine, "POLL", 0.2)
    monkeypatch.setattr(engine, "PATIENCE", 60.0)
    return made


def run_all(wanted: Plan, jobs: int = 2) -> dict[str, str]:
    with engine.opened() as repo:
        engine.check_fresh(repo, wanted)
        engine.run_all(repo, wanted, jobs)
        return engine.finished(repo, wanted)


def left(name: str) -> bool:
    """Whether an experiment still waits or runs."""
    with engine.opened() as repo:
        queue = repo.experiments.celery_queue
        return name in {entry.name for entry in (*queue.iter_queued(), *queue.iter_active())}


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_experiments_run_once_and_leave_the_workspace_alone(project, monkeypatch):
    wanted = plan(a=0.02, b=0.05)
    revisions = run_all(wanted)
    assert set(revisions) == {"sweep-a-seed0", "sweep-b-seed0"}
    assert git(project, "status", "--porcelain") == ""
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "list", "--name-only"], capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.split()) == set(revisions)

    monkeypatch.setattr(engine, "_queue", None)  # nothing is queued again
    assert run_all(wanted) == revisions

    found = results.gather(wanted, revisions, samples=50, bootstrap_seed=0)
    assert found["models"]["b"]["0"]["AP"]["body"] == pytest.approx(0.35)
    mean, low, high = found["differences"]["b − a"]["pooled"]["wholebody"]
    assert low <= mean <= high and mean == pytest.approx(0.03)

    mixed = replace(wanted, models=("a", "m"), pairs={"m − a": ("m", "a")}, between={"m": ("a", "b", 0.25)})
    found = results.gather(mixed, revisions, samples=50, bootstrap_seed=0)
    assert found["models"]["m"]["0"]["AP"]["body"] == pytest.approx(0.3 + 0.75 * 0.02 + 0.25 * 0.05)
    assert found["differences"]["m − a"]["pooled"]["wholebody"][0] == pytest.approx(0.25 * 0.03)
    assert found["persons"] == 20

    lines = table.experiments_table().splitlines()
    assert lines[1].split() == ["this", "workspace", "31.0", "31.0", "–", "–"]
    assert lines[2].split() == ["sweep-a-seed0", "loss.alpha", "0.02", "32.0", "32.0", "–", "–"]


def test_the_report_reads_through_dvc_or_says_that_it_cannot(project, monkeypatch):
    monkeypatch.setitem(results.PLANS, "sweep", lambda settings, seeds=(0,): plan(a=0.02, b=0.05))
    run_all(plan(a=0.02, b=0.05))
    found, note = results.read_results("sweep")
    assert note == "" and found["seeds"] == [0]
    written = json.loads((project / "reports/metrics/sweep.json").read_text())
    assert written == found | {"models": written["models"], "differences": written["differences"]}

    monkeypatch.setitem(results.PLANS, "sweep", lambda settings, seeds=(0,): plan(a=0.02, b=0.06))  # b is not at hand
    found, note = results.read_results("sweep")
    assert found == written and "committed results" in note and "make sweep" in note and "\n" not in note
    (project / "reports/metrics/sweep.json").unlink()
    assert results.read_results("sweep") == (results.NOTHING, "There are no results yet: `make sweep` makes them.")


def test_other_settings_or_code_need_other_runs(project):
    wanted = plan(c=0.03)
    with engine.opened() as repo:
        before = engine.keys(repo, wanted)
        assert engine.keys(repo, plan(c=0.04)) != before
    text = (project / "params.yaml").read_text()
    try:
        (project / "params.yaml").write_text(text.replace("seed: 0", "seed: 1"))
        with engine.opened() as repo, pytest.raises(UserError, match=r"not up to date: stage1; run `make repro` first"):
            engine.check_fresh(repo, wanted)
        subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
        with engine.opened() as repo:
            assert engine.keys(repo, wanted) != before
    finally:
        git(project, "restore", ".")
        subprocess.run([sys.executable, "-m", "dvc", "checkout", "--quiet", "--force"], check=True)


def test_a_setting_that_a_run_replaces_needs_no_other_run(project):
    wanted = plan(c=0.03)
    with engine.opened() as repo:
        before = engine.keys(repo, wanted)
    text = (project / "params.yaml").read_text()
    try:
        (project / "params.yaml").write_text(text.replace("alpha: 0.01", "alpha: 0.011"))
        subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
        with engine.opened() as repo:
            assert engine.keys(repo, wanted) == before
    finally:
        git(project, "restore", ".")
        subprocess.run([sys.executable, "-m", "dvc", "checkout", "--quiet", "--force"], check=True)


def test_changes_replace_leaves_and_parts_of_sections():
    settings = {"loss.alpha": 1, "stage2": {"init": "stage1", "seed": 0}, "train": {"batch": 4}}
    found = engine.changed(settings, {"loss.alpha": 2, "stage2.seed": 3, "student.seed": 3})
    assert found == {"loss.alpha": 2, "stage2": {"init": "stage1", "seed": 3}, "train": {"batch": 4}}


def test_a_run_that_fails_is_a_line_with_its_log(project):
    with pytest.raises(UserError) as error:
        run_all(plan(bad=-1.0))
    assert str(error.value) == "sweep-bad-seed0: failed; its log: dvc queue logs sweep-bad-seed0"
    log = subprocess.run(
        [sys.executable, "-m", "dvc", "queue", "logs", "sweep-bad-seed0"], capture_output=True, text=True
    )
    assert "alpha is negative" in log.stdout


def test_an_interruption_stops_what_runs_and_what_waits(project, monkeypatch):
    marker, sleep = project.parent / "trains", engine.time.sleep

    def sleep_until_it_trains(seconds: float) -> None:
        sleep(seconds)
        if marker.exists():
            marker.unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(engine.time, "sleep", sleep_until_it_trains)
    with pytest.raises(KeyboardInterrupt):
        run_all(plan(long=200.0, later=300.0), jobs=1)
    assert not left("sweep-long-seed0") and not left("sweep-later-seed0")
    assert git(project, "status", "--porcelain") == ""


def test_a_worker_that_died_ends_the_wait(project, monkeypatch):
    marker = project.parent / "trains"
    workers = engine._workers
    monkeypatch.setattr(engine, "PATIENCE", 3.0)
    monkeypatch.setattr(engine, "_workers", lambda queue: 0 if marker.exists() else workers(queue))
    with pytest.raises(UserError, match="one of DVC's workers died while it ran sweep-lost-seed0"):
        run_all(plan(lost=400.0), jobs=1)
    assert not left("sweep-lost-seed0")


def test_a_worker_that_died_beside_another_ends_the_wait(project, monkeypatch):
    marker = project.parent / "trains"
    marker.unlink(missing_ok=True)
    workers = engine._workers
    monkeypatch.setattr(engine, "PATIENCE", 3.0)
    monkeypatch.setattr(engine, "_workers", lambda queue: 1 if marker.exists() else workers(queue))
    with pytest.raises(UserError, match="workers died while it ran sweep-one-seed0, sweep-other-seed0"):
        run_all(plan(one=500.0, other=600.0), jobs=2)
    assert not left("sweep-one-seed0") and not left("sweep-other-seed0")


def test_without_git_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], check=True)
    with pytest.raises(UserError, match="experiments are kept in git"), engine.opened():
        pass
