"""What makes a stage run again: its code, its settings, and nothing else. Asked of DVC itself, on a copy of the project
whose outputs are placeholders that DVC holds for up to date."""

import hashlib
import json
from pathlib import Path

import networkx
import pytest
from clone import Clone
from dvc.dependency import Dependency
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from dvc.repo.index import Index

from posedistill import fingerprint
from posedistill.params import read_settings
from posedistill.pipeline.code import write_code_files

ROOT = Path(__file__).parents[2]
SETTINGS = read_settings(ROOT / "params.yaml")
TRAININGS = ("teacher", "baseline", "stage1", "stage2")

# What runs after what, with the stages that follow.
EVALUATED = {f"evaluate@{model}" for model in TRAININGS}
END = {"compare"}
STAGE2 = {"stage2", "evaluate@stage2", "export"} | END
STAGE1 = {"stage1", "evaluate@stage1"} | STAGE2
BASELINE = {"baseline", "evaluate@baseline"} | END
TEACHER = {"teacher", "evaluate@teacher"} | STAGE1
TRAINED = TEACHER | BASELINE
ALL = {"prepare"} | TRAINED

# Stages that run again when a setting changes. A section stands for all its settings that are not listed themselves.
STALE = {
    "data": ALL,
    "data.tracked": ALL,  # another path that prepare depends on
    "input": ALL,
    "augment": TRAINED,
    "augment.box_padding": TRAINED,
    "teacher": TEACHER,
    "teacher.size": TEACHER,
    "teacher.input": ALL,  # prepare keeps enough pixels for it
    "teacher.more": STAGE1,
    "student": BASELINE | STAGE1,
    "student.clip_norm": BASELINE,  # the distillations use loss.clip_norm
    "train": TRAINED,
    "loss.alpha": STAGE1,
    "loss.beta": STAGE1,
    "loss.gamma": STAGE2,
    "loss.decay": STAGE1,
    "loss.logit_on": STAGE1,
    "loss.feature_reduction": STAGE1,
    "loss.extra": STAGE1,
    "loss.reference_batch": TRAINED,
    "loss.clip_norm": STAGE1,
    "stage2": STAGE2,
    "evaluate": EVALUATED | END | {"export"},
    "evaluate.bootstrap": EVALUATED | END,
    "evaluate.seed": EVALUATED | END,
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
TEMPLATED = ("data.tracked", "stage2.init")  # stand in dvc.yaml as ${…}
LEAVES = [f"{section}.{leaf}" for section, values in SETTINGS.items() for leaf in values]


class Pipeline:
    """A copy of the project in which DVC holds every stage for up to date."""

    def __init__(self, folder: Path) -> None:
        self.clone = Clone(folder, {})
        self.write_code()
        for stage in Repo(str(folder)).index.stages:
            for out in stage.outs if getattr(stage, "name", "code") != "code" else ():
                self.placeholder(Path(out.fs_path))
        self.placeholder(folder / "data" / "body" / "mapping.json")
        self.clone.dvc("commit", "--force")
        self.index = Repo(str(folder)).index

    @staticmethod
    def placeholder(path: Path) -> None:
        path = path if path.suffix else path / "file"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)

    def write_code(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.clone.folder)
            patch.setattr(fingerprint, "_SOURCE", self.clone.folder / "src" / "posedistill")
            write_code_files()

    def stale(self, index: Index, kind: type = Dependency) -> tuple[set[str], set[str]]:
        """Stages whose dependencies of a kind differ from the lock, and these with all that follow in DVC's graph."""
        stages = [stage for stage in index.stages if getattr(stage, "name", "code") != "code"]
        changed = [stage for stage in stages if any(isinstance(dep, kind) and dep.status() for dep in stage.deps)]
        after = {other for stage in changed for other in networkx.ancestors(index.graph, stage)}
        return {stage.name for stage in changed}, {stage.name for stage in {*changed, *after}}

    def stale_by_settings(self, templates: bool) -> set[str]:
        """templates: a setting has changed that stands in dvc.yaml itself, which must be read again."""
        if templates:
            return self.stale(Repo(str(self.clone.folder)).index)[1]
        return self.stale(self.index, ParamsDependency)[1]

    def stale_by_code(self) -> set[str]:
        self.write_code()
        return self.stale(self.index)[0]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Pipeline:
    return Pipeline(tmp_path_factory.mktemp("pipeline") / "project")


def another(key: str, value):
    """A valid value other than `value`."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, value[-1]]
    if isinstance(value, dict):
        return {**value, "another": 1}
    return {"data.tracked": "assets/body", "stage2.init": "baseline"}.get(key, f"{value or ''}x")


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_setting_makes_exactly_these_stages_stale(pipeline, leaf):
    section, name = leaf.split(".")
    before = (pipeline.clone.folder / "params.yaml").read_bytes()
    try:
        value = read_settings(pipeline.clone.folder / "params.yaml")[section][name]
        pipeline.clone.change({leaf: another(leaf, value)})
        assert pipeline.stale_by_settings(leaf in TEMPLATED) == STALE.get(leaf, STALE.get(section))
    finally:
        (pipeline.clone.folder / "params.yaml").write_bytes(before)


@pytest.mark.parametrize(
    "file, definition, stale",
    [
        ("losses.py", "def label_loss(", {"teacher", "baseline", "stage1"}),
        ("losses.py", "def logit_loss(", {"stage1", "stage2"}),
        ("losses.py", "def feature_loss(", {"stage1"}),
        ("training/loop.py", "def fit(", set(TRAININGS)),
        ("data/store/parts.py", "def make_part(", {"prepare"}),
        ("synthetic/camera.py", "class Camera", {"prepare"}),
        ("evaluation/oks.py", "def part_sums(", {*TRAININGS, *EVALUATED, "export", "compare"}),
        ("evaluation/bootstrap.py", "def intervals(", EVALUATED),
        ("export/parity.py", "def compare(", {"export"}),
        ("pipeline/stage.py", "def run(", {"prepare", *TRAININGS, *EVALUATED, "compare", "export"}),
    ],
)
def test_a_changed_function_concerns_the_stages_that_use_it(pipeline, file, definition, stale):
    path = pipeline.clone.folder / "src" / "posedistill" / file
    before = path.read_text()
    assert f"\n{definition}" in before, "the function has moved: adapt this test"
    try:
        path.write_text(before.replace(f"\n{definition}", f"\n@print\n{definition}"))
        assert pipeline.stale_by_code() == stale
    finally:
        path.write_text(before)


def test_changed_comments_and_docstrings_concern_no_stage(pipeline):
    files = list((pipeline.clone.folder / "src" / "posedistill").rglob("*.py"))
    before = {path: path.read_text() for path in files}
    try:
        for path, text in before.items():
            path.write_text(text.replace('"""', '"""Other words. ', 1) + "\n# another comment\n")
        assert pipeline.stale_by_code() == set()
    finally:
        for path, text in before.items():
            path.write_text(text)


def test_every_stage_depends_on_the_code_of_its_notebook():
    for name, entry in read_settings(ROOT / "dvc.yaml")["stages"].items():
        deps = entry.get("do", entry)["deps"]
        notebooks = [Path(dep).stem for dep in deps if dep.endswith(".ipynb")]
        assert len(notebooks) == (name != "code")
        assert [dep for dep in deps if dep.startswith("code/")] == [f"code/{notebook}.txt" for notebook in notebooks]


def outputs() -> dict[str, list[str]]:
    """Stage → paths of its outputs, as DVC reads dvc.yaml."""
    stages = [stage for stage in Repo(str(ROOT)).index.stages if hasattr(stage, "name")]
    return {stage.name: [out.def_path for out in stage.outs] for stage in stages}


def test_reports_and_figures_are_known_to_the_pipeline():
    """Undeclared, they would stay as they are when the run cache brings back an earlier run."""
    for name, outs in outputs().items():
        if name != "code":
            assert len([out for out in outs if out.endswith(".ipynb")]) == 1, name
            assert f"reports/figures/{name.replace('@', '-')}" in outs, name


def test_only_the_summary_is_a_metric():
    assert [out.def_path for stage in Repo(str(ROOT)).index.stages for out in stage.outs if out.metric] == [
        "reports/metrics/summary.json"
    ]


def test_both_files_stay_short():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 170
    assert len((ROOT / "dvc.lock").read_text().splitlines()) <= 1000


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
