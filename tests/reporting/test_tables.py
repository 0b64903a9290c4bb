"""Tables: what stands in their cells, as HTML and as Markdown."""

import pandas as pd

from posedistill.reporting import published
from posedistill.reporting.tables import Table, interval, key_values


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


def test_interval():
    assert interval(1.04, 2.5) == "[1.0, 2.5]"


def test_published_rows_are_named_as_published():
    frame = published.frame()
    assert all(name.endswith("published") for name in frame.index)
    assert frame.loc["DWPose-l 384×288, published", "wholebody"] == 66.5
