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


def test_each_stage_of_the_pipeline_has_a_notebook_and_each_notebook_a_stage() -> None:
    used = set(re.findall(r"notebooks/(\w+)\.ipynb", (ROOT / "dvc.yaml").read_text()))
    # From 09 on they report on experiments, or are for trying things out.
    assert used == {path.stem for path in NOTEBOOKS if int(path.stem[:2]) <= 8}


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


def test_the_title_has_the_number_of_the_file(request: pytest.FixtureRequest, notebook: nbformat.NotebookNode) -> None:
    number = int(request.node.callspec.params["notebook"].stem[:2])
    assert notebook.cells[0].source.startswith(f"# {number}. ")
    headings = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    assert sum(line.startswith("# ") for line in headings) == 1
    assert sum(line.startswith("## ") for line in headings) >= 2


def saved_figures(notebook: nbformat.NotebookNode) -> list[ast.Call]:
    """The calls of save_figure and save_photo."""
    calls = [
        node
        for cell in notebook.cells
        if cell.cell_type == "code"
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    return [call for call in calls if call.func.attr in ("save_figure", "save_photo")]


def test_figures_are_named_after_the_notebook_and_described_in_words(
    request: pytest.FixtureRequest, notebook: nbformat.NotebookNode
) -> None:
    stem = request.node.callspec.params["notebook"].stem
    names = []
    for call in saved_figures(notebook):
        _, name, alternative = call.args
        if not isinstance(name, ast.Name):
            folder = ast.unparse(name).strip("f'\"").split("/")[0].removesuffix("-{model}")
            assert folder in stem, f"{ast.unparse(name)} in {stem}"
        if isinstance(alternative, ast.Constant):  # otherwise a variable
            assert " " in alternative.value, ast.unparse(name)
        names.append(ast.unparse(name))
    assert len(set(names)) == len(names)


def test_nothing_of_a_machine(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        assert not SYSTEM.search(cell.source), cell["id"]


def test_formulas_can_be_drawn_without_a_network(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert "$" not in re.sub(r'alt="[^"]*"|`[^`]*`', "", without_formulas(cell.source)), cell["id"]
