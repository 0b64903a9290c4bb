"""python -m posedistill train: bad input is one line."""

import json
from pathlib import Path

import pytest

from posedistill.__main__ import main
from posedistill.params import ROLES

ROOT = Path(__file__).parents[2]


def test_help_names_the_stages(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(stage in text for stage in ROLES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as settings"),
        (json.dumps({"student": {"size": "huge"}}), "student.size"),
        (json.dumps({"student": {"epochs": -1}}), "student.epochs"),
        (json.dumps({"weather": {}}), "weather"),
    ],
)
def test_bad_settings_are_one_line(tmp_path, capsys, content, message):
    path = tmp_path / "settings.json"
    path.write_text(content)
    assert main(["train", "--stage", "baseline", "--params", str(path)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error and "Traceback" not in error


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["train", "--stage", "baseline", "--params", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_what_a_training_reads_is_never_its_output(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("posedistill.params._check_together", lambda params: None)
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_text("precious")
    for stage, option in (("stage1", "--teacher"), ("stage2", "--init")):
        for output in ("--output", "--curves"):
            arguments = ["--stage", stage, "--params", str(ROOT / "params.yaml"), option, str(teacher)]
            assert main(["train", *arguments, output, str(teacher)]) == 2
            assert "is read by this command, which would overwrite it" in capsys.readouterr().err
    assert teacher.read_text() == "precious"
