"""What a measurement carries: the hardware's name, and a table that people and programs read."""

import csv
import io
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from posedistill.devices import cores
from posedistill.files import write_atomic

Row = Mapping[str, object]


def hardware(device: str = "cpu") -> str:
    """The machine in a few letters, for a file's name: `amd-epyc-2core`, `nvidia-h100-80gb-hbm3`."""
    if device == "cuda":
        return slug(torch.cuda.get_device_name())
    return f"{slug(_processor())}-{cores()}core"


def slug(text: str) -> str:
    """Lower-case letters and digits, joined by hyphens."""
    text = re.sub(r"\((r|tm)\)|@.*|\bcpu\b|\bprocessor\b", " ", text.lower())
    return "-".join(re.findall(r"[a-z0-9.]+", text)) or "cpu"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = (line.split(":", 1)[1] for line in lines if line.startswith("model name"))
    return next(found, platform.processor() or "cpu")


def columns(rows: Sequence[Row]) -> list[str]:
    """All columns of the rows, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def write_rows(path: str | Path, rows: Sequence[Row]) -> None:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    write_atomic(path, text.getvalue())


def print_rows(rows: Sequence[Row]) -> None:
    """The rows as an aligned table on stdout."""
    names = columns(rows)
    table = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(names))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
