"""The measurement of the data path runs, small, and its table says what it must."""

import csv

import pytest

from posedistill.__main__ import main


@pytest.mark.slow
def test_writes_a_table(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEDISTILL_SHARED", str(tmp_path / "absent"))
    output = tmp_path / "data.csv"
    command = ["benchmark", "data", "--images", "4", "--samples", "8", "--repeats", "2", "--input", "64x64"]
    assert main([*command, "--output", str(output)]) == 0
    rows = {row["step"]: row for row in csv.DictReader(output.open())}
    assert float(rows["worker"]["persons_per_s"]) > 1
    assert float(rows["worker + device"]["persons_per_s"]) < float(rows["worker"]["persons_per_s"])
    assert int(rows["bytes per person to the device"]["value"]) == 64 * 64 * 3 + 133 * 12 + 36
    assert {"worker: decode", "worker: warp", "worker for a GPU, with median blur"} <= rows.keys()
    assert {"device", "loader, all workers", "torch.mm"} <= rows.keys()


def test_bad_arguments(tmp_path, capsys):
    assert main(["benchmark", "data", "--input", "large"]) != 0
    assert "expected HEIGHTxWIDTH" in capsys.readouterr().err
    assert main(["benchmark", "data", "--real", str(tmp_path)]) != 0
    assert "there is no annotations" in capsys.readouterr().err
