"""Tables and figures of the export report: the file, its parity with the model, latencies quoted from benchmarks/."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from posedistill.errors import UserError
from posedistill.export.exported import Exported
from posedistill.export.parity import AP_DIFFERENCE, MAX_DIFFERENCE, SAME_ARGMAX
from posedistill.keypoints import PART_NAMES
from posedistill.reporting.pictures import contact_sheet, prediction_beside_truth
from posedistill.reporting.style import BLUE, ORANGE
from posedistill.reporting.tables import Table

LATENCY = Path("benchmarks/latency")  # one CSV per machine, written by  python -m posedistill benchmark latency --save


def facts(exported: Exported) -> dict[str, Any]:
    """The file in a few lines, for `tables.key_values`."""
    height, width = exported.model.input_size
    return {
        "file": str(exported.path),
        "size": f"{exported.file_bytes / 2**20:.2f} MiB",
        "parameters": f"{exported.parameters / 1e6:.3f} M",
        "multiply-accumulates": f"{exported.macs / 1e6:.1f} M per person",
        "input": f"input [batch, 3, {height}, {width}]",
        "outputs": f"simcc_x [batch, 133, {2 * width}], simcc_y [batch, 133, {2 * height}]",
    }


def parity_table(exported: Exported) -> Table:
    """Found and required agreement. Differences are shown as powers of ten: their digits depend on the processor."""
    parity = exported.parity
    rows = [
        ("largest difference of a logit", _magnitude(parity.max_difference), f"≤ {MAX_DIFFERENCE:g}"),
        ("same arg-max on both axes", f"{100 * parity.same_argmax:.2f} % of {parity.points} points", _share()),
        ("largest difference of an AP", _magnitude(exported.ap_difference), f"≤ {AP_DIFFERENCE:g}"),
    ]
    frame = pd.DataFrame(rows, columns=["", "found", "required"]).set_index("")
    return Table(frame, notes=f"On {parity.crops} validation crops; AP on {exported.persons} persons, end to end.")


def _share() -> str:
    return f"≥ {100 * SAME_ARGMAX:g} %"


def _magnitude(value: float) -> str:
    return "0" if value == 0 else f"< 1e{int(np.floor(np.log10(value))) + 1}"


def ap_table(exported: Exported) -> Table:
    """AP of each part by PyTorch and by onnxruntime, in percent."""
    frame = pd.DataFrame(
        {
            PART_NAMES[part]: [100 * value for value in values]
            for part, values in exported.ap.items()
            if min(values) >= 0
        },
        index=pd.Index(["PyTorch", "onnxruntime"], name="AP, %"),
    )
    return Table(frame.T.rename_axis("AP, %"), formats="{:.2f}")


def example_sheet(exported: Exported, count: int = 8, columns: int = 4) -> Image.Image:
    """The first persons of the validation set: PyTorch on the left, onnxruntime on the right."""
    store = exported.store
    tiles, titles = [], []
    for row in range(min(count, exported.persons)):
        image = store.picture(int(store.persons.image[row]))
        ours, theirs = (
            np.concatenate((poses.keypoints[row], poses.keypoint_scores[row][:, None]), axis=1)
            for poses in exported.poses
        )
        box = store.persons.box[row]
        tiles.append(prediction_beside_truth(Image.fromarray(image), box.tolist(), ours, theirs, (108, 144)))
        titles.append(f"image {store.persons.image_id[row]}")
    return contact_sheet(tiles, columns, titles)


def read_latency(folder: str | Path = LATENCY) -> pd.DataFrame:
    """All measurements: the columns of the CSV files, and `machine`, the file's name with size and input."""
    files = sorted(Path(folder).glob("*.csv"))
    if not files:
        raise UserError(f"{folder}: no measured times; make them with  python -m posedistill benchmark latency --save")
    tables = [pd.read_csv(file).assign(machine=file.stem) for file in files]
    latency = pd.concat(tables, ignore_index=True)
    latency["machine"] += ": " + latency["size"] + " " + latency["input_size"]
    return latency


def latency_table(latency: pd.DataFrame, batches: tuple[int, ...] = (1, 8, 32)) -> Table:
    """Median and 95th percentile of a call in ms, and persons/s: one row per machine, runtime and batch size."""
    rows = latency[latency["batch"].isin(batches)].sort_values(["machine", "batch", "runtime"])
    index = [f"{r.machine}, {r.runtime} ({r.device}), batch {r.batch}" for r in rows.itertuples()]
    columns = {"median_ms": "median, ms", "p95_ms": "p95, ms", "persons_per_s": "persons/s"}
    frame = rows[list(columns)].rename(columns=columns).set_axis(pd.Index(index, name="machine, runtime, batch"))
    return Table(frame, formats={"median, ms": "{:.2f}", "p95, ms": "{:.2f}", "persons/s": "{:.0f}"})


def latency_figure(latency: pd.DataFrame) -> Figure:
    """Time per person over the batch size, one panel per machine: the median, and a band up to the 95th percentile."""
    machines = sorted(latency["machine"].unique())
    figure, panels = plt.subplots(1, len(machines), figsize=(min(4.5 * len(machines), 12), 3.4), squeeze=False)
    for panel, machine in zip(panels[0], machines):
        for runtime, color, dash in (("pytorch", BLUE, "-"), ("onnxruntime", ORANGE, "--")):
            rows = latency[(latency["machine"] == machine) & (latency["runtime"] == runtime)].sort_values("batch")
            batch, median, slow = (rows[name].to_numpy(float) for name in ("batch", "median_ms", "p95_ms"))
            panel.plot(batch, median / batch, dash, color=color, marker="o", label=runtime)
            panel.fill_between(batch, median / batch, slow / batch, color=color, alpha=0.15, linewidth=0)
        panel.set(title=machine, xlabel="batch size, log scale", ylabel="ms per person", xscale="log")
        panel.set_ylim(bottom=0)
        ticks = sorted(latency.loc[latency["machine"] == machine, "batch"].unique())
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.legend()
    return figure
