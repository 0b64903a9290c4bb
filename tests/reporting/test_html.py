"""Formulas as images, and pages that hold all they need."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from posedistill.errors import UserError
from posedistill.reporting import html


def test_formulas_become_images_and_code_stays():
    text = html.without_formulas("a $x^2$ `$no$`\n```\n$z$\n```\n$$\\tfrac12 \\sum_n x_n$$ and \\$5")
    assert text.count("<img") == 2
    assert "`$no$`" in text and "$z$" in text
    assert 'class="formula-block"' in text
    assert 'alt="$x^2$"' in text


def test_the_same_formula_is_the_same_image():
    assert html.formula_image("x_1") == html.formula_image("x_1")


def test_an_unknown_formula_is_named():
    with pytest.raises(UserError, match="nosuchcommand"):
        html.formula_image(r"\nosuchcommand{x}")


def test_pages_load_nothing(tmp_path: Path):
    cells = [nbformat.v4.new_markdown_cell("# Title\n\n$x$"), nbformat.v4.new_code_cell("1 + 1")]
    for kind in ("png", "jpeg"):
        shown = {f"image/{kind}": "AAAA", "text/plain": f'A "{kind}" of people'}
        cells[1].outputs.append(nbformat.v4.new_output("display_data", shown))
    (tmp_path / "reports").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "reports" / "01_a.ipynb")
    (page,) = html.export_reports(tmp_path / "reports", tmp_path / "out")
    text = page.read_text()
    assert "<script" not in text
    assert "cdnjs" not in text and "unpkg" not in text
    assert not re.search(r"""(src|href)=["']https?:|url\(["']?https?:|@import""", text)
    assert 'id="show-code"' in text and text.count('class="report-code"') == 1
    alternatives = [image["alt"] for image in BeautifulSoup(text, "html.parser").select("img[src*=AAAA]")]
    assert alternatives == ['A "png" of people', 'A "jpeg" of people']
    assert '<a href="01_a.html">Title</a>' in (tmp_path / "out" / "index.html").read_text()


def test_the_first_page_has_the_result_the_order_and_what_each_answers(tmp_path: Path):
    names = {
        "01_prepare": "1. Prepare",
        "07_compare": "7. Compare",
        "06_evaluate-stage1": "6. Evaluate",
        "20_own": "20. Own",
    }
    for name, title in names.items():
        cell = nbformat.v4.new_markdown_cell(f"# {title}\n\n**What.** It does\n{title}. **Why.** Because.")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / f"{name}.ipynb")
    (tmp_path / "metrics").mkdir()
    models = {"stage1": {"wholebody": 0.085, "mean_oks": {"wholebody": 0.445}}}
    (tmp_path / "metrics" / "summary.json").write_text(json.dumps(models))
    page = html.index_page(tmp_path, sorted(tmp_path.glob("*.ipynb")))
    soup = BeautifulSoup(page, "html.parser")
    links = [link["href"].removesuffix(".html") for link in soup.select("a")]
    assert links == ["07_compare", "01_prepare", "06_evaluate-stage1", "20_own"]
    assert soup.select("li")[2].get_text() == "6. Evaluate: stage 1. It does 6. Evaluate."
    assert [cell.get_text() for cell in soup.select("td")] == ["stage 1", "44.5", "8.5"]


def test_no_reports_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert html.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "no reports" in capsys.readouterr().err
