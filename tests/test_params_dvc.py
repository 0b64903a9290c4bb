"""params.yaml and DVC: the run cache tells all settings apart, and a changed setting is a diff of one line."""

import copy
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posedistill.params import SECTIONS, Augment, LabelRates, Source, Weights, read_settings

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]

Place = tuple[str | int, ...]


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """All stages of dvc.yaml as DVC itself reads them."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("repo")
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    with Repo.init(str(folder), no_scm=True) as repo:
        return [stage for stage in repo.index.stages if stage.cmd]


def run_cache_key(stage: Any, settings: dict[str, Any]) -> str:
    """DVC's key of a run of `stage` with `settings`."""
    from dvc.dependency.param import ParamsDependency
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            dep.fill_values({name: value_of(settings, name) for name in dep.params})
    return _get_cache_hash(to_single_stage_lockfile(stage), key=True)


def value_of(settings: dict[str, Any], name: str) -> Any:
    """A section, or one setting of it, as DVC keeps it in dvc.lock."""
    section, _, leaf = name.partition(".")
    return settings[section][leaf] if leaf else settings[section]


def listed(stage: Any) -> list[str]:
    return [key for dep in stage.deps for key in getattr(dep, "params", ())]


def every_setting() -> dict[str, Any]:
    """The default settings with all that is optional given, so that each key stands somewhere."""
    settings = read_settings(ROOT / "params.yaml")
    given = {"path": "a.pth", "sha256": "0" * 64}
    assert given.keys() == Weights.model_fields.keys()
    settings["teacher"] |= {"checkpoint": given, "init": given, "backbone": given, "clip_norm": 1.0}
    settings["student"] |= {"backbone": given, "clip_norm": 1.0}
    values = {name: settings["augment"][name] for name in Augment.model_fields if not name.startswith("weak")}
    settings["augment"]["weak"] = values
    settings["teacher"]["augment"] = values | {"weak_epochs": 3, "weak": values}
    source = dict.fromkeys(Source.model_fields, "a") | {"step": 3, "seed": 4, "scenes": ["a", "b"]}
    source["labels"] = dict.fromkeys(LabelRates.model_fields, 0.5)
    settings["data"] |= {"train": [source, source], "val": [source]}
    return copy.deepcopy(settings)


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Where the leaves are."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*here, key))
    else:
        yield here


def changed(settings: dict[str, Any], place: Place) -> dict[str, Any]:
    """A copy with another value at one place."""
    result = copy.deepcopy(settings)
    inner: Any = result
    for key in place[:-1]:
        inner = inner[key]
    old = inner[place[-1]]
    inner[place[-1]] = not old if isinstance(old, bool) else old + 1 if isinstance(old, int | float) else f"{old}x"
    return result


def test_no_two_values_of_a_setting_share_a_run_cache_key(stages):
    """DVC's run cache ignores nested keys named `size` and `nfiles`: with one of them, another model would be taken
    for that of a changed setting."""
    settings = every_setting()
    keys = {stage.addressing: run_cache_key(stage, settings) for stage in stages}
    tested = set()
    for place in places(settings):
        section, leaf, *_ = place
        other = changed(settings, place)
        for stage in stages:
            if {section, f"{section}.{leaf}"} & set(listed(stage)):
                assert run_cache_key(stage, other) != keys[stage.addressing], (stage.addressing, place)
                tested.add(f"{section}.{leaf}")
    unlisted = {f"{section}.{leaf}" for section in SECTIONS for leaf in settings[section]} - tested
    # data.tracked is a dependency, of which DVC hashes the content; most of runtime changes no result.
    assert {name for name in unlisted if not name.startswith("runtime.")} == {"data.tracked"}


def test_the_run_cache_ignores_nested_sizes():
    """Why `student` and `teacher` are never listed as a whole: should DVC change, this fails."""
    from dvc.stage.cache import _get_cache_hash

    def key(params: dict[str, Any]) -> str:
        return _get_cache_hash({"cmd": "train", "params": {"params.yaml": params}}, key=True)

    assert key({"student": {"size": "n"}}) == key({"student": {"size": "t"}})
    assert key({"student.size": "n"}) != key({"student.size": "t"})


CHANGES = {
    "data.seed=1": 1,
    "data.root=/data": 1,
    "input.height=256": 1,
    "augment.scale=[0.75,1.3]": 1,
    "augment.hsv=false": 1,
    "augment.weak.shift_p=0.1": 1,
    "teacher.size=x": 1,
    "student.lr=5e-5": 1,
    "student.clip_norm=null": 1,
    "train.ema.momentum=1e-3": 1,
    "loss.alpha=2e-5": 1,
    "loss.decay=false": 1,
    "runtime.micro_batch=8": 1,
    "loss.beta=0.3 evaluate.nms=0.5": 2,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_is_a_diff_of_one_line(change, tmp_path):
    assert lines_changed(ROOT / "params.yaml", change.split(), tmp_path) == (CHANGES[change], CHANGES[change])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_settings_files_have_the_form_that_dvc_writes(file, tmp_path):
    assert lines_changed(file, ["loss.alpha=0.0123"], tmp_path) == (1, 1)


def lines_changed(file: Path, overrides: list[str], folder: Path) -> tuple[int, int]:
    """How many lines `dvc exp run -S …` adds to and removes from a settings file; the file is read back."""
    from dvc.utils.hydra import apply_overrides

    copied = folder / "params.yaml"
    before = file.read_text()
    copied.write_text(before)
    apply_overrides(copied, overrides)
    after = copied.read_text()
    assert read_settings(copied) != read_settings(file)
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))[2:]
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)
