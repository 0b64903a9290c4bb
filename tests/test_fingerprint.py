"""The hash of the code: what it covers, what it leaves out, what it does not see."""

import shutil
from pathlib import Path

import pytest

from posedistill import fingerprint as module
from posedistill.fingerprint import code_hash, import_closure


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of the package's source that a test may change."""
    source = tmp_path / "posedistill"
    shutil.copytree(module._SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    monkeypatch.setattr(module, "_SOURCE", source)
    return source


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_training_from_labels_needs_no_distillation_code():
    closure = import_closure("training.supervised")
    assert {"training.loop", "losses", "models.cspnext", "models.head", "data.loader", "data.store"} <= closure
    assert not {"training.stage1", "training.stage2", "training.objectives", "training.frozen"} & closure


def test_reporting_and_the_command_line_are_not_part_of_it():
    closure = import_closure("training.stage1", "training.stage2")
    assert not [name for name in closure if name.split(".")[0] in ("reporting", "export", "inference", "experiments")]


@pytest.mark.parametrize("file", ["losses.py", "models/cspnext.py", "training/loop.py", "training/stage1.py"])
def test_other_code_gives_another_hash(copy, file):
    before = code_hash("training.stage1")
    with (copy / file).open("a") as source:
        source.write("\nANOTHER = 1\n")
    assert code_hash("training.stage1") != before


def test_a_changed_comment_or_docstring_trains_nothing_anew(copy):
    before = code_hash("training.stage1")
    change(copy / "losses.py", '"""', '"""Other words. ')
    change(copy / "training" / "loop.py", "LOG_EVERY = 20", "LOG_EVERY = 20  # other words")
    assert code_hash("training.stage1") == before


def test_stage2_does_not_make_the_teacher_stale(copy):
    before = code_hash("training.supervised")
    with (copy / "training" / "stage2.py").open("a") as source:
        source.write("\nANOTHER = 1\n")
    assert code_hash("training.supervised") == before


def test_validation_counts_only_where_it_chooses_the_model(copy):
    before = code_hash("training.supervised", without=module.VALIDATING), code_hash("training.supervised")
    with (copy / "evaluation" / "wholebody.py").open("a") as source:
        source.write("\nANOTHER = 1\n")
    after = code_hash("training.supervised", without=module.VALIDATING), code_hash("training.supervised")
    assert before[0] == after[0] and before[1] != after[1]
