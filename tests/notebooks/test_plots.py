"""`dvc plots show`: DVC fills a page of ours, which draws without a network and opens with the comparison."""

import re
from configparser import ConfigParser
from pathlib import Path

from dvc_render.html import HTML
from dvc_render.vega import VegaRenderer

ROOT = Path(__file__).parents[2]


def template() -> str:
    config = ConfigParser()
    config.read(ROOT / ".dvc" / "config")
    return (ROOT / ".dvc" / config["plots"]["html_template"]).read_text(encoding="utf-8")


def test_the_page_loads_nothing():
    text = template()
    assert not re.search(r"""(src|href)=|https?:|@import""", text)
    # DVC's own scripts, which come from the network, are left out; the curves and pictures are not.
    assert HTML.SCRIPTS_PLACEHOLDER not in text and HTML.PLOTS_PLACEHOLDER_FORMAT_STR in text


def test_the_page_has_the_function_that_curves_call_and_the_fields_that_it_reads():
    assert "vegaEmbed(" in VegaRenderer.DIV and "function vegaEmbed(target, spec)" in template()
    points = [{"epoch": "1", "val_ap": "0.1", "rev": "workspace"}, {"epoch": "2", "val_ap": "0.2", "rev": "workspace"}]
    spec = VegaRenderer(points, "curves.tsv", x="epoch", y="val_ap").get_filled_template()
    assert spec["data"]["values"] == points and spec["encoding"]["x"]["field"] == "epoch"
    assert "'field': 'val_ap'" in str(spec["layer"])
