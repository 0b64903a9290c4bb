"""Reports as HTML files that need neither Jupyter nor a network: python -m posedistill.reporting.html reports html

nbconvert's own export loads MathJax and other scripts from the network. Here formulas become vector images (drawn by
matplotlib's mathtext, so notebooks keep to the LaTeX that it knows), and no script is left.
"""

import argparse
import base64
import io
import re
import sys
from pathlib import Path

from posedistill.errors import UserError
from posedistill.files import write_atomic

_FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<line>[^$\n]+?)\$", re.DOTALL)
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)

_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
main { max-width: 1100px; margin: 0 auto; }
.jp-InputPrompt, .jp-OutputPrompt { display: none; }
details > summary { color: #767676; font-size: 12px; cursor: pointer; }
img.formula-block { display: block; margin: 0.6em auto; }
</style>
{%- endblock -%}
{%- block data_png scoped -%}
<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:image/png;base64,{{ output.data['image/png'] }}" alt="{{ output.data['text/plain'] | escape_html }}"/>
</div>
{%- endblock -%}
{%- block data_jpg scoped -%}
<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:image/jpeg;base64,{{ output.data['image/jpeg'] }}" alt="{{ output.data['text/plain'] | escape_html }}"/>
</div>
{%- endblock -%}
{%- block input_group -%}<details><summary>code</summary>{{ super() }}</details>{%- endblock -%}
"""


def formula_image(formula: str, block: bool = False) -> str:
    """A LaTeX formula (without dollars) as an <img> that holds a vector image."""
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    text = f"${_known(' '.join(formula.split()))}$"
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "formula", "mathtext.fontset": "cm"}):
        try:
            prop = FontProperties(size=13 if block else 11)
            depth = math_to_image(text, buffer, prop=prop, dpi=72, format="svg")
        except ValueError as error:
            raise UserError(f"formula {text}: matplotlib's mathtext does not know it ({error!s:.80})") from error
    # Comments and metadata of the file hold its date.
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue().decode(), flags=re.DOTALL)
    data = base64.b64encode(svg.encode()).decode()
    place = 'class="formula-block"' if block else f'style="vertical-align: {-depth:.1f}pt"'
    alt = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<img {place} alt="{alt}" src="data:image/svg+xml;base64,{data}"/>'


def _known(formula: str) -> str:
    """Fractions as mathtext knows them: one size, arguments in braces."""
    return re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", re.sub(r"\\[td]frac", r"\\frac", formula))


def without_formulas(markdown: str) -> str:
    """Markdown with every $…$ and $$…$$ outside of code replaced by an image."""

    def image(match: re.Match) -> str:
        return formula_image(match["block"] or match["line"], block=match["block"] is not None)

    pieces = _CODE.split(markdown)
    return "".join(piece if i % 2 else _FORMULA.sub(image, piece) for i, piece in enumerate(pieces))


def export_report(report: Path) -> str:
    """One executed notebook as a whole HTML page."""
    import nbformat
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    notebook = nbformat.read(report, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = without_formulas(cell.source)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = without_formulas(output["data"]["text/markdown"])
    exporter = HTMLExporter(extra_loaders=[DictLoader({"offline.html.j2": _TEMPLATE})], template_file="offline.html.j2")
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": report.stem}})
    return body


def export_reports(reports: Path, out: Path) -> list[Path]:
    """Every report of a folder as <out>/<name>.html, and index.html with links to them."""
    found = sorted(Path(reports).glob("*.ipynb"))
    if not found:
        raise UserError(f"{reports}: no reports (*.ipynb) here; make repro writes them to reports/")
    written = []
    for report in found:
        target = Path(out) / f"{report.stem}.html"
        write_atomic(target, export_report(report))
        written.append(target)
    links = "\n".join(f'<li><a href="{path.name}">{path.stem.replace("_", " ")}</a></li>' for path in written)
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Reports</title>\n<ul>\n{links}\n</ul></html>\n'
    )
    write_atomic(Path(out) / "index.html", page)
    return written


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m posedistill.reporting.html", description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=Path, nargs="?", default=Path("reports"), help="executed notebooks (reports)")
    parser.add_argument("out", type=Path, nargs="?", default=Path("html"), help="folder for the pages (html)")
    options = parser.parse_args(argv)
    try:
        for path in export_reports(options.reports, options.out):
            print(path)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
