"""What `make seeds`, `make ablation`, `make sweep`, `make unlabelled` and `make verdict` run, and what is compared."""

import json
from pathlib import Path

import pytest

from posedistill.errors import UserError
from posedistill.experiments import PLANS, ablation, costs, engine, seeds, unlabelled, verdict
from posedistill.experiments.__main__ import main
from posedistill.experiments.plan import override
from posedistill.losses import EXTRA_TERMS
from posedistill.params import from_settings, read_settings

ROOT = Path(__file__).parents[2]
COST = 1.75


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
    monkeypatch.setattr(costs, "_measure", lambda settings, variants: dict.fromkeys(variants, COST))
    settings = read_settings(ROOT / "params.yaml")
    settings["student"]["epochs"] = 2
    return settings


@pytest.mark.parametrize("name", PLANS)
def test_what_is_compared_is_run_and_changes_only_settings_that_exist(settings, name):
    plan = PLANS[name](settings, (0, 3))
    targets = {run.name: run.targets for run in plan.runs}
    assert len(targets) == len(plan.runs)
    for model in plan.models:
        for seed in plan.seeds:
            places = plan.places(model, seed)
            assert sum(share for *_, share in places) == pytest.approx(1)
            for run, stage, _ in places:
                assert f"evaluate@{stage}" in targets[run]
                assert run.startswith(f"{name}-") and run.endswith(f"-seed{seed}")  # by which results are found again
    assert {model for pair in plan.pairs.values() for model in pair} <= set(plan.models)
    for key in {key for run in plan.runs for key in run.changes}:
        section, leaf = key.split(".")
        assert leaf in settings[section]


@pytest.mark.parametrize("name", PLANS)
def test_dvc_can_apply_the_changes_of_every_run(settings, name, tmp_path):
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.json"
    for run in PLANS[name](settings, (0,)).runs:
        path.write_text(json.dumps(settings))
        apply_overrides(str(path), [f"{key}={override(value)}" for key, value in run.changes.items()])
        changed = json.loads(path.read_text())
        for key, value in run.changes.items():
            section, leaf = key.split(".")
            assert changed[section][leaf] == value


def test_seed_0_changes_nothing_and_the_longer_baseline_takes_the_time_of_stage_1(settings):
    plan = seeds.plan(settings)
    runs = {run.name: run for run in plan.runs}
    assert len(runs) == 9
    for key, value in runs["seeds-all-seed0"].changes.items():
        section, leaf = key.split(".")
        assert settings[section][leaf] == value
    # 2 epochs × 1.75: half of 3 and half of 4 epochs
    assert [runs[f"seeds-long{epochs}-seed1"].changes["student.epochs"] for epochs in (3, 4)] == [3, 4]
    longer = [("seeds-long3-seed1", "baseline", 0.5), ("seeds-long4-seed1", "baseline", 0.5)]
    assert plan.places("baseline_long", 1) == longer
    assert plan.notes["long"] == {"epochs": 3.5, "of": 2, "cost": COST, "trained": [3, 4]}
    assert plan.places("stage1", 1) == [("seeds-all-seed1", "stage1", 1.0)]


def test_a_whole_number_of_epochs_needs_one_training(settings, monkeypatch):
    monkeypatch.setattr(costs, "_measure", lambda settings, variants: dict.fromkeys(variants, 1.5))
    plan = seeds.plan(settings)
    assert len(plan.runs) == 6 and plan.places("baseline_long", 0) == [("seeds-long3-seed0", "baseline", 1.0)]


def test_epochs_lie_between_whole_numbers():
    assert costs.between(3.5) == (3, 4, 0.5) and costs.between(3.0) == (3, 3, 0.0)
    assert costs.between(0.8) == (1, 1, 0.0)  # no fewer than one
    assert costs.whole_epochs([3.5, 3.0, 5.2]) == [3, 4, 5, 6]


def test_costs_are_measured_once(settings, monkeypatch):
    variants = {"logits": ({"loss.alpha": 0.0}, "stage1")}
    assert costs.relative_costs(settings, variants) == {"logits": COST}
    monkeypatch.setattr(costs, "_measure", lambda *_: pytest.fail("measured again"))
    assert costs.relative_costs(settings, variants) == {"logits": COST}
    monkeypatch.setattr(costs, "_measure", lambda settings, variants: dict.fromkeys(variants, 2.5))
    settings["train"]["batch"] *= 2
    assert costs.relative_costs(settings, variants) == {"logits": 2.5}


class TestVerdict:
    def test_every_loss_is_judged_at_equal_epochs_and_equal_time(self, settings):
        plan = verdict.plan(settings, (0,))
        ways = verdict.variants(settings)
        assert set(EXTRA_TERMS) <= set(ways)
        assert len(plan.pairs) == 2 * len(ways)
        for name, way in ways.items():
            assert plan.pairs[f"{way.text} − baseline"] == (name, "baseline")
            low, high, share = plan.between[f"{name}-time"]
            trained = (1 - share) * int(low.removeprefix("baseline")) + share * int(high.removeprefix("baseline"))
            assert trained == pytest.approx(plan.notes["epochs"][name])
        assert plan.notes["epochs"]["logits"] == 3.5
        # stage 2 comes on top of stage 1
        assert plan.notes["epochs"]["stages"] == 3.5 + settings["stage2"]["epochs"] * COST
        assert plan.places("baseline", 0) == [("verdict-baseline2-seed0", "baseline", 1.0)]

    def test_the_settings_of_every_loss_are_valid(self, settings):
        verdict.second_teacher(settings).parent.mkdir(parents=True)
        verdict.second_teacher(settings).write_bytes(b"content")
        bare = {name: settings[name] | {"backbone": None} for name in ("teacher", "student")}
        bare["teacher"]["init"] = None
        for way in verdict.variants(settings).values():
            from_settings(engine.changed(settings | bare, way.changes))

    def test_a_larger_teacher_is_trained_once_and_first(self, settings):
        runs = {run.name: run for run in verdict.plan(settings).runs}
        assert runs["verdict-larger-seed2"].after == (verdict.LARGER,)
        assert runs[verdict.LARGER].changes == {"teacher.input": {"height": 192, "width": 144}}

    def test_with_a_given_teacher_there_is_no_other(self, settings):
        settings["teacher"]["checkpoint"] = {"path": "given.onnx", "sha256": None}
        assert not {"teachers", "larger"} & set(verdict.variants(settings))


def test_the_ablation_has_one_run_for_all_models_of_the_plain_pipeline(settings):
    runs = {run.name: run for run in ablation.plan(settings).runs}
    assert len(runs) == 7 * 3 + 1
    assert runs["ablation-plain-seed1"].targets == ("evaluate@baseline", "evaluate@stage1", "evaluate@stage2")
    assert runs["ablation-logit-seed1"].targets == ("evaluate@stage1",)
    assert {key for run in runs.values() for key in run.changes if "teacher" in key} == {"teacher.input"}
    assert runs["ablation-larger-teacher-seed1"].after == (ablation.LARGER,)
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
