"""A stage lists every setting that it reads, and none that it does not: each stage runs small, and what it reads is
recorded."""

import subprocess
import sys

import pytest
from clone import Clone
from small_runs import EPOCHS

from posedistill.params import Augment, read_settings
from posedistill.stages import read_stage

EVALUATIONS = ("evaluate@teacher", "evaluate@stage1", "evaluate@stage2")
STAGES = ("prepare", "teacher", "baseline", "stage1", "stage2", *EVALUATIONS, "compare", "export")
# How, not what: a stage may read these without listing them.
HOW = {"runtime.device", "runtime.channels_last", "runtime.compile", "runtime.workers"}
# Read by the stage `teacher` only if it takes a given one; here it trains one.
OF_A_GIVEN_TEACHER = {"teacher.keypoints"}


def listed(clone: Clone, stage: str) -> set[str]:
    settings = read_settings(clone.folder / "params.yaml")
    keys = set()
    for key in read_stage(stage, clone.folder)["params"]:
        keys |= {key} if "." in key else {f"{key}.{leaf}" for leaf in settings[key]}
    return keys


@pytest.mark.slow
def test_each_stage_lists_exactly_what_it_reads(tmp_path):
    # One strong epoch in which every change is drawn, and a weak one.
    certain = {"augment.weak_epochs": 1, **{f"augment.{name}": 1.0 for name in ("shift_p", "rotation_p", "dropout_p")}}
    clone = Clone(tmp_path / "project", EPOCHS | certain)
    clone.dvc("repro", "evaluate@baseline")  # also makes data/ and code/
    wrong = {}
    for stage in STAGES:
        reads = tmp_path / f"{stage}.txt"
        environment = clone.environment() | {"POSEDISTILL_READS": str(reads)}
        environment["POSEDISTILL_CHECKPOINTS"] = str(tmp_path / "checkpoints" / stage)
        done = subprocess.run(
            [sys.executable, "src/run_notebook.py", stage], cwd=clone.folder, env=environment, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        read, declared = set(reads.read_text().split()) - HOW, listed(clone, stage)
        if stage == "teacher":
            declared -= OF_A_GIVEN_TEACHER
        if stage == "export":  # the crops for int8 come from an augmentation that the code makes: all off
            read -= {f"augment.{name}" for name in Augment.model_fields} - {"augment.box_padding"}
        if read != declared:
            wrong[stage] = {"unlisted": sorted(read - declared), "unread": sorted(declared - read)}
    assert not wrong, "\n".join(f"{stage}: {found}" for stage, found in wrong.items())
