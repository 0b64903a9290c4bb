"""Experiments in copies and queues, models on a remote, and many kills: what takes minutes."""

import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from clone import Clone
from small_runs import EPOCHS, TRAININGS, kill_during, steps

pytestmark = pytest.mark.slow

MODELS = "models/*.safetensors"


def experiments(project: Clone) -> dict[str, dict]:
    """Name → settings and metrics of all finished experiments."""
    found = {}
    for baseline in json.loads(project.dvc("exp", "show", "--json").stdout):
        for experiment in baseline.get("experiments") or []:
            for revision in experiment["revs"]:
                if revision.get("data") and revision.get("name"):
                    found[revision["name"]] = revision["data"]
    return found


def alpha_of(data: dict) -> float:
    return data["params"]["params.yaml"]["data"]["loss"]["alpha"]


def unfinished(project: Clone) -> list[str]:
    """Tasks of the queue that wait or run."""
    lines = project.dvc("queue", "status").stdout.splitlines()
    return [line.split()[0] for line in lines if line.rstrip().endswith(("Queued", "Running"))]


def test_in_a_temporary_copy(project):
    """The workspace stays as it is; a training that is finished elsewhere is not repeated there."""
    before = project.hashes(MODELS, "reports/**/*")
    trained = steps(project, "teacher"), steps(project, "baseline")
    done = project.dvc("exp", "run", "--temp", "-S", "loss.alpha=2e-2", "--name", "in-temp")
    assert {"stage1", "stage2"} <= project.ran(done)
    assert project.hashes(MODELS, "reports/**/*") == before
    assert project.git("status", "--porcelain") == ""
    assert alpha_of(experiments(project)["in-temp"]) == 2e-2
    assert (steps(project, "teacher"), steps(project, "baseline")) == trained


def test_in_a_queue_with_lists(project):
    project.dvc("exp", "run", "--queue", "-S", "loss.alpha=3e-2,4e-2", "-S", "loss.beta=0.2")
    project.dvc("queue", "start", "--jobs", "1")
    while tasks := unfinished(project):
        for task in tasks:
            project.dvc("queue", "logs", task, "--follow", check=False)  # returns when a running task has ended
    found = [alpha_of(data) for data in experiments(project).values()]
    assert {3e-2, 4e-2} <= set(found)
    assert project.git("status", "--porcelain") == ""


def test_several_settings_at_once(project):
    done = project.dvc("exp", "run", "-S", "stage2.epochs=1", "-S", "evaluate.bootstrap=10", "--name", "two")
    assert project.ran(done) == {"stage2", "export", "compare", *(f"evaluate@{name}" for name in TRAININGS)}
    project.git("restore", ".")
    project.dvc("checkout", "--force")
    assert project.ran(project.dvc("repro")) == set()


def test_models_travel_by_a_remote(project, tmp_path):
    """push here, clone and pull there: nothing is left to run."""
    project.dvc("remote", "add", "--default", "mine", str(tmp_path / "remote"))
    project.dvc("push")
    there = tmp_path / "there"
    project.git("clone", "--quiet", str(project.folder), str(there))
    shutil.copy(project.folder / ".dvc" / "config", there / ".dvc" / "config")
    other = Clone.existing(there, tmp_path / "other-checkpoints")
    other.dvc("pull")
    assert other.hashes(MODELS, "models/*.onnx") == project.hashes(MODELS, "models/*.onnx")
    assert other.ran(other.dvc("repro")) == set()
    assert not list(other.checkpoints.glob("*/steps.log"))
    project.git("restore", ".dvc")


def test_ended_ten_times_a_stage_at_random_points_by_any_signal(project, tmp_path):
    """In another clone with empty caches; the result has the bytes of the undisturbed run."""
    clone = Clone(tmp_path / "killed", EPOCHS)
    chance = random.Random(0)
    for stage in ("prepare", *TRAININGS):
        for _ in range(10):
            polls = itertools.count()
            limit = chance.randrange(1, 300)  # of 20 ms and a little
            how = chance.choice((signal.SIGINT, signal.SIGTERM, signal.SIGKILL))
            if not kill_during(clone, stage, lambda polls=polls, limit=limit: next(polls) >= limit, how):
                break
        clone.mend()
        clone.dvc("repro", stage)
        saved = steps(clone, stage)
        assert len(saved) == len(set(saved)), "a finished epoch was repeated"
    patterns = ("prepared/**/*", *(f"models/{stage}.safetensors" for stage in TRAININGS), "reports/curves/*")
    assert clone.hashes(*patterns) == project.hashes(*patterns)


def test_the_verdict_on_losses_is_interrupted_and_continued(project):
    """`make verdict` in DVC's queue, with a second and a larger teacher; its table has a row for every loss."""
    command = [sys.executable, "-m", "posedistill.experiments", "verdict", "--seeds", "0"]
    environment = project.environment() | {"PYTHONPATH": str(project.folder / "src")}
    first = subprocess.Popen(command, cwd=project.folder, env=environment)
    before = len(list(project.checkpoints.glob("stage1-*/steps.log")))
    while first.poll() is None and len(list(project.checkpoints.glob("stage1-*/steps.log"))) == before:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert first.wait() == 130
    subprocess.run(command, cwd=project.folder, env=environment, check=True)
    found = json.loads((project.folder / "reports" / "metrics" / "verdict.json").read_text())
    assert {"logits", "both", "stages", "standardised", "bones", "teachers", "larger"} <= set(found["texts"])
    assert all(cost > 1 for cost in found["costs"].values())
    assert len(found["differences"]) == 2 * len(found["texts"])
    assert unfinished(project) == []
    project.git("restore", ".")


def test_students_learn_from_the_teacher_alone(project):
    """`make unlabelled` in DVC's queue: its students see no label, and its report reads their results through DVC."""
    command = [sys.executable, "-m", "posedistill.experiments", "unlabelled", "--seeds", "0"]
    environment = project.environment() | {"PYTHONPATH": str(project.folder / "src")}
    subprocess.run(command, cwd=project.folder, env=environment, check=True)
    found = json.loads((project.folder / "reports" / "metrics" / "unlabelled.json").read_text())
    assert found["label_loss"] == 0
    assert found["data"]["without labels"][1] == 0 < found["data"]["with labels"][1]
    assert found["data"]["without labels"][0] == found["data"]["with labels"][0]
    assert {"unlabelled-pictures", "unlabelled-logits-seed0"} <= experiments(project).keys()
    assert unfinished(project) == []
    project.git("restore", ".")
