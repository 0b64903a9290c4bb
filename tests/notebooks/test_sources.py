"""Source notebooks: no outputs, no logic of their own, short cells with stable ids, formulas that the HTML knows."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from posedistill.reporting.html import without_formulas

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINES = 14  # of a code cell
SYSTEM = re.compile(r"/home/|/root/|/tmp/|https?://(?!arxiv\.org|github\.com)")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def test_all_stages_have_a_notebook() -> None:
    names = {path.stem for path in NOTEBOOKS}
    assert {
        *("01_prepare_data", "02_train_teacher", "03_train_baseline", "04_distill_stage1", "05_distill_stage2"),
        *("06_evaluate", "07_compare", "09_ablation", "11_seeds"),
    } <= names


def test_no_outputs_and_collapsed_code(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert cell.metadata.jupyter.source_hidden is True


def test_ids_are_names(notebook: nbformat.NotebookNode) -> None:
    ids = [cell["id"] for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in ids)


def test_cells_are_short_and_hold_no_logic(notebook: nbformat.NotebookNode) -> None:
    banned = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.While, ast.Try, ast.Lambda, ast.If)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)
            found = [type(node).__name__ for node in ast.walk(tree) if isinstance(node, banned)]
            assert not found, f"{cell['id']}: {found} belongs into the package"
            assert len(cell.source.splitlines()) <= LINES, cell["id"]


def test_first_cells(notebook: nbformat.NotebookNode) -> None:
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "project.enter()" in code[0].source + code[1].source
    tagged = [cell["id"] for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) <= 1


def test_headings_and_figures_are_named_after_the_notebook(notebook: nbformat.NotebookNode) -> None:
    headings = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    assert sum(line.startswith("## ") for line in headings) >= 2


def test_nothing_of_a_machine(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        assert not SYSTEM.search(cell.source), cell["id"]


def test_formulas_can_be_drawn_without_a_network(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert "$" not in re.sub(r'alt="[^"]*"|`[^`]*`', "", without_formulas(cell.source)), cell["id"]
