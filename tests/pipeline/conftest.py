"""One small run of the whole pipeline for the tests of this folder; another, for slow tests, is ended once a stage."""

import os
from pathlib import Path

import pytest
from clone import Clone
from coco_fixtures import annotation, picture, settings, shared, write_coco  # noqa: F401
from small_runs import EPOCHS, run_killed, run_whole


def kept_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While working on these tests, POSEDISTILL_SMALL_RUNS names a folder that keeps the runs for next time."""
    kept = os.environ.get("POSEDISTILL_SMALL_RUNS")
    return Path(kept) if kept else tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The finished small run, committed; a test leaves it as it was, since the others go on with it."""
    folder = kept_folder(tmp_path_factory)
    done = folder / "undisturbed-done"
    if done.is_file():
        return Clone.existing(folder / "undisturbed", folder / "undisturbed-checkpoints")
    clone = Clone(folder / "undisturbed", EPOCHS)
    run_whole(clone)
    done.touch()
    return clone


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, list[str]]:
    """The same run up to stage 2, ended once a stage, and the stages in which it was."""
    folder = kept_folder(tmp_path_factory)
    done = folder / "killed-done"
    if done.is_file():
        return Clone.existing(folder / "killed", folder / "killed-checkpoints"), done.read_text().split()
    clone = Clone(folder / "killed", EPOCHS)
    kills = run_killed(clone)
    done.write_text(" ".join(kills))
    return clone, kills


@pytest.fixture(scope="module")
def weights(random_model, tmp_path_factory):
    """The file of an untrained model, for the command `predict`."""
    from posedistill.models.checkpoint import save_checkpoint

    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_checkpoint(random_model(), path)
    return path


@pytest.fixture
def folder(tmp_path):
    """A folder of three small pictures."""
    from predict_runs import make_pictures

    return make_pictures(tmp_path / "pictures")
