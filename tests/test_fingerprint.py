"""The hash of the code: what it covers, what it leaves out, what it does not see."""

import re
import shutil
from pathlib import Path

import pytest

from posedistill import fingerprint
from posedistill.fingerprint import VALIDATING, code_hash, used_code

SUPERVISED = "training.supervised:train_supervised"
STAGE1 = "training.stage1:distill_stage1"
STAGE2 = "training.stage2:distill_stage2"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that makes a small package of the given files the one that is analysed, and returns its folder."""

    def make(**files: str) -> Path:
        for name, text in {"__init__": "", **files}.items():
            path = tmp_path.joinpath(*name.split("__SLASH__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(fingerprint, "_SOURCE", tmp_path)
        return tmp_path

    return make


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of the package's source that a test may change."""
    source = tmp_path / "posedistill"
    shutil.copytree(fingerprint._SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    monkeypatch.setattr(fingerprint, "_SOURCE", source)
    return source


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def names(lines: list[str]) -> set[str]:
    return {line.split(" ")[0] for line in lines}


def test_only_what_an_entry_uses(package):
    package(
        losses="SCALE = 2\nOTHER = 3\ndef used(x):\n    return SCALE * x\ndef unused(x):\n    return OTHER\n",
        train="from posedistill.losses import used\ndef fit():\n    return used(1)\ndef test():\n    return 0\n",
    )
    assert names(used_code("train:fit")) == {"train:fit", "losses:used", "losses:SCALE"}
    assert names(used_code("train")) == {"train:fit", "train:test", "losses:used", "losses:SCALE"}


@pytest.mark.parametrize(
    "statement, use",
    [
        ("from posedistill.losses import used", "used(1)"),
        ("from posedistill.losses import used as renamed", "renamed(1)"),
        ("from posedistill import losses", "losses.used(1)"),
        ("import posedistill.losses", "posedistill.losses.used(1)"),
        ("import posedistill.losses as module", "module.used(1)"),
        ("from .losses import used", "used(1)"),
        ("from . import losses", "losses.used(1)"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_every_way_to_import(package, statement, use, inside):
    text = (
        f"def fit():\n    {statement}\n    return {use}\n" if inside else f"{statement}\ndef fit():\n    return {use}\n"
    )
    package(losses="def used(x):\n    return x\ndef unused(x):\n    return x\n", train=text)
    assert names(used_code("train:fit")) == {"train:fit", "losses:used"}


def test_names_that_a_package_passes_on(package):
    package(
        room__SLASH____init__="from posedistill.room.inner import used, unused\n",
        room__SLASH__inner="def used():\n    return 1\ndef unused():\n    return 2\n",
        train="from posedistill.room import used\ndef fit():\n    return used()\n",
    )
    assert names(used_code("train:fit")) == {"train:fit", "room.inner:used"}


def test_a_module_handed_on_as_a_whole_counts_as_a_whole(package):
    package(
        losses="def one():\n    return 1\ndef two():\n    return 2\n",
        train="from posedistill import losses\ndef fit(name):\n    return getattr(losses, name)()\n",
    )
    assert names(used_code("train:fit")) == {"train:fit", "losses:one", "losses:two"}


def test_what_runs_at_import_counts(package):
    package(
        quiet="import numpy\nnumpy.seterr(all='ignore')\ndef unused():\n    return 1\n",
        train="import posedistill.quiet\ndef fit():\n    return 1\n",
    )
    assert names(used_code("train:fit")) == {"train:fit", "quiet:(import)"}


def test_decorators_bases_defaults_and_class_bodies_count_but_annotations_do_not(package):
    package(
        parts="A = B = C = D = E = F = 1\n",
        train="from posedistill.parts import A, B, C, D, E, F\n"
        "@A\nclass Fit(B):\n    x = C\n    def run(self, y=D, z: E = 1) -> F:\n        return y\n",
    )
    assert {"parts:A", "parts:B", "parts:C", "parts:D"} < names(used_code("train:Fit"))
    assert "parts:E" in names(used_code("train:Fit"))  # one statement defines them all


def test_annotations_of_functions_need_no_code(package):
    package(
        parts="class Big:\n    pass\n",
        train="from posedistill.parts import Big\ndef fit(x: Big) -> Big:\n    return x\n",
    )
    assert names(used_code("train:fit")) == {"train:fit"}


def test_comments_docstrings_and_formatting_do_not_count(package):
    folder = package(train='def fit(x):\n    """Old words."""\n    return {"a": x}\n')
    before = used_code("train:fit")
    (folder / "train.py").write_text('# comment\ndef fit(x):\n    """New."""\n\n    return {\'a\': x}  # other\n')
    assert used_code("train:fit") == before


def test_a_notebook_is_an_entry(package):
    package(losses="def used():\n    return 1\ndef unused():\n    return 2\n")
    assert names(used_code(notebook="from posedistill import losses\nlosses.used()")) == {"losses:used"}


def test_an_entry_that_is_not_there(package):
    package(train="def fit():\n    return 1\n")
    with pytest.raises(ValueError, match="train:fits"):
        used_code("train:fits")


def test_training_from_labels_uses_no_distillation_code():
    used = names(used_code(SUPERVISED))
    assert {"losses:label_loss", "training.loop:fit", "models.head:RTMCCHead"} <= used
    assert not {"losses:logit_loss", "losses:feature_loss", "losses:decay"} & used
    assert not {name for name in used if name.partition(":")[0].endswith(("stage1", "stage2", "frozen"))}


def test_both_distillations_use_their_losses():
    assert {"losses:logit_loss", "losses:feature_loss", "losses:decay"} <= names(used_code(STAGE1))
    assert {"losses:logit_loss"} <= names(used_code(STAGE2))


def test_training_uses_no_reporting():
    rooms = {re.split("[.:]", name)[0] for name in names(used_code(STAGE1, STAGE2))}
    assert not rooms & {"reporting", "export", "inference", "pipeline", "benchmark"}


@pytest.mark.parametrize(
    "file, old, new, stale",
    [
        ("losses.py", "def logit_loss(", "@print\ndef logit_loss(", {STAGE1, STAGE2}),
        ("losses.py", "def label_loss(", "@print\ndef label_loss(", {SUPERVISED, STAGE1}),
        ("losses.py", "def decay(", "@print\ndef decay(", {STAGE1}),
        ("training/loop.py", "LOG_EVERY = 20", "LOG_EVERY = 21", {SUPERVISED, STAGE1, STAGE2}),
    ],
)
def test_a_changed_function_concerns_the_trainings_that_use_it(copy, file, old, new, stale):
    before = {entry: code_hash(entry) for entry in (SUPERVISED, STAGE1, STAGE2)}
    change(copy / file, old, new)
    assert {entry for entry in before if code_hash(entry) != before[entry]} == stale


def test_a_changed_comment_or_docstring_trains_nothing_anew(copy):
    before = code_hash(STAGE1)
    change(copy / "losses.py", '"""', '"""Other words. ')
    change(copy / "training" / "loop.py", "LOG_EVERY = 20", "LOG_EVERY = 20  # other words")
    assert code_hash(STAGE1) == before


def test_validation_counts_only_where_it_chooses_the_model(copy):
    before = code_hash(SUPERVISED, without=VALIDATING), code_hash(SUPERVISED)
    change(copy / "evaluation" / "wholebody.py", "def evaluate_wholebody(", "@print\ndef evaluate_wholebody(")
    after = code_hash(SUPERVISED, without=VALIDATING), code_hash(SUPERVISED)
    assert before[0] == after[0] and before[1] != after[1]
