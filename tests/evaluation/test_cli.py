"""python -m posedistill evaluate."""

import argparse
import json

import pytest
from cases import random_case

from posedistill.errors import UserError
from posedistill.evaluation import cli, evaluate_wholebody
from posedistill.pipeline.evaluation_files import summarise


@pytest.fixture
def files(tmp_path):
    truth, predictions = random_case(11)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(predictions))
    (tmp_path / "half.json").write_text(json.dumps(predictions[::2]))
    return tmp_path


def evaluate(files, *more):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    given = ["--annotations", str(files / "gt.json"), "--predictions", str(files / "dt.json"), *map(str, more)]
    return cli.run(parser.parse_args(given))


def test_writes_what_evaluate_wholebody_returns(files, capsys):
    assert evaluate(files, "--output", files / "metrics.json") == 0
    assert json.loads((files / "metrics.json").read_text()) == evaluate_wholebody(files / "gt.json", files / "dt.json")
    out = capsys.readouterr().out
    assert "whole body" in out and "ARL" in out


def test_reference_agrees(files):
    evaluate(files, "--reference", "--output", files / "reference.json")
    evaluate(files, "--output", files / "metrics.json")
    reference, ours = (json.loads((files / f"{name}.json").read_text()) for name in ("reference", "metrics"))
    for part, metrics in ours.items():
        assert metrics == pytest.approx(reference[part], abs=1e-9)


def test_bootstrap_and_comparison(files, capsys):
    evaluate(files, "--bootstrap", 50, "--compare", files / "half.json", "--output", files / "metrics.json")
    content = json.loads((files / "metrics.json").read_text())
    low, high = content["intervals"]["wholebody"]["AP"]
    assert low <= content["wholebody"]["AP"] <= high
    assert set(content) >= {"compared", "difference_intervals"}
    assert "paired" in capsys.readouterr().out


def test_reference_has_no_intervals(files):
    with pytest.raises(UserError, match="--bootstrap"):
        evaluate(files, "--reference", "--bootstrap", 5)


@pytest.mark.parametrize("more", [[], ["--reference"]])
def test_says_that_no_person_counts(files, capsys, more):
    truth = json.loads((files / "gt.json").read_text())
    (files / "gt.json").write_text(json.dumps({**truth, "annotations": []}))
    evaluate(files, *more)
    assert "gt.json: no person counts: there is none" in capsys.readouterr().err


def test_output_must_be_a_file(files):
    with pytest.raises(UserError, match="is a folder"):
        evaluate(files, "--output", files)


def test_nothing_is_written_when_a_prediction_is_on_an_unknown_image(files):
    (files / "dt.json").write_text(json.dumps([{"image_id": 123456, "keypoints": [0] * 399, "score": 1}]))
    with pytest.raises(UserError, match="123456"):
        evaluate(files, "--output", files / "metrics.json")
    assert not (files / "metrics.json").exists()


def test_no_predictions_have_intervals_and_differences(files, capsys):
    (files / "dt.json").write_text("[]")
    evaluate(files, "--bootstrap", 5, "--compare", files / "half.json", "--output", files / "metrics.json")
    content = json.loads((files / "metrics.json").read_text())
    assert content["intervals"]["body"]["AP"] == [0, 0]
    assert content["difference_intervals"]["body"]["AP"][0] < 0
    evaluate(files, "--compare", files / "dt.json", "--bootstrap", 5)
    out = capsys.readouterr().out
    assert "0.00 to 0.00" in out and "-0.00" not in out and "+0.00" not in out


def test_no_images_have_no_metrics(files):
    (files / "gt.json").write_text('{"images": [], "annotations": []}')
    (files / "dt.json").write_text("[]")
    evaluate(files, "--bootstrap", 5, "--compare", files / "dt.json", "--output", files / "metrics.json")
    content = json.loads((files / "metrics.json").read_text())
    assert content["wholebody"]["AP"] == -1 and content["intervals"]["wholebody"]["AP"] == [-1, -1]


@pytest.mark.parametrize("target", ["gt.json", "dt.json", "half.json", "link.json", "hard.json", "sub/../gt.json"])
def test_no_input_is_written_over(files, target):
    (files / "sub").mkdir()
    (files / "link.json").symlink_to(files / "dt.json")
    (files / "hard.json").hardlink_to(files / "gt.json")
    before = {path: path.read_bytes() for path in files.glob("*.json")}
    with pytest.raises(UserError, match="overwrite"):
        evaluate(files, "--compare", files / "half.json", "--output", files / target)
    assert {path: path.read_bytes() for path in files.glob("*.json")} == before


def test_what_is_left_out_is_told(files, capsys):
    predictions = json.loads((files / "dt.json").read_text())
    (files / "dt.json").write_text(json.dumps([*predictions, {**predictions[0], "category_id": 2}]))
    evaluate(files)
    assert "1 of 13 predictions are left out: category_id 2 is not a person" in capsys.readouterr().err


def test_summary_of_models(files):
    for name in ("teacher", "stage1"):
        evaluate(files, "--output", files / f"{name}.json")
    summary = summarise([files / "teacher.json", files / "stage1.json"], files / "summary.json")
    assert json.loads((files / "summary.json").read_text()) == summary
    assert list(summary) == ["teacher", "stage1"]
    assert list(summary["stage1"]) == ["wholebody", "body", "foot", "face", "hand"]
    assert summary["stage1"]["hand"] == evaluate_wholebody(files / "gt.json", files / "dt.json")["hand"]["AP"]
