"""benchmarks/gpu.sh: its parts end in time whatever they do, and the whole runs in miniature on a bare machine."""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posedistill.benchmark import cli, gpu, gpu_parts
from posedistill.benchmark.figures import Figures, reaches
from posedistill.benchmark.gpu import Part, run_parts
from posedistill.errors import UserError

ROOT = Path(__file__).parents[2]
# What the GPU machine lacks, and what only other parts of the project need.
ABSENT = ("dvc", "papermill", "pycocotools", "ruamel", "orjson", "av", "ijson", "sklearn", "jupyterlab", "IPython")
ABSENT += ("nbformat", "nbconvert", "xtcocotools")


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_part_that_hangs_and_one_that_fails_leave_the_others(tmp_path, monkeypatch):
    """The hanging one ignores SIGTERM, and has a child that does, too."""
    figures = Figures(tmp_path / "figures.csv")
    figures.start()
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)"
    child = tmp_path / "child"
    programs = {
        "first": f"print('first,speed,7,persons/s,,,', file=open({str(figures.path)!r}, 'a'))",
        "hangs": "import os, subprocess, sys\n"
        f"started = subprocess.Popen([sys.executable, '-c', {stubborn!r}])\n"
        f"open({str(child)!r}, 'w').write(str(started.pid))\n"
        f"print('hangs,speed of one,1,,,,', file=open({str(figures.path)!r}, 'a'))\n" + stubborn,
        "fails": "raise SystemExit('no such kernel')",
        "needs it": "print('never')",
        "last": f"print('last,gain,1.5,points,,,', file=open({str(figures.path)!r}, 'a'))",
    }
    parts = [
        Part("first", 1, ("speed",)),
        Part("hangs", 1, ("speed of one", "speed of two")),
        Part("fails", 1, ("memory",)),
        Part("needs it", 1, ("rate",), ("fails",)),
        Part("last", 1, ("gain",)),
    ]
    monkeypatch.setattr(gpu, "GRACE", 0.2)
    start = time.monotonic()
    failed = run_parts(parts, lambda part, *_: python(programs[part.name]), figures, start + 12.5)
    assert time.monotonic() - start < 12.5
    assert set(failed) == {"hangs", "fails", "needs it"}
    rows = {row["what"]: row for row in figures.rows()}
    assert (rows["speed"]["value"], rows["speed of one"]["value"], rows["gain"]["value"]) == ("7", "1", "1.5")
    assert rows["speed of two"]["note"].startswith("not reached: stopped after")
    assert rows["memory"]["note"] == "not reached: ended with 1: no such kernel"
    assert rows["rate"]["note"] == "not reached: needs the part fails, which failed"
    status = Path("/proc", child.read_text(), "status")
    assert not status.exists() or "State:\tZ" in status.read_text()  # ended, at most not yet buried


def test_parts_share_the_time_and_what_is_left_goes_on(tmp_path):
    figures = Figures(tmp_path / "figures.csv")
    figures.start()
    given: list[float] = []
    parts = [Part("a", 3, ()), Part("b", 1, ()), Part("c", 1, ())]

    def command(part: Part, _: Figures, seconds: float) -> list[str]:
        given.append(seconds)
        return python("")

    assert run_parts(parts, command, figures, time.monotonic() + 100) == {}
    assert given[0] == pytest.approx(60, abs=1) and given[1] > 45 and given[2] > 90
    run_parts(parts, command, figures, time.monotonic() + 1)
    assert len(given) == 3  # too little time to start anything


def test_rows_are_on_the_disk_and_survive_a_cut(tmp_path):
    figures = Figures(tmp_path / "figures.csv")
    figures.start([{"part": "old", "what": "kept", "value": "1"}])
    figures.add("new", "speed, l to t", 4321.6, "persons/s", "≥ 4000", "compiled, bfloat16")
    figures.add("new", "lost", 0.5, "s", "≤ 0.1")
    with figures.path.open("a") as file:
        file.write("new,cut o")
    assert [(row["what"], row["value"], row["met"]) for row in figures.rows()] == [
        ("kept", "1", ""),
        ("speed, l to t", "4322", "yes"),
        ("lost", "0.5", "no"),
    ]
    assert figures.value("lost") == 0.5 and figures.value("other") is None
    assert reaches(0.95, "≥ 0.95") and not reaches(0.2, "≤ 0.1")


def test_every_part_exists_and_comes_after_what_it_needs():
    for parts in gpu.PLANS.values():
        names = [part.name for part in parts]
        assert set(names) <= set(gpu_parts.PARTS)
        assert all(names.index(need) < names.index(part.name) for part in parts for need in part.needs)


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(["gpu", *given])


def test_bad_arguments_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--minutes: found 0, allowed: above 0"):
        cli.run(arguments("--minutes", "0"))
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path))
    (tmp_path / "params.yaml").write_text("{}")
    (tmp_path / "gpu-figures.csv").symlink_to("params.yaml")
    with pytest.raises(UserError, match="would overwrite it"):
        cli.run(arguments("--output", str(tmp_path)))


def without(packages: tuple[str, ...], folder: Path) -> Path:
    """A folder for PYTHONPATH that makes every Python process start without `packages`."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "plain = PathFinder.find_spec\n"
        "def find_spec(cls, name, path=None, target=None):\n"
        f"    return None if name.split('.')[0] in {packages!r} else plain(name, path, target)\n"
        "PathFinder.find_spec = classmethod(find_spec)\n"
    )
    return folder


@pytest.mark.slow
def test_the_whole_in_miniature_without_what_a_gpu_machine_lacks(tmp_path):
    output, report = tmp_path / "out", tmp_path / "report"
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--small", "--minutes", "20"]
    done = subprocess.run(
        [*command, "--output", str(output), "--report", str(report), "--work", str(tmp_path / "work")],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(without(ABSENT, tmp_path / "site"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = output.iterdir()
    rows = Figures(path).rows()
    assert not [row for row in rows if "not reached" in row["note"]]
    measured = {row["what"]: float(row["value"]) for row in rows}
    assert measured["stage 1, nw to n, with the loader: speed"] > 0
    assert 0 <= measured["stage 1, nw to n, with the loader: share of the time spent waiting"] <= 1
    (sizes,) = [json.loads((tmp_path / "work" / "epochs.json").read_text())]
    assert sizes == dict.fromkeys(("pretrain-student", "pretrain-teacher", "teacher", "baseline", "stage2"), 1)
    models = list(csv.DictReader((report / "models.csv").open()))
    assert [row["model"] for row in models] == ["teacher", "baseline", "stage1", "stage2"]
    text = (report / "README.md").read_text()
    assert "stage 1 + 2 − baseline" in text and "![" in text and "stage 1, nw to n, micro-batch 4" in text
    assert {path.name for path in report.glob("*.png")} == {"gain.png", "curves.png"}
