"""The precision certificate as tables: what fp16 and int8 lose against fp32, and what they save."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from posedistill.export.certificate import TOLERATED, Estimate, Row
from posedistill.keypoints import MAIN_PARTS, PART_NAMES
from posedistill.reporting.tables import Table, interval, number


def files_table(rows: Sequence[Row], latency: pd.DataFrame) -> Table:
    """Each file's size, its time from `latency` (`export.read_latency`), and the verdict on it."""
    table = {
        row.precision: {
            "file": str(row.path),
            "MiB": row.file_bytes / 2**20,
            **_times(latency, row.precision),
            "verdict": "the reference" if not row.ap_difference else _verdict(row),
        }
        for row in rows
    }
    frame = pd.DataFrame.from_dict(table, orient="index").rename_axis("precision")
    times = {name: "{:.2f}" for name in frame.columns if name.startswith("ms")}
    notes = [row.warning for row in rows if row.warning]
    return Table(frame, formats={"MiB": "{:.2f}", **times}, notes=notes)


def _verdict(row: Row) -> str:
    return "as good as fp32" if row.loss is None else f"loses {100 * row.loss[1]:.1f} AP ({PART_NAMES[row.loss[0]]})"


def _times(latency: pd.DataFrame, precision: str) -> dict[str, float | None]:
    """Median time of a single person on each machine where it was measured."""
    runtime = "onnxruntime" if precision == "fp32" else f"onnxruntime {precision}"
    single = latency[(latency["batch"] == 1) & latency["runtime"].str.startswith("onnxruntime")]
    return {
        f"ms a person ({machine})": next(iter(rows.loc[rows["runtime"] == runtime, "median_ms"]), None)
        for machine, rows in single.groupby("machine")
    }


def differences_table(rows: Sequence[Row]) -> Table:
    """AP and mean OKS of the float32 file, and what each other file changes, in points with 95 % intervals."""
    base, *others = rows
    parts = [part for part in MAIN_PARTS if base.ap.get(part, -1) >= 0]
    table: dict[str, list[str]] = {"AP, fp32": [number(100 * base.ap[part]) for part in parts]}
    for row in others:
        table[f"AP, {row.precision} − fp32"] = [_difference(row.ap_difference[part]) for part in parts]
    table["mean OKS, fp32"] = [number(100 * base.mean_oks[part]) for part in parts]
    for row in others:
        table[f"mean OKS, {row.precision} − fp32"] = [_difference(row.oks_difference[part]) for part in parts]
    frame = pd.DataFrame(table, index=pd.Index([PART_NAMES[part] for part in parts], name="part"))
    return Table(
        frame,
        notes=f"A file is marked in its name if the whole body loses more than {100 * TOLERATED:g} AP, or if the "
        f"interval of a part ends below −{100 * TOLERATED:g}.",
    )


def _difference(values: Estimate) -> str:
    found, low, high = (100 * value for value in values)
    return f"{number(found, '+.2f')} {interval(low, high, '.2f')}"
