"""The measurement of scale, in miniature: every step at three sizes, with a report."""

import csv

import pytest

from posedistill.__main__ import main
from posedistill.benchmark import scale


def test_a_block_measures_time_and_memory():
    meter = scale.Meter()
    meter.begin()
    with meter.block("list", 3):
        kept = bytearray(64_000_000)
        kept[::4096] = b"x" * len(kept[::4096])
    (row,) = meter.rows
    assert (row["what"], row["count"]) == ("list", 3)
    assert 60 <= row["memory_mb"] <= 90 and row["seconds"] >= 0


def test_the_made_up_store_is_what_prepare_takes(tmp_path, monkeypatch):
    """All phases in this process: the books balance, the store has about as many persons, the loader gives them."""
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    meter = scale.Meter()
    scale.build_phase(tmp_path, 700, meter)
    scale.prepare_phase(tmp_path, 700, meter)
    scale.loader_phase(tmp_path, 700, meter, steps=2)
    scale.evaluation_phase(tmp_path, 200, meter)
    steps = [row["what"] for row in meter.rows]
    assert len(steps) == len(set(steps)) == 10 and steps[0] == "annotations in memory"
    stored = scale.store_of(tmp_path)
    assert abs(len(stored) - 700) < 70 and len(stored.meta["rows"]) == 2


def test_the_report_names_what_grows(tmp_path):
    rows = [
        {"share": f"{share}/16", "what": what, "count": 100 * share, "cpu_s": share, "memory_mb": grown * share}
        for share in (1, 4, 16)
        for what, grown in (("flat", 0), ("growing", 10))
    ]
    scale.write_report(rows, tmp_path / "scale.md", tmp_path / "scale.png")
    text = (tmp_path / "scale.md").read_text()
    assert (
        "| growing | 1,600 | 16.00 | 1.00 | 160 | 100.00 |" in text
        and "| flat | 1,600 | 16.00 | 1.00 | 0 | 0.00 |" in text
    )
    assert (tmp_path / "scale.png").is_file()


def test_too_small_is_one_line(capsys):
    assert main(["benchmark", "scale", "--persons", "10"]) == 2
    assert "allowed are at least 256" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command(tmp_path):
    output = tmp_path / "scale.csv"
    sizes = ["--persons", "1600", "--detections", "1600", "--steps", "2"]
    assert main(["benchmark", "scale", *sizes, "--output", str(output)]) == 0
    rows = list(csv.DictReader(output.open()))
    assert [row["count"] for row in rows if row["what"] == "evaluation: NMS"] == ["100", "400", "1600"]
    assert output.with_suffix(".md").is_file() and output.with_suffix(".png").is_file()
