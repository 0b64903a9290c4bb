"""Measurements: the hardware's name, where tables are written, and tables for people and programs."""

import argparse
import csv
import io
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from posedistill import project
from posedistill.errors import UserError, shorten
from posedistill.files import refuse_overwrite, write_atomic
from posedistill.parallel import cores
from posedistill.reporting.tables import aligned

Row = Mapping[str, object]


def hardware(device: str = "cpu") -> str:
    """A short name of the machine for file names: `amd-epyc-2core`, `nvidia-h100-80gb-hbm3`."""
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


def parse_size(option: str, text: str) -> tuple[int, int]:
    """(height, width) of `256x192`; a UserError naming `option` otherwise."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise UserError(f"{option} {shorten(text)}: expected HEIGHTxWIDTH in pixels, such as 256x192")
    return int(match[1]), int(match[2])


def add_output(parser: argparse.ArgumentParser, saved: str) -> None:
    """Options for the file to write. `saved` is the committed file's name, with {} for the hardware."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", type=Path, metavar="CSV", help="default: runs/benchmarks/…, outside the pipeline")
    where.add_argument("--save", action="store_true", help=f"write {saved.format('<hardware>')}, to be committed")
    parser.set_defaults(saved=saved)


def output_path(args: argparse.Namespace, device: str = "cpu") -> Path:
    """The CSV file to write, from the options of `add_output`. UserError if that is params.yaml."""
    saved = Path(args.saved.format(hardware(device)))
    folder = Path() if args.save else Path("runs")
    output = args.output or project.root() / folder / saved
    refuse_overwrite(output, project.root() / "params.yaml")
    return output


def columns(rows: Sequence[Row]) -> list[str]:
    """All columns of the rows, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def report(output: Path, rows: Sequence[Row], shown: Sequence[str] = ()) -> None:
    """Write the rows to `output` and print them, or their columns `shown`."""
    write_rows(output, rows)
    print_rows([{name: row[name] for name in shown} for row in rows] if shown else rows)
    print(f"written to {output}")


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
    print(aligned([names, *([_cell(row.get(name, "")) for name in names] for row in rows)]))


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
