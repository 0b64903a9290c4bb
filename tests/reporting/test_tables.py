"""Tables: what stands in their cells, as HTML and as Markdown."""

from pathlib import Path

import pandas as pd
import pytest

from posedistill.params import load_params
from posedistill.reporting import published
from posedistill.reporting.comparison import Difference
from posedistill.reporting.tables import Table, interval, key_values, number, settings_table


def test_missing_values_formats_and_marks():
    frame = pd.DataFrame({"AP": [1.25, float("nan")], "n": [1200, 3]}, index=["ours", "published <x>"])
    table = Table(frame, {"AP": "{:.1f}", "n": "{:,}"}, notes="a note", marked=["published <x>"])
    assert table.cells() == (["", "AP", "n"], [["ours", "1.2", "1,200"], ["published <x>", "–", "3"]])
    text = table._repr_html_()
    assert "published &lt;x&gt;" in text
    assert text.count("italic") == 1
    assert "<p>a note</p>" in text
    assert table.markdown().splitlines()[0] == "|  | AP | n |"
    assert repr(table) == table.markdown()


def test_settings_are_plain_words():
    table = key_values({"a": None, "b": True, "c": 7e-5, "d": [0.75, 1.25], "e": {"p": 0.5}, "f": 12000})
    assert [row[1] for row in table.cells()[1]] == ["none", "yes", "7e-05", "0.75, 1.25", "p 0.5", "12,000"]


def test_a_checksum_in_the_settings_does_not_widen_the_table():
    settings = load_params(Path(__file__).parents[2] / "params.yaml")
    table = settings_table(settings.student, "student.")
    (backbone,) = (row[1] for row in table.cells()[1] if row[0] == "student.backbone")
    assert "assets/backbones" in backbone and "sha256" in backbone and backbone.endswith("…") and len(backbone) < 90


def test_a_source_shows_its_own_settings_alone():
    data = load_params(Path(__file__).parents[2] / "params.yaml").data
    rows = dict(settings_table(data, "data.").cells()[1])
    assert rows["data.train"].startswith("source synthetic") and "step" not in rows["data.train"]
    other = type(data.train[0])(source="ubody", name="ubody", step=5)
    shown = settings_table(data.model_copy(update={"train": (other,)}), "data.").cells()[1]
    assert dict(shown)["data.train"] == "source ubody, name ubody, step 5"


def test_interval():
    assert interval(1.04, 2.5) == "[1.0, 2.5]"


def test_published_rows_are_named_as_published():
    frame = published.frame()
    assert all(name.endswith("published") for name in frame.index)
    assert frame.loc["DWPose-l 384×288, published", "wholebody"] == 66.5


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (-0.04, ".1f", "0.0"),
        (-0.04, "+.1f", "0.0"),
        (0.04, "+.1f", "0.0"),
        (-0.06, "+.1f", "-0.1"),
        (-10.0, ".0f", "-10"),
        (-0.004, ".2%", "-0.40%"),
        (17, ".2f", "17"),
        (1200, ",.1f", "1,200"),
        (17.0, ".2f", "17.00"),
        (-0.0, ".3g", "0"),
        (-0.05, ".2f", "-0.05"),
        (None, ".1f", "–"),
        (float("nan"), "+.1f", "–"),
    ],
)
def test_numbers_have_no_sign_on_zero_and_counts_no_decimals(value, form, text):
    assert number(value, form) == text


def test_zeros_in_tables_and_differences_have_no_sign():
    table = Table(pd.DataFrame({"gain": [-0.001, 0.25]}), "{:+.1f}")
    assert [row[1] for row in table.cells()[1]] == ["0.0", "+0.2"]
    assert str(Difference(-0.04, -0.01, 0.21)) == "0.0 [0.0, +0.2]"
