"""Reports in a real browser: JupyterLab and the offline HTML pages, without a network."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from browser import CHROMIUM, Page, chromium, jupyterlab
from nbclient import NotebookClient

from posedistill.pipeline.notebook import clean
from posedistill.reporting.html import export_reports

ROOT = Path(__file__).parents[2]
NOTEBOOKS, REPORTS = ROOT / "notebooks", ROOT / "reports"
SOURCES = (
    "# A report\n\nThe loss is $L = \\alpha L_\\mathrm{fea} + \\frac{1}{N}\\sum_n x_n$.",
    "import matplotlib.pyplot as plt, pandas as pd\n"
    "from pathlib import Path\n"
    "from posedistill.reporting.style import save_figure, use_style\n"
    "from posedistill.reporting.tables import Table\n"
    "use_style()\nfigure, axes = plt.subplots(figsize=(9, 3))\n_ = axes.plot([1, 2, 4])\n"
    "save_figure(figure, 'stage-curve', folder=Path('figures'))",
    "Table(pd.DataFrame({'AP': [1.5]}, index=['body']))",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
ERRORS = "document.querySelectorAll('.jp-Notebook :is([data-mime-type*=stderr], [data-mime-type*=error])').length"
OPEN_CODE = "[...document.querySelectorAll('.jp-CodeCell .jp-InputArea-editor')].filter(e => e.offsetHeight).length"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small executed report and copies of the committed ones."""
    folder = tmp_path_factory.mktemp("lab") / "reports"
    folder.mkdir()
    head, *code = SOURCES
    cells = [nbformat.v4.new_markdown_cell(head), *(nbformat.v4.new_code_cell(source) for source in code)]
    for cell in cells[1:]:
        cell.metadata["jupyter"] = {"source_hidden": True}
    source = nbformat.read(NOTEBOOKS / "01_prepare_data.ipynb", as_version=4)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=source.metadata)
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    (folder / "00_small.ipynb").write_text(nbformat.writes(clean(notebook)) + "\n")
    for path in sorted(REPORTS.glob("*.ipynb")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def shots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: POSEDISTILL_SHOTS keeps them."""
    folder = Path(os.environ.get("POSEDISTILL_SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def lab(reports: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab on the reports."""
    with jupyterlab(reports.parent, tmp_path_factory.mktemp("home")) as address:
        yield address


def open_report(page: Page, address: str, name: str) -> None:
    """Open a report in JupyterLab and wait for its first heading; its first picture comes into view."""
    page.open(f"{address}/lab/tree/reports/{name}?reset")
    page.wait_for("document.querySelectorAll('.jp-Notebook .jp-Cell').length > 0")
    page.wait_for("document.querySelector('.jp-Notebook h1') !== null")
    page.evaluate("(document.querySelector('.jp-Notebook img') || document.body).scrollIntoView()")


def test_a_report_opens_in_jupyterlab(lab: str, shots: Path, tmp_path: Path) -> None:
    """A figure, a formula and a table are seen, code is folded away, nothing is an error, and nobody is asked."""
    with chromium(tmp_path / "profile") as page:
        open_report(page, lab, "00_small.ipynb")
        page.wait_for("document.querySelector('.jp-RenderedImage img')?.naturalWidth === 900")
        page.wait_for("document.querySelector('mjx-container') !== null")  # the formula, without a network
        page.wait_for("document.querySelectorAll('.jp-RenderedHTML table').length === 1")
        assert page.evaluate(ERRORS) == 0
        assert page.evaluate(OPEN_CODE) == 0
        page.screenshot(shots / "lab.png")


def test_opening_and_saving_a_report_changes_no_byte(lab: str, reports: Path, tmp_path: Path) -> None:
    """The kernel that JupyterLab starts for a report reports its language: already there, so nothing is dirty."""
    report = reports / "00_small.ipynb"
    before, written = report.read_bytes(), report.stat().st_mtime_ns
    with chromium(tmp_path / "profile") as page:
        open_report(page, lab, report.name)
        page.wait_for("document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'")
        page.evaluate("new Promise(done => setTimeout(done, 1000))")  # it would become dirty just after that
        assert page.evaluate("document.querySelectorAll('.jp-mod-dirty').length") == 0
        page.evaluate("document.querySelector('.jp-Notebook').focus()")
        page.press_save()
        page.wait_for("document.body.innerText.includes('Saving completed')", seconds=20)
    assert report.stat().st_mtime_ns > written
    assert report.read_bytes() == before


def test_make_lab_saves_nothing_by_itself() -> None:
    """What `make lab` writes as JupyterLab's defaults is a setting that this JupyterLab has."""
    recipe = subprocess.run(["make", "--dry-run", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in recipe.splitlines() if "overrides.json" in line]
    defaults = json.loads(line[line.index("{") : line.rindex("}") + 1])
    assert defaults == {"@jupyterlab/docmanager-extension:plugin": {"autosave": False}}
    schema = Path(sys.prefix, "share/jupyter/lab/schemas/@jupyterlab/docmanager-extension/plugin.json")
    assert json.loads(schema.read_text())["properties"]["autosave"]["type"] == "boolean"


@pytest.mark.slow
def test_all_reports_open_in_jupyterlab(lab: str, reports: Path, shots: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as page:
        for name in sorted(path.name for path in reports.glob("*.ipynb")):
            open_report(page, lab, name)
            assert page.evaluate(ERRORS) == 0, name
            assert page.evaluate(OPEN_CODE) == 0, f"{name} shows code"
            page.screenshot(shots / f"{name}.png")


@pytest.mark.slow
def test_offline_pages_show_figures_and_formulas_and_ask_nobody(reports: Path, shots: Path, tmp_path: Path) -> None:
    pages = export_reports(reports, tmp_path / "html")
    with chromium(tmp_path / "profile") as page:
        for path in pages:
            page.open(path.as_uri())
            broken = "[...document.images].filter(image => !image.naturalWidth).length"
            assert page.evaluate(broken) == 0, path.name
            page.screenshot(shots / f"{path.name}.png")
        outside = [url for url in page.requests if not url.startswith(("file:", "data:", "about:", "blob:"))]
        assert outside == []
        page.open(pages[0].as_uri())
        assert page.evaluate("document.querySelectorAll('img[class=formula-block], img[alt^=\"$\"]').length") == 1
        assert page.evaluate("document.querySelectorAll('.jp-RenderedImage img').length") == 1
        code = "[...document.querySelectorAll('.report-code')].filter(cell => cell.offsetParent).length"
        assert page.evaluate(code) == 0
        page.evaluate("document.querySelector('#show-code').click()")
        assert page.evaluate(code) > 0
