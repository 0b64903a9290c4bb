"""What makes a stage run again: its code, its settings, and nothing else."""

import hashlib
import itertools
import json
from pathlib import Path

import pipeline_deps
import pytest

from posedistill.params import SECTIONS, read_settings

ROOT = Path(__file__).parents[2]
STAGES = pipeline_deps.stages(str(ROOT / "dvc.yaml"))

# What runs after what, with the stages that follow.
EVALUATED = {f"evaluate@{model}" for model in ("teacher", "baseline", "stage1", "stage2")}
END = {"compare"}
STAGE2 = {"stage2", "evaluate@stage2", "export"} | END
STAGE1 = {"stage1", "evaluate@stage1"} | STAGE2
BASELINE = {"baseline", "evaluate@baseline"} | STAGE2
TEACHER = {"teacher", "evaluate@teacher"} | STAGE1
TRAINED = TEACHER | BASELINE
ALL = {"prepare"} | TRAINED

# Stages that run again when a setting changes. A section stands for all its settings that are not listed themselves.
STALE = {
    "data": ALL,
    "input": ALL,
    "augment": TRAINED,
    "augment.box_padding": ALL,
    "augment.shift": ALL,
    "augment.scale": ALL,
    "augment.rotation": ALL,
    "augment.weak": ALL,
    "teacher": TEACHER,
    "teacher.size": TEACHER | EVALUATED,
    "teacher.augment": ALL,
    "student": BASELINE | STAGE1,
    "student.size": BASELINE | STAGE1 | EVALUATED,
    "train": TRAINED,
    "loss.alpha": STAGE1,
    "loss.beta": STAGE1,
    "loss.gamma": STAGE2,
    "loss.decay": STAGE1,
    "loss.logit_on": STAGE1,
    "loss.feature_reduction": STAGE1,
    "loss.reference_batch": TRAINED,
    "loss.clip_norm": STAGE1,
    "stage2": STAGE2,
    "evaluate": EVALUATED | END | {"export"},
    "evaluate.score_threshold": TRAINED,
    "evaluate.nms": TRAINED,
    "evaluate.batch": TRAINED,
    "export": {"export"},
    "runtime.device": set(),
    "runtime.devices": TRAINED,
    "runtime.precision": TRAINED,
    "runtime.channels_last": set(),
    "runtime.compile": set(),
    "runtime.workers": set(),
    "runtime.threads": TRAINED,
    "runtime.micro_batch": TRAINED,
}


def expanded() -> dict[str, dict]:
    """All stages, those of a matrix one by one under DVC's names, with deps, outs and params as plain texts."""
    found = {}
    for name, entry in STAGES.items():
        items = [(key, value) for key, values in entry.get("matrix", {}).items() for value in values] or [("", "")]
        for key, value in items:

            def fill(text: str, key: str = key, value: str = value) -> str:
                return text.replace(f"${{item.{key}}}", value)

            outs = [one for kind in ("outs", "metrics", "plots") for one in entry.get(kind, [])]
            found[f"{name}@{value}" if key else name] = {
                "deps": [fill(dep) for dep in entry["deps"]],
                "outs": [fill(next(iter(out)) if isinstance(out, dict) else out) for out in outs],
                "params": entry["params"],
            }
    return found


def followers() -> dict[str, set[str]]:
    """Stage → stages that depend on it, directly or not."""
    entries = expanded()
    direct = {
        name: {other for other, it in entries.items() if set(it["deps"]) & set(entry["outs"])}
        for name, entry in entries.items()
    }

    def all_after(name: str) -> set[str]:
        return direct[name].union(*(all_after(other) for other in direct[name]))

    return {name: all_after(name) for name in entries}


LEAVES = [f"{section}.{leaf}" for section, values in read_settings(ROOT / "params.yaml").items() for leaf in values]


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_setting_makes_exactly_these_stages_stale(leaf):
    section = leaf.split(".")[0]
    listing = {name for name, entry in expanded().items() if leaf in entry["params"] or section in entry["params"]}
    after = followers()
    assert listing.union(*(after[name] for name in listing)) == STALE.get(leaf, STALE.get(section))


def test_the_table_names_only_settings_that_exist():
    assert {key for key in STALE if "." in key} <= set(LEAVES)
    assert {key for key in STALE if "." not in key} <= set(SECTIONS)


def test_deps_are_what_the_notebooks_import():
    """make deps brings them in step."""
    assert pipeline_deps.differences() == []


@pytest.mark.parametrize("stage", ["prepare", "teacher", "baseline"])
def test_no_distillation_code_before_stage_1(stage):
    distilling = {"stage1", "stage2", "objectives", "frozen", "distillation"}
    assert not {Path(dep).stem for dep in STAGES[stage]["deps"]} & distilling


def test_prepare_does_not_train():
    assert not [dep for dep in STAGES["prepare"]["deps"] if "/models/" in dep or "/training/" in dep]


def test_reports_and_figures_are_known_to_the_pipeline():
    """Undeclared, they would stay as they are when the run-cache brings back an earlier run."""
    for name, entry in expanded().items():
        reports = [out for out in entry["outs"] if out.endswith(".ipynb")]
        figures = [out for out in entry["outs"] if out.startswith("reports/figures/")]
        assert len(reports) == 1, name
        assert figures == [f"reports/figures/{name.replace('@', '-')}"], name


def test_no_two_stages_write_the_same():
    entries = expanded()
    for (one, a), (other, b) in itertools.combinations(entries.items(), 2):
        assert not set(a["outs"]) & set(b["outs"]), (one, other)


def test_only_the_summary_is_a_metric():
    metrics = [out for entry in STAGES.values() for one in entry.get("metrics", []) for out in one]
    assert metrics == ["reports/metrics/summary.json"]


def test_the_pinned_data_are_the_assets():
    """make data brings them in step. Otherwise the first run on a fresh clone would change data.dvc."""
    pinned = read_settings(ROOT / "data.dvc")
    assets = ROOT / "assets"
    files = sorted(path.relative_to(assets) for path in assets.rglob("*") if path.is_file())
    entries = [
        {"md5": hashlib.md5((assets / path).read_bytes()).hexdigest(), "relpath": path.as_posix()} for path in files
    ]
    digest = hashlib.md5(json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True).encode())
    for entry in (*pinned["deps"], *pinned["outs"]):
        assert entry["md5"] == f"{digest.hexdigest()}.dir"
    assert not pinned.get("frozen"), "plain `dvc repro` must be able to make data/ on a fresh clone"
