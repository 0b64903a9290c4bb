"""Experiments: workspaces, the order in which they run, and what is gathered from them. No training."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from posedistill.errors import UserError
from posedistill.evaluation.mean_oks import PersonOks
from posedistill.pipeline.evaluation_files import person_oks_file, write_person_oks
from posedistill.pipeline.experiments import __main__ as command
from posedistill.pipeline.experiments import ablation, results, schedule, seeds
from posedistill.pipeline.experiments.schedule import run_all
from posedistill.pipeline.experiments.workspaces import Experiment, Workspace, changed, prepare_workspace

SETTINGS = {"student": {"seed": 0, "epochs": 10}, "loss": {"alpha": 7e-5, "beta": 0.1}}
PARTS = results.PARTS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "prepared").mkdir()
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "models" / "teacher.safetensors").write_bytes(b"teacher")
    return folder


def test_changes_replace_settings_and_nothing_else():
    found = changed(SETTINGS, {"loss.alpha": 0.0})
    assert found["loss"] == {"alpha": 0.0, "beta": 0.1}
    assert SETTINGS["loss"]["alpha"] == 7e-5
    with pytest.raises(UserError, match=r"loss\.alfa: no such setting"):
        changed(SETTINGS, {"loss.alfa": 1})


def test_a_workspace_holds_its_settings_and_the_projects_data(root: Path, tmp_path: Path):
    workspace = Workspace("logit-seed1", {"loss.alpha": 0.0}, ("stage1",), {"teacher": ""})
    folder = prepare_workspace(root, tmp_path / "base", workspace, SETTINGS)
    assert json.loads((folder / "params.yaml").read_text())["loss"]["alpha"] == 0.0
    assert (folder / "prepared").resolve() == (root / "prepared").resolve()
    assert (folder / "models" / "teacher.safetensors").read_bytes() == b"teacher"
    before = (folder / "params.yaml").stat().st_mtime_ns
    (root / "models" / "teacher.safetensors").write_bytes(b"other")
    prepare_workspace(root, tmp_path / "base", workspace, SETTINGS)
    assert (folder / "params.yaml").stat().st_mtime_ns == before
    assert (folder / "models" / "teacher.safetensors").read_bytes() == b"other"


def test_a_missing_model_is_named(root: Path, tmp_path: Path):
    workspace = Workspace("a", {}, ("stage2",), {"stage1": "both-seed0"})
    with pytest.raises(UserError, match=r"stage1\.safetensors: there is no such model"):
        prepare_workspace(root, tmp_path, workspace, SETTINGS)


def test_workspaces_wait_for_those_they_need():
    order: list[str] = []
    lock = threading.Lock()

    def start(workspace: Workspace) -> None:
        with lock:
            order.append(workspace.name)

    late = Workspace("late", {}, ("stage2",), {"stage1": "early"})
    run_all([late, Workspace("early", {}, ("stage1",)), Workspace("other", {}, ("baseline",))], start, 2, "test")
    assert sorted(order) == ["early", "late", "other"]
    assert order.index("early") < order.index("late")


def test_a_failure_stops_what_has_not_begun():
    started: list[str] = []

    def start(workspace: Workspace) -> None:
        started.append(workspace.name)
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        run_all([Workspace(name, {}, ("baseline",)) for name in "abc"], start, 1, "test")
    assert started == ["a"]


def test_those_that_need_each_other_are_an_error():
    pair = [Workspace("a", {}, (), {"m": "b"}), Workspace("b", {}, (), {"m": "a"})]
    with pytest.raises(ValueError, match="need each other: a, b"):
        run_all(pair, lambda _: None, 1, "test")


def test_an_interruption_ends_what_runs(monkeypatch: pytest.MonkeyPatch):
    ended = threading.Event()

    def interrupted(*args: object, **options: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all([Workspace("a", {}, ("baseline",))], lambda _: ended.wait(30) or None, 1, "test", ended.set)
    assert ended.is_set()


def test_a_failed_process_is_one_line_with_its_reason(tmp_path: Path):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text("{}\n")
    with pytest.raises(UserError, match=r"dvc\.yaml has no stage baseline") as error:
        schedule.Processes(tmp_path / "checkpoints").run(tmp_path, ["baseline"])
    assert "\n" not in str(error.value)


def test_seed_0_has_the_settings_of_the_pipeline():
    settings = {"teacher": {"seed": 0}, "student": {"seed": 0, "epochs": 10}, "stage2": {"seed": 0}}
    first, *_, long = [item for item in seeds.workspaces(settings) if item.name.startswith("seed0")]
    assert changed(settings, first.changes) == settings
    assert long.changes["student.epochs"] == round(10 * seeds.STAGE1_COST) > 10
    assert seeds.place("baseline_long", 2) == ("seed2-long", "baseline")


def test_the_ablation_shares_trainings_and_the_teacher():
    found = {item.name: item for item in ablation.workspaces()}
    assert len(found) == len(ablation.VARIANTS) * 3
    assert found["stage2-seed1"].needs == {"both-seed1"}
    assert found["baseline-stage2-seed2"].models == {"baseline": "baseline-seed2"}
    assert found["feature-seed0"].models == {"teacher": ""}
    assert all(item.stages != ("teacher",) for item in found.values())
    assert {a for pair in ablation.PAIRS.values() for a in pair} == set(ablation.VARIANTS)


def _write(folder: Path, model: str, value: float) -> None:
    metrics: dict = {part: {"AP": value, "AR": value} for part in PARTS}
    metrics |= {"mean_oks": dict.fromkeys(PARTS, value), "val_set": "rendered"}
    (folder / "reports" / "metrics").mkdir(parents=True, exist_ok=True)
    (folder / "reports" / "metrics" / f"{model}.json").write_text(json.dumps(metrics))
    oks = PersonOks(np.arange(20), np.arange(20), np.full((20, 6), value) + np.linspace(0, 0.1, 20)[:, None])
    write_person_oks(person_oks_file(model, "rendered", folder / "predictions"), oks)


def test_gathered_differences_are_pooled_over_seeds(tmp_path: Path):
    for seed in (0, 1):
        _write(tmp_path / f"s{seed}", "baseline", 0.2)
        _write(tmp_path / f"s{seed}", "stage1", 0.25 + 0.1 * seed)
    experiment = Experiment(
        "x", [], ("baseline", "stage1"), {"gain": ("stage1", "baseline")}, lambda m, s: (f"s{s}", m), (0, 1), {"n": 1}
    )
    found = results.gather(experiment, tmp_path, samples=50, bootstrap_seed=0)
    assert found["models"]["stage1"]["1"]["AP"]["body"] == 0.35
    mean, low, high = found["differences"]["gain"]["pooled"]["wholebody"]
    assert mean == pytest.approx(0.1) and low <= mean <= high
    assert found["differences"]["gain"]["seeds"]["0"][0] == pytest.approx(0.05)
    assert found["n"] == 1
    results.write_results(tmp_path / "out.json", found)
    assert json.loads((tmp_path / "out.json").read_text())["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("experiment", "words"), [("seeds", "data.train is not"), ("ablation", "teacher.epochs is not")]
)
def test_data_or_a_teacher_of_other_settings_are_told(tmp_path, monkeypatch, capsys, experiment, words):
    """The report would mix two runs. What the students alone have may differ: they are trained anew."""
    recorded = {"prepare": {"data.train": 1}, "teacher": {"data.train": 1, "teacher.epochs": 4}}
    lock = {name: {"cmd": "x", "params": {"params.yaml": params}} for name, params in recorded.items()}
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": lock}))
    train = 2 if experiment == "seeds" else 1
    (tmp_path / "params.yaml").write_text(
        json.dumps(
            {"data": {"train": train, "val": [{"name": "v"}]}, "teacher": {"epochs": 5}, "student": {"epochs": 9}}
        )
    )
    (tmp_path / "prepared" / "val-v").mkdir(parents=True)
    (tmp_path / "prepared" / "val-v" / "gt.json").write_text("{}")
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert command.main([experiment]) == 2
    error = capsys.readouterr().err
    assert words in error and "dvc repro" in error and error.count("\n") == 1


def test_a_worker_ends_with_who_started_it(tmp_path: Path):
    """Killed without warning, an experiment leaves no training behind."""
    child = (
        "import os, time; from posedistill.parent import end_with_parent; end_with_parent(); "
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    worker.wait(timeout=30)


def test_without_prepared_data_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text("data: {val: [{name: rendered}]}\n")
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert command.main(["seeds"]) == 2
    error = capsys.readouterr().err
    assert "run `make repro` first" in error
    assert error.count("\n") == 1
