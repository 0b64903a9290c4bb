"""Committed reports: whole, without errors, nothing in them of the machine or the moment they were made on."""

import json
import re
from pathlib import Path

import nbformat
import pytest

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


def test_figures_shown_are_the_files(report: nbformat.NotebookNode) -> None:
    kinds = [kind for cell in report.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert any(kind in ("image/png", "image/jpeg") for kind in kinds)


def test_reports_are_small() -> None:
    files = [path for path in (ROOT / "reports").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10 * MEGABYTE


def test_metrics_of_seed_0_are_those_of_the_pipeline() -> None:
    metrics = ROOT / "reports" / "metrics"
    seeds = json.loads((metrics / "seeds.json").read_text())["models"]
    for model in ("teacher", "baseline", "stage1", "stage2"):
        own = seeds.get(model, {}).get("0")
        if own is None:
            continue  # no seeds yet
        pipeline = json.loads((metrics / f"{model}.json").read_text())
        assert own["mean_oks"] == pytest.approx(
            {part: pipeline["mean_oks"][part] for part in own["mean_oks"]}, abs=1e-6
        )
        assert own["AP"] == pytest.approx({part: pipeline[part]["AP"] for part in own["AP"]}, abs=1e-6)
