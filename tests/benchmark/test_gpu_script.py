"""benchmarks/gpu.sh in miniature on the CPU: rendering, steps, loader, four trainings and their evaluation."""

import csv
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_script_measures_and_trains(tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--small", "--output", str(tmp_path)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (steps,) = tmp_path.glob("gpu-steps-*.csv")
    rows = list(csv.DictReader(steps.open()))
    assert [row["what"] for row in rows] == [
        "matrix product",
        "stage 1, nw to n",
        "stage 2, n",
        "stage 1, nw to n, with the loader",
    ]
    assert all(float(row["persons/s"]) > 0 for row in rows[1:])
    assert 0 <= float(rows[-1]["waiting for the loader"]) < 1
    (training,) = tmp_path.glob("gpu-training-*.csv")
    assert [row["model"] for row in csv.DictReader(training.open())] == ["teacher", "baseline", "stage1", "stage2"]
    assert len(list(tmp_path.glob("gpu-curves-*.tsv"))) == 4
