"""Committed reports: whole, without errors, nothing in them of the machine or the moment they were made on."""

import base64
import json
import re
from pathlib import Path

import nbformat
import pytest
import verify

from posedistill.params import ROLES

ROOT = Path(__file__).parents[2]
REPORTS = sorted((ROOT / "reports").glob("*.ipynb"))
VOLATILE = re.compile(r" at 0x[0-9a-f]{6,}|/home/|/root/|/tmp/|/work/|\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
MEGABYTE = 2**20


@pytest.fixture(params=REPORTS, ids=lambda path: path.stem)
def report(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """All outputs that are text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output["text"] for output in outputs if output.output_type == "stream"]
    for output in outputs:
        found += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return found


def test_no_errors_and_every_code_cell_was_run(report: nbformat.NotebookNode) -> None:
    for cell in report.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None, cell["id"]
            assert cell.metadata.jupyter.source_hidden is True, cell["id"]
            assert not [
                output for output in cell.outputs if output.output_type == "error" or output.get("name") == "stderr"
            ]


def test_nothing_of_a_machine_or_a_moment(report: nbformat.NotebookNode) -> None:
    for text in texts(report):
        assert not VOLATILE.search(text), text[:200]
    assert "papermill" not in report.metadata


def shown_pictures(notebook: nbformat.NotebookNode) -> list[bytes]:
    bundles = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    return [
        base64.b64decode(content)
        for bundle in bundles
        for kind, content in bundle.items()
        if kind in ("image/png", "image/jpeg")
    ]


def test_figures_shown_are_the_files() -> None:
    """Every picture of a report is a file of reports/figures, every such file is in a report, and all have some."""
    shown = {path.stem: shown_pictures(nbformat.read(path, as_version=4)) for path in REPORTS}
    assert [name for name, pictures in shown.items() if not pictures] == []
    files = {path: path.read_bytes() for path in (ROOT / "reports" / "figures").rglob("*.*")}
    pictures = {picture for found in shown.values() for picture in found}
    assert [path.name for path, content in files.items() if content not in pictures] == []
    assert pictures == set(files.values())


def test_reports_are_small() -> None:
    files = [path for path in (ROOT / "reports").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10 * MEGABYTE


def test_seed_0_is_the_pipeline_within_the_tolerance_of_make_verify() -> None:
    """seeds.json is committed, the models' own metrics may come from another kind of processor."""
    metrics = ROOT / "reports" / "metrics"
    seeds = json.loads((metrics / "seeds.json").read_text())["models"]
    for model in ROLES:
        own = seeds.get(model, {}).get("0")
        if own is None:
            continue  # no seeds yet
        pipeline = json.loads((metrics / f"{model}.json").read_text())
        for part in verify.PARTS:
            assert own["AP"][part] == pytest.approx(pipeline[part]["AP"], abs=verify.TOLERANCES["AP"]), (model, part)
            assert own["mean_oks"][part] == pytest.approx(
                pipeline["mean_oks"][part], abs=verify.TOLERANCES["mean_oks"]
            ), (model, part)
