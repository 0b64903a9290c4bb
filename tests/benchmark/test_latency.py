"""Latency: what is counted, and that both runtimes are measured alike."""

import argparse
import csv
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from posedistill.benchmark import latency
from posedistill.errors import UserError

ROOT = Path(__file__).parents[2]
RUNTIMES = ("pytorch", "onnxruntime", "onnxruntime fp16", "onnxruntime int8")


def test_times_are_those_of_the_calls():
    def slow(images):
        until = time.perf_counter() + 0.004
        while time.perf_counter() < until:
            pass

    times = latency.measure({"slow": slow, "fast": lambda images: None}, torch.zeros(1), seconds=0.05)
    assert len(times["slow"]) == len(times["fast"]) >= 10
    assert np.median(times["slow"]) >= 4 > np.median(times["fast"])


def test_calls_are_limited():
    times = latency.measure({"fast": lambda images: None}, torch.zeros(1), seconds=9, maximum=12)
    assert len(times["fast"]) == 12


def measured(*arguments):
    parser = argparse.ArgumentParser()
    latency.add_arguments(parser)
    return latency.run(parser.parse_args([str(argument) for argument in arguments]))


def test_the_file_names_the_model_and_holds_both_runtimes(tmp_path, capsys):
    path = tmp_path / "here.csv"
    arguments = (
        "--size",
        "n",
        "--input-size",
        "64x32",
        "--batch",
        1,
        "--batch",
        2,
        "--seconds",
        0.01,
        "--output",
        path,
    )
    assert measured(*arguments) == 0
    rows = list(csv.DictReader(path.open()))
    assert [(row["runtime"], row["batch"]) for row in rows] == [
        *((name, batch) for batch in ("1", "2") for name in RUNTIMES),
    ]
    for row in rows:
        assert (row["size"], row["input_size"], row["device"]) == ("n", "64x32", "cpu")
        assert float(row["p95_ms"]) >= float(row["median_ms"]) > 0
        assert float(row["persons_per_s"]) == pytest.approx(
            1000 * int(row["batch"]) / float(row["median_ms"]), rel=0.01
        )
    assert "onnxruntime" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "folder"), [((), "runs/benchmarks"), (("--save",), "benchmarks")])
def test_measuring_makes_no_stage_stale_unless_asked(tmp_path, monkeypatch, capsys, options, folder):
    """`export` depends on benchmarks/latency."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path))
    monkeypatch.setattr("posedistill.params._check_together", lambda params: None)
    monkeypatch.setattr(latency, "latency_rows", lambda *_, **__: [dict.fromkeys(latency.SHOWN, 1)])
    assert measured("--size", "n", "--input-size", "32x32", *options) == 0
    written = [str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*.csv")]
    assert written == [f"{folder}/latency"]
    assert f"written to {tmp_path / folder / 'latency'}" in capsys.readouterr().out
    with pytest.raises(UserError, match="is read by this command"):
        measured("--output", tmp_path / "params.yaml")


def test_bad_arguments_are_one_clear_error(monkeypatch):
    with pytest.raises(UserError, match="--input-size 64: expected HEIGHTxWIDTH"):
        measured("--input-size", "64")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no GPU"):
        measured("--device", "cuda")
