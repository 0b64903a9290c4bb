"""One small run of the whole pipeline for all tests of this folder, and one that is killed once a stage."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clone import Clone
from coco_fixtures import annotation, picture, settings, shared, write_coco  # noqa: F401
from small_runs import EPOCHS, Runs, run_killed, run_whole


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Both runs. While working on these tests, POSEDISTILL_SMALL_RUNS names a folder that keeps them for next time."""
    kept = os.environ.get("POSEDISTILL_SMALL_RUNS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("pipeline")
    note = folder / "kills"
    if note.is_file():
        names = ("undisturbed", "killed")
        return Runs(
            *(Clone.existing(folder / name, folder / f"{name}-checkpoints") for name in names), note.read_text().split()
        )
    undisturbed, killed = Clone(folder / "undisturbed", EPOCHS), Clone(folder / "killed", EPOCHS)
    with ThreadPoolExecutor(2) as pool:  # one of two cores each
        whole, kills = pool.submit(run_whole, undisturbed), pool.submit(run_killed, killed)
        whole.result()
        note.write_text(" ".join(kills.result()))
    return Runs(undisturbed, killed, kills.result())


@pytest.fixture
def project(runs: Runs) -> Clone:
    """The finished small run; a test leaves it as it was, since the others go on with it."""
    return runs.undisturbed
