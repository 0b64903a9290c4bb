"""The measurements run and say what they claim; their numbers are judged where they are made."""

import argparse
import csv

import pytest

from posedistill.benchmark import cli, machine
from posedistill.benchmark.gpu_parts import operations
from posedistill.benchmark.machine import columns, hardware, print_rows, slug, write_rows
from posedistill.benchmark.training import measure_steps


def test_steps_are_measured_in_matrix_products():
    steps = {"stage 1, nw to n": ("nw", "n"), "stage 2, n": (None, "n")}
    rows = measure_steps(steps, batch=2, input_size=(32, 32), repeats=2)
    assert [row["step"] for row in rows] == list(steps)
    for row in rows:
        assert row["lowest"] <= row["torch.mm units"] <= row["highest"]
        phases = sum(row[f"{name} ms"] for name in ("forward", "backward", "optimizer", "ema"))
        assert row["ms"] == pytest.approx(phases, rel=0.5)


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


def test_a_part_that_does_not_exist(capsys):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["weather"])
    assert "invalid choice" in capsys.readouterr().err
    assert parser.parse_args(["gpu", "--small", "--minutes", "3"]).rest == ["--small", "--minutes", "3"]
