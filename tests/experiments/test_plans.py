"""What `make seeds`, `make ablation`, `make sweep` and `make unlabelled` run, and what is compared."""

from pathlib import Path

import pytest

from posedistill.errors import UserError
from posedistill.experiments import PLANS, ablation, seeds, unlabelled
from posedistill.experiments.__main__ import main
from posedistill.experiments.plan import override
from posedistill.params import from_settings, read_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """The project's settings, in a folder with a body and a teacher."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    for name in ("data/body/body_asset.npz", "models/teacher.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"content")
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return read_settings(ROOT / "params.yaml")


@pytest.mark.parametrize("name", PLANS)
def test_what_is_compared_is_run_and_changes_only_settings_that_exist(settings, name):
    plan = PLANS[name](settings, (0, 3))
    targets = {run.name: run.targets for run in plan.runs}
    assert len(targets) == len(plan.runs)
    for model in plan.models:
        for seed in plan.seeds:
            run, stage = plan.place(model, seed)
            assert f"evaluate@{stage}" in targets[run]
            assert run.startswith(f"{name}-") and run.endswith(f"-seed{seed}")  # by which results are found again
    assert {model for pair in plan.pairs.values() for model in pair} <= set(plan.models)
    for key in {key for run in plan.runs for key in run.changes}:
        section, leaf = key.split(".")
        assert leaf in settings[section]


def test_seed_0_changes_nothing_and_the_longer_baseline_takes_the_time_of_stage_1(settings):
    runs = {run.name: run for run in seeds.plan(settings).runs}
    assert len(runs) == 6
    for key, value in runs["seeds-all-seed0"].changes.items():
        section, leaf = key.split(".")
        assert settings[section][leaf] == value
    longer = runs["seeds-long-seed0"].changes["student.epochs"]
    assert longer == round(settings["student"]["epochs"] * seeds.STAGE1_COST) > settings["student"]["epochs"]


def test_the_ablation_has_one_run_for_all_models_of_the_plain_pipeline(settings):
    runs = {run.name: run for run in ablation.plan(settings).runs}
    assert len(runs) == 6 * 3
    assert runs["ablation-plain-seed1"].targets == ("evaluate@baseline", "evaluate@stage1", "evaluate@stage2")
    assert runs["ablation-logit-seed1"].targets == ("evaluate@stage1",)
    assert not any("teacher" in key for run in runs.values() for key in run.changes)
    assert list(runs)[-1] == "ablation-baseline-stage2-seed2"  # by then DVC's run cache has its baseline


def test_values_are_written_as_dvc_reads_them():
    from dvc.utils.hydra import to_hydra_overrides

    source = {"source": "unlabelled", "images": "/a b/ü,c", "step": 1}
    for value in (7e-5, 0.0, False, "labelled", None, [source], {"path": "/x", "sha256": "00"}):
        (parsed,) = to_hydra_overrides([f"a.b={override(value)}"])
        assert parsed.value() == value
        assert not parsed.is_sweep_override()


class TestUnlabelled:
    def test_the_settings_are_valid_and_leave_validation_alone(self, settings):
        changes = unlabelled.changes(settings)
        assert set(changes) == {"data.train", "teacher.checkpoint"}
        params = from_settings({"data": {**settings["data"], "train": changes["data.train"]}})
        assert [source.source for source in params.data.train] == ["unlabelled"]
        assert Path(changes["data.train"][0]["images"]).is_absolute()

    def test_a_path_means_one_content(self, settings):
        before = unlabelled.folder(settings)
        assert unlabelled.folder(settings) == before
        Path("models/teacher.safetensors").write_bytes(b"another")
        assert unlabelled.folder(settings) != before
        settings["data"]["train"][0]["images"] += 1
        assert unlabelled.folder(settings) != before

    def test_students_without_labels_wait_for_the_pictures(self, settings):
        runs = {run.name: run for run in unlabelled.plan(settings, (1,)).runs}
        assert runs["unlabelled-logits-seed1"].after == (unlabelled.PICTURES,)
        assert runs["unlabelled-logits-seed1"].changes["loss.alpha"] == 0
        assert "data.train" not in runs["unlabelled-labels-seed1"].changes

    def test_labels_of_photographs_are_not_withheld(self, settings):
        settings["data"]["train"] = [{"source": "coco_wholebody", "name": "coco", "images": "a", "annotations": "b"}]
        with pytest.raises(UserError, match="expected source: synthetic"):
            unlabelled.plan(settings)

    def test_without_a_teacher_the_line_says_what_to_do(self, settings):
        Path("models/teacher.safetensors").unlink()
        with pytest.raises(UserError, match=r"teacher\.safetensors: there is no such file yet; run `make repro` first"):
            unlabelled.plan(settings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ablation", "--jobs", "0"], "from 1"),
        (["seeds", "--seeds", "-1"], "from 0"),
        (["sweep", "--seeds", "x"], "invalid whole number"),
        (["seeds", "--seeds", "0", "0"], "found 0 0, expected each seed once"),
        (["nothing"], "invalid choice"),
    ],
)
def test_bad_options(arguments, words, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err
