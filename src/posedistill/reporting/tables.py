"""Tables for reports as plain HTML and Markdown. Numbers are rounded only where they are shown."""

import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from posedistill.params import Source

Format = str | Callable[[Any], str]
MISSING = "–"
_ZERO = re.compile(r"(?<![\d.,])[-+](0(?:\.0+)?)(?![\d.,]*\d)")


def number(value: float | None, form: str = ".1f") -> str:
    """A number as text, for tables and sentences: `form` is a format specification such as ".1f" or "+.1f".

    A missing value (None, NaN) is "–", whole numbers (int) have no decimals, and what rounds to zero has no sign: never
    "-0.0", never "17.00 points".
    """
    if value is None or math.isnan(value):
        return MISSING
    if isinstance(value, int) and form.endswith("f"):
        form = ("+" if form.startswith("+") else "") + (",d" if "," in form else "d")
    return _unsigned_zero(format(value, form))


def interval(low: float, high: float, form: str = ".1f") -> str:
    """An interval as text: [1.0, 2.5]."""
    return f"[{number(low, form)}, {number(high, form)}]"


def _unsigned_zero(text: str) -> str:
    return _ZERO.sub(r"\1", text)


class Table:
    """A data frame as a notebook shows it. The index is the first column; `notes` stand below.

    `formats` maps a column to a format ("{:.1f}") or a function; missing values become "–", zeros have no sign.
    Rows named in `marked` are set apart in grey (published values on other data, for example).
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        formats: Mapping[str, Format] | Format | None = None,
        notes: str | Sequence[str] = (),
        marked: Sequence[Any] = (),
    ) -> None:
        self.frame = frame
        self.notes = [notes] if isinstance(notes, str) else list(notes)
        self.marked = set(marked)
        self._formats = (
            formats if isinstance(formats, Mapping) else {name: formats for name in frame.columns if formats}
        )

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows as text."""
        head = [str(self.frame.index.name or ""), *map(_label, self.frame.columns)]
        rows = [
            [_label(index), *(self._text(name, value) for name, value in zip(self.frame.columns, values))]
            for index, values in zip(self.frame.index, self.frame.itertuples(index=False, name=None))
        ]
        return head, rows

    def _text(self, column: Any, value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return MISSING
        form = self._formats.get(column)
        if form is None:
            return str(value)
        return form(value) if callable(form) else _unsigned_zero(form.format(value))

    def markdown(self) -> str:
        """As a Markdown table."""
        head, rows = self.cells()
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return "\n\n".join([text, *self.notes])

    def _repr_html_(self) -> str:
        head, rows = self.cells()
        sides = ["left", *("left" if _is_text([row[i] for row in rows]) else "right" for i in range(1, len(head)))]
        styles = [f' style="text-align: {side}; white-space: nowrap"' for side in sides]
        grey = ' style="color: #767676; font-style: italic"'
        body = "".join(
            f"<tr{grey if index in self.marked else ''}>"
            + "".join(f"<td{look}>{html.escape(cell)}</td>" for look, cell in zip(styles, row))
            + "</tr>\n"
            for index, row in zip(self.frame.index, rows)
        )
        top = "".join(f'<th style="text-align: {side}">{html.escape(cell)}</th>' for side, cell in zip(sides, head))
        notes = "".join(f"<p>{html.escape(note)}</p>\n" for note in self.notes)
        table = f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
        return f'<div style="overflow-x: auto">{table}</div>\n{notes}'  # a wide one scrolls instead of being cut

    def __repr__(self) -> str:
        return self.markdown()


def _is_text(cells: Sequence[str]) -> bool:
    """Whether a column holds words alone: none of its cells begins like a number."""
    words = [cell for cell in cells if cell not in ("", MISSING)]
    return bool(words) and not any(re.match(r"[-+<≤≥[\d]", cell) for cell in words)


def row_table(
    rows: Mapping[str, Mapping[str, Any]],
    corner: str,
    formats: Mapping[str, Format] | Format | None = None,
    notes: str | Sequence[str] = (),
) -> Table:
    """A table of rows, name → column → value, with `corner` as the head of the first column."""
    return Table(pd.DataFrame.from_dict(dict(rows), orient="index").rename_axis(corner), formats, notes)


class Plain:
    """A sentence as a notebook shows it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def _label(value: Any) -> str:
    return " ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines for a terminal, the columns padded to one width."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def key_values(values: Mapping[str, Any], head: tuple[str, str] = ("", "value")) -> Table:
    """Two columns: names and values."""
    frame = pd.DataFrame({head[1]: [_plain(value) for value in values.values()]}, index=list(values), dtype=object)
    frame.index.name = head[0]
    return Table(frame)


def settings_table(section: Any, prefix: str = "") -> Table:
    """The settings of a section of params.yaml, as the stage saw them; folders of this machine are left out."""
    values = {f"{prefix}{name}": value for name, value in section.present() if name not in ("root", "tracked")}
    return key_values({name: _setting(value) for name, value in values.items()}, ("setting", "value"))


def _setting(value: Any) -> Any:
    """As it stands in params.yaml; a source shows the keys that it has and that are set."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list | tuple) and value and hasattr(value[0], "present"):
        return "; ".join(_setting(item) for item in value)
    if hasattr(value, "present"):
        pictures = isinstance(value, Source) and "step" not in value.KEYS[value.source][1]
        given = [
            (name, item) for name, item in value.present() if item is not None and (name != "step" or not pictures)
        ]
        return ", ".join(
            f"{name} {_short(item) if name == 'sha256' else _plain(_setting(item))}" for name, item in given
        )
    return value


def _short(checksum: str) -> str:
    """Enough of a checksum to compare by eye: the whole would make the table wider than the page."""
    return f"{checksum[:8]}…" if len(checksum) > 8 else checksum


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if hasattr(value, "present"):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.present())
    return str(value)
