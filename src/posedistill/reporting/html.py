"""Reports as HTML files that need neither Jupyter nor a network: python -m posedistill.reporting.html reports html

nbconvert's own export loads MathJax and other scripts from the network. Here formulas become vector images (drawn by
matplotlib's mathtext, so notebooks keep to the LaTeX that it knows), and no script is left.
"""

import argparse
import base64
import io
import re
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from posedistill.errors import UserError, exits_with_line
from posedistill.files import write_atomic
from posedistill.reporting.style import MODEL_NAMES
from posedistill.reporting.tables import row_table

_FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<line>[^$\n]+?)\$", re.DOTALL)
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)

_STYLE = """
main { max-width: 1100px; margin: 0 auto; }
.jp-InputPrompt, .jp-OutputPrompt { display: none; }
.report-head { max-width: 1100px; margin: 8px auto; color: #595959; font: 13px sans-serif; }
.report-head label { margin-left: 2em; cursor: pointer; }
.report-code { display: none; }
#show-code { position: absolute; opacity: 0; }
#show-code:checked ~ main .report-code { display: block; }
#show-code:checked ~ .report-head .show, #show-code:not(:checked) ~ .report-head .hide { display: none; }
#show-code:focus-visible ~ .report-head label { outline: 2px solid; }
img { max-width: 100%; height: auto; }
.highlight pre, .highlight pre span, code { font-family: monospace !important; font-size: 13px; line-height: 1.45; }
.highlight pre { background: #f7f7f7; padding: 8px 12px; overflow-x: auto; }
img.formula-block { display: block; margin: 0.6em auto; }
"""

# One switch for all code, without a script: the pages work from a disk, in a mail, and where scripts are forbidden.
_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}<style>STYLE</style>{%- endblock -%}
{%- block body_header -%}
<body class="jp-Notebook" data-jp-theme-light="true" data-jp-theme-name="JupyterLab Light">
<input type="checkbox" id="show-code"/>
<div class="report-head"><a href="index.html">All reports</a><label for="show-code"><span class="show">Show the
code</span><span class="hide">Hide the code</span></label></div>
<main>
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
{%- block input_group -%}<div class="report-code">{{ super() }}</div>{%- endblock -%}
""".replace("STYLE", _STYLE)

# The order in which to read: heading → numbers of the reports under it; whatever is not listed comes last.
_ORDER = {
    "Start here: does distillation gain?": (7,),
    "The method, explained on one batch": (4, 5),
    "Every step of the pipeline": (1, 2, 3, 6, 8),
    "Experiments: seeds, parts, time, labels": (11, 9, 10, 12, 14),
}
_REST = "Further reports"


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
    """Fractions as mathtext knows them: one size, arguments in braces; brackets without size commands."""
    plain = re.sub(r"\\[bB]igg?[lr]?(?=[()\[\]|])", "", re.sub(r"\\[td]frac", r"\\frac", formula))
    return re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", plain)


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
    """Every report of a folder as <out>/<name>.html, and index.html: the result, the order to read in, what each
    answers."""
    found = sorted(Path(reports).glob("*.ipynb"))
    if not found:
        raise UserError(f"{reports}: no reports (*.ipynb) here; make repro writes them to reports/")
    written = []
    for report in found:
        target = Path(out) / f"{report.stem}.html"
        write_atomic(target, export_report(report))
        written.append(target)
    write_atomic(Path(out) / "index.html", index_page(Path(reports), found))
    return written


def index_page(reports: Path, found: Sequence[Path]) -> str:
    """The first page: the result table and picture of the comparison, then all reports under the headings of _ORDER."""
    number = {report: int(match[0]) if (match := re.match(r"\d+", report.stem)) else -1 for report in found}
    groups = {heading: [one for n in listed for one in found if number[one] == n] for heading, listed in _ORDER.items()}
    groups[_REST] = [one for one in found if all(one not in group for group in groups.values())]
    lines = ["<h1>Reports</h1>", _result(reports)]
    for heading, group in groups.items():
        if group:
            items = "\n".join(_entry(report) for report in group)
            lines += [f"<h2>{heading}</h2>", f"<ul>\n{items}\n</ul>"]
    style = "body { max-width: 1000px; margin: 2em auto; font: 16px/1.5 sans-serif; } img { max-width: 100%; }"
    style += " table { border-collapse: collapse; } td, th { padding: 2px 12px; } li { margin: 0.4em 0; }"
    head = f'<meta charset="utf-8"><title>Reports</title><style>{style}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(lines) + "\n</body></html>\n"


def _entry(report: Path) -> str:
    """A link with the report's title and its own summary."""
    import nbformat

    text = nbformat.read(report, as_version=4).cells[0].source
    title = text.splitlines()[0].lstrip("# ").strip()
    _, _, model = report.stem.partition("-")
    what = re.search(r"\*\*What\.\*\*\s*(.+?)\s*(?=\*\*Why|\n\n|$)", text, re.DOTALL)
    said = " ".join(what[1].split()) if what else ""
    name = f"{title}: {MODEL_NAMES.get(model, model)}" if model else title
    shown = re.sub(r"`([^`]*)`", r"<code>\1</code>", without_formulas(escape(said, quote=False)))
    return f'<li><a href="{report.stem}.html">{escape(name)}</a>. {shown}</li>'


def _result(reports: Path) -> str:
    """The metrics of the summary as a table, and the picture of the comparison; empty where they are missing."""
    from posedistill.evaluation.records import load_json

    shown = ""
    summary = reports / "metrics" / "summary.json"
    if summary.is_file():
        rows = {
            MODEL_NAMES.get(model, model): {
                "mean OKS, %": 100 * found["mean_oks"]["wholebody"],
                "AP, %": 100 * found["wholebody"],
            }
            for model, found in load_json(summary, "summary")[0].items()
        }
        note = "One training of each model; for intervals see 7. Compare."
        shown = row_table(rows, "whole body", "{:.1f}", note)._repr_html_()
    picture = reports / "figures" / "compare" / "persons.jpg"
    if picture.is_file():
        data = base64.b64encode(picture.read_bytes()).decode()
        alt = "Four persons by the truth, the teacher, the baseline, stage 1 and stage 1 + 2"
        shown += f'\n<p><img alt="{alt}" src="data:image/jpeg;base64,{data}"/></p>'
    return shown


@exits_with_line
def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m posedistill.reporting.html", description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=Path, nargs="?", default=Path("reports"), help="executed notebooks (reports)")
    parser.add_argument("out", type=Path, nargs="?", default=Path("html"), help="folder for the pages (html)")
    options = parser.parse_args(argv)
    for path in export_reports(options.reports, options.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
