"""The file of figures that a GPU run fills: a CSV to which each measurement appends its row as soon as it has it."""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from posedistill.errors import UserError
from posedistill.files import refusal, write_atomic

COLUMNS = ("part", "what", "value", "unit", "bar", "met", "note")


@dataclass(frozen=True)
class Figures:
    """Rows of COLUMNS. They are on the disk when `add` returns, so a run that is cut off keeps them."""

    path: Path

    def start(self, kept: Iterable[Mapping[str, str]] = ()) -> None:
        """Begin the file anew, with the rows `kept` of an earlier run."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        write_atomic(self.path, text.getvalue())

    def add(
        self, part: str, what: str, value: float | str = "", unit: str = "", bar: str = "", note: str = ""
    ) -> dict[str, str]:
        """Append a row. `bar` is what the value should be, such as "≥ 4000"; whether it is so stands in `met`."""
        met = "" if isinstance(value, str) or not bar else ("yes" if reaches(value, bar) else "no")
        shown = value if isinstance(value, str) else f"{value:.4g}"
        row = dict(zip(COLUMNS, (part, what, shown, unit, bar, met, note)))
        text = io.StringIO()
        csv.DictWriter(text, COLUMNS, lineterminator="\n").writerow(row)
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {refusal(error) or error}") from error
        return row

    def rows(self) -> list[dict[str, str]]:
        """All rows so far; none where there is no file. A row that was cut off in the middle is left out."""
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row.values() and None not in row]

    def value(self, what: str) -> float | None:
        """The value of the row `what`, None where it was not measured."""
        found = [row["value"] for row in self.rows() if row["what"] == what and row["value"]]
        return float(found[-1]) if found else None


def reaches(value: float, bar: str) -> bool:
    """Whether `value` meets a bar such as "≥ 4000" or "≤ 0.1"."""
    sign, limit = bar.split()
    return value >= float(limit) if sign == "≥" else value <= float(limit)
