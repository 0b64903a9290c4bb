"""The measurements run and say what they claim; their numbers are judged where they are made."""

import argparse
import csv

import pytest

from posedistill.benchmark import cli, machine
from posedistill.benchmark.gpu import SMALL, epochs_for, operations, settings
from posedistill.benchmark.machine import columns, hardware, print_rows, slug, write_rows
from posedistill.benchmark.training import BAR, STEPS, measure_steps
from posedistill.errors import UserError
from posedistill.params import from_settings


def test_steps_are_measured_in_matrix_products():
    steps = {"stage 1, nw to n": ("nw", "n", 100.0), "stage 2, n": (None, "n", 50.0)}
    rows = measure_steps(steps, batch=2, input_size=(32, 32), repeats=2)
    assert [row["step"] for row in rows] == list(steps)
    for row, (_, _, published) in zip(rows, steps.values()):
        assert row["lowest"] <= row["torch.mm units"] <= row["highest"]
        assert row["bar"] == BAR * published
        assert row["share of published"] == pytest.approx(row["torch.mm units"] / published)
        phases = sum(row[f"{name} ms"] for name in ("forward", "backward", "optimizer", "ema"))
        assert row["ms"] == pytest.approx(phases, rel=0.5)


def test_the_published_steps_are_those_of_the_issue():
    assert {name: published for name, (_, _, published) in STEPS.items()} == {
        "stage 1, l to t": 105,
        "stage 1, x to l": 320,
        "stage 2, l": 80,
    }


def test_rows_with_different_columns_make_one_table(tmp_path, capsys):
    rows = [{"what": "a, b", "ms": 1.23456789}, {"what": "c", "persons/s": 7}]
    assert columns(rows) == ["what", "ms", "persons/s"]
    write_rows(tmp_path / "rows.csv", rows)
    assert list(csv.DictReader((tmp_path / "rows.csv").open())) == [
        {"what": "a, b", "ms": "1.235", "persons/s": ""},
        {"what": "c", "ms": "", "persons/s": "7"},
    ]
    print_rows(rows)
    assert capsys.readouterr().out.splitlines()[0].split() == ["what", "ms", "persons/s"]


def test_hardware_is_a_file_name(monkeypatch):
    monkeypatch.setattr(machine, "_processor", lambda: "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz")
    monkeypatch.setattr(machine, "cores", lambda: 4)
    assert hardware() == "intel-xeon-e5-2686-v4-4core"
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_operations_of_a_step():
    """43 GFLOP a person for x to l: 18.1 GMACs at 384x288 are 8 at 256x192, and 4.5 for l."""
    assert operations("x", "l", (256, 192)) == pytest.approx(43e9, rel=0.05)


def test_small_settings_are_complete_and_render_little(tmp_path):
    params = from_settings(settings(SMALL, tmp_path))
    assert (params.input.size, params.data.train[0].images, params.student.size) == ((64, 64), SMALL.images, "n")
    assert params.data.root == str(tmp_path)


def test_epochs_fill_the_time_but_are_at_least_one():
    assert epochs_for(300, 8000, 2500) > epochs_for(100, 8000, 2500) >= 1
    assert epochs_for(0, 8000, 2500) == 1


def test_a_part_that_does_not_exist(capsys):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["weather"])
    assert "invalid choice" in capsys.readouterr().err
    assert parser.parse_args(["gpu", "--small", "--minutes", "3"]).rest == ["--small", "--minutes", "3"]


def test_without_a_gpu_one_line(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    with pytest.raises(UserError, match="finds no GPU here"):
        cli.run(parser.parse_args(["gpu"]))
