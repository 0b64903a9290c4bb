"""The comparison of models from the files that evaluations leave, and the tables and figures of the ablation."""

import json
from pathlib import Path

import numpy as np
import pytest
from reporting.made_up import annotations, predictions

from posedistill.analysis import models
from posedistill.evaluation.mean_oks import mean_of, person_oks
from posedistill.evaluation.wholebody import evaluate_wholebody
from posedistill.pipeline.compare import compare_models
from posedistill.pipeline.evaluation_files import (
    METRICS,
    person_oks_file,
    predictions_file,
    summarise,
    write_json,
    write_person_oks,
)
from posedistill.reporting import ablation, seeds
from posedistill.reporting.style import use_style

ERRORS = {"teacher": 0.5, "baseline": 3.0, "stage1": 1.5, "stage2": 1.5}


def evaluation_files(val_set: str, errors: dict[str, float], other_set: str | None = None) -> dict[str, dict]:
    """Write the ground truth of a set and the predictions of models that are `errors` pixels off; → their metrics."""
    truth = annotations(16)
    write_json(Path("prepared") / f"val-{val_set}" / "gt.json", truth)
    metrics = {}
    for model, error in errors.items():
        found = predictions(truth, error)
        oks = person_oks(truth, found)
        facts = {"val_set": val_set, "parameters": 600_000, "macs": 120_000_000}
        metrics[model] = {**evaluate_wholebody(truth, found), "mean_oks": mean_of(oks), **facts}
        write_json(predictions_file(model, other_set), found)
        write_person_oks(person_oks_file(model, val_set), oks)
    return metrics


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four models whose predictions are ERRORS pixels off, evaluated."""
    monkeypatch.chdir(tmp_path)
    for model, metrics in evaluation_files("rendered", ERRORS).items():
        write_json(METRICS / f"{model}.json", metrics)


def test_gains_have_the_sign_of_what_was_put_in(evaluated: None):
    found = compare_models(samples=60, seed=0)
    gain = found.oks["stage 1 − baseline"]["wholebody"]
    assert gain.significant and gain.low > 0
    assert not found.oks["stage 2 − stage 1"]["wholebody"].significant
    assert found.ap["teacher − baseline"]["wholebody"].mean > 0
    own = found.metrics["stage1"]["mean_oks"]["wholebody"] - found.metrics["baseline"]["mean_oks"]["wholebody"]
    assert gain.mean == pytest.approx(100 * own)
    assert "stage 1 − baseline" in models.words(found)


def test_further_validation_sets_are_compared_by_themselves(evaluated: None):
    alone = compare_models(samples=20, seed=0)
    assert models.other_sets_tables(alone) == []
    reversed_errors = dict(zip(ERRORS, reversed(ERRORS.values())))
    for model, other in evaluation_files("ubody", reversed_errors, "ubody").items():
        metrics = json.loads((METRICS / f"{model}.json").read_text())
        write_json(METRICS / f"{model}.json", {**metrics, "other_sets": {"ubody": other}})
    both = compare_models(samples=20, seed=0)
    assert both.oks == alone.oks and both.ap == alone.ap
    name, table = models.other_sets_tables(both)
    assert str(name) == "On ubody:" and list(table.frame.index) == ["teacher", "baseline", "stage 1", "stage 1 + 2"]
    frame, found = table.frame, both.others["ubody"]
    assert frame.loc["stage 1", "mean OKS, %"] == pytest.approx(100 * found.metrics["stage1"]["mean_oks"]["wholebody"])
    assert frame.loc["stage 1", "gain [95 %]"] == str(found.oks["stage 1 − baseline"]["wholebody"])
    assert found.oks["stage 1 − baseline"]["wholebody"].high < 0 < both.oks["stage 1 − baseline"]["wholebody"].low
    assert "On ubody:" in models.words(both) and "On " not in models.words(alone)


def test_the_answer_says_what_where_and_how_sure(evaluated: None):
    text = models.answer(compare_models(samples=20, seed=0), 4259)
    assert "0.60 M parameters" in text and "validation set “rendered”" in text and "same 4,259 persons" in text
    assert "stage 1 − baseline" in text and "in this one training" in text and "teacher −" not in text


def test_published_rows_stand_below_and_apart(evaluated: None):
    found = compare_models(samples=20, seed=0)
    head, rows = models.models_table(found).cells()
    baseline = dict(zip(head, rows[1]))
    assert (baseline["parameters, M"], baseline["gain [95 %]"]) == ("0.60", "–")
    table = models.parts_table(found, "AP")
    assert list(table.frame.index)[:4] == ["teacher", "baseline", "stage 1", "stage 1 + 2"]
    assert set(table.marked) == set(list(table.frame.index)[4:])
    assert "Another data set" in table.notes[0]


def test_the_summary_holds_ap_and_mean_oks_of_each_model(evaluated: None):
    summary = summarise([METRICS / f"{model}.json" for model in ERRORS])
    metrics = json.loads((METRICS / "stage1.json").read_text())
    assert json.loads((METRICS / "summary.json").read_text()) == summary and list(summary) == list(ERRORS)
    parts = ("wholebody", "body", "foot", "face", "hand")
    expected = {part: metrics[part]["AP"] for part in parts}
    expected["mean_oks"] = {part: metrics["mean_oks"][part] for part in parts}
    assert summary["stage1"] == expected


def test_part_values_are_percentages(evaluated: None):
    values = models.part_values(compare_models(samples=5, seed=0))
    assert 1 < values["stage1"]["wholebody"] <= 100


def _results() -> dict:
    rng = np.random.default_rng(0)
    parts = ("wholebody", "body", "foot", "face", "hand")
    numbers = {
        variant: {
            str(seed): {
                "AP": dict.fromkeys(parts, float(rng.uniform(0.1, 0.2))),
                "mean_oks": dict.fromkeys(parts, float(rng.uniform(0.3, 0.4))),
            }
            for seed in range(3)
        }
        for variant in ablation.NAMES
    }
    pooled = {part: [0.01, 0.005, 0.015] for part in parts}
    gain = {"pooled": pooled, "seeds": {"0": [0.01, 0, 0.02]}}
    return {"seeds": [0, 1, 2], "models": numbers, "differences": {"both − baseline": gain}}


def test_ablation_tables_and_figures():
    use_style()
    results = _results()
    figure = ablation.variants_figure(seeds.by_seed(results), "title")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(ablation.NAMES.values())
    (axes,) = ablation.differences_figure(results, "points").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["both − baseline"]
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert means == pytest.approx([1.0])  # 0.01 as a fraction
    logits = {"0": {"AP": {"wholebody": 0.2}}}
    labels = {"0": results["models"]["baseline"]["0"]}
    other = ablation.published_table(results, {"models": {"logits": logits, "labels": labels}})
    assert other.frame.loc["teacher's logits, no label", "here"] == 20
    of_another_run = ablation.published_table(results, {"models": {"logits": logits, "labels": logits}})
    assert of_another_run.frame.loc["teacher's logits, no label", "here"] is None
    table = ablation.published_table(results)
    assert "+0.5" in table.markdown() and "make unlabelled" in table.markdown()
    assert table.frame.loc["teacher's logits, no label", "published"] == 60.9
    assert table.frame.loc["teacher's logits, no label", "here"] is None


def test_the_conclusion_calls_a_gain_only_what_every_seed_shows():
    parts = ("wholebody", "body", "foot", "face", "hand")

    def case(mean: float, half: float, *single: float) -> dict:
        pooled = {part: [mean, mean - half, mean + half] for part in parts}
        return {"pooled": pooled, "seeds": {str(i): [value, 0, 0] for i, value in enumerate(single)}}

    differences = {
        "a − b": case(0.02, 0.01, 0.02, 0.01),
        "c − b": case(-0.02, 0.01, -0.03, -0.01),
        "d − b": case(0.002, 0.01, 0.001, 0.003),
        "e − b": case(0.02, 0.01, 0.05, -0.01),
    }
    text = ablation.conclusion({"seeds": [0, 1], "models": {}, "differences": differences})
    assert "**Gains**: a − b (+2.0)." in text
    assert "**Losses**: c − b (-2.0)." in text
    assert "**Not told apart from zero**: d − b (+0.2)." in text
    assert "**The seeds disagree**: e − b (+2.0)." in text
    none = ablation.conclusion({"seeds": [0], "models": {}, "differences": {}})
    assert "**Gains**: none." in none and "disagree" not in none


def test_the_names_of_variants_are_those_that_are_trained():
    from posedistill.experiments.ablation import VARIANTS

    assert list(ablation.NAMES) == list(VARIANTS)


def test_sweep_is_a_grid_of_alpha_and_beta():
    one = {"0": {"mean_oks": {"wholebody": 0.4}}}
    results = {"grid": {"a": [1e-5, 0.1], "b": [1e-4, 0.1]}, "models": {"a": one, "b": one}}
    frame = ablation.sweep_table(json.loads(json.dumps(results))).frame
    assert list(frame.index) == ["α = 1e-05", "α = 0.0001"]
    assert list(frame.columns) == ["β = 0.1"]
    (axes,) = ablation.sweep_figure(results).axes
    assert [text.get_text() for text in axes.texts] == ["40.0", "40.0"]
