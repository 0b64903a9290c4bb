"""The page of `benchmark scale`: its curves, and what grows."""

from pathlib import Path

import numpy as np

from posedistill.benchmark.machine import Row
from posedistill.files import write_atomic


def write_report(rows: list[Row], path: Path, picture: Path) -> None:
    """A page with the curves, and a line for each step: how memory and time grow from the smallest size on."""
    from posedistill.reporting.curves import panels
    from posedistill.reporting.style import save_figure, use_style

    use_style()
    steps = list(dict.fromkeys(str(row["what"]) for row in rows))
    figure, (left, right) = panels(2, 5.2, 11.0)
    lines = ["| step | largest size | seconds | time per item, largest ÷ smallest | memory, MB | MB per 1,000 more |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for index, what in enumerate(steps):
        found = [row for row in rows if row["what"] == what]
        count, cpu, used = (
            np.array([float(str(row[key])) for row in found]) for key in ("count", "cpu_s", "memory_mb")
        )
        style = "-" if index < 7 else "--"
        left.plot(count, np.maximum(cpu, 1e-2), f"o{style}", ms=4, label=what)
        right.plot(count, used, f"o{style}", ms=4, label=what)
        each = np.maximum(cpu, 5e-3) / count
        growth = 1000 * (used[-1] - used[0]) / max(1, count[-1] - count[0])
        lines.append(
            f"| {what} | {count[-1]:,.0f} | {cpu[-1]:.2f} | {each[-1] / each[0]:.2f} | {used[-1]:,.0f} | {growth:.2f} |"
        )
    left.set(xscale="log", yscale="log", xlabel="persons or detections", ylabel="CPU time, s")
    right.set(xlabel="persons or detections", ylabel="memory, MB")
    right.set_ylim(bottom=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    alt = "CPU time and memory of the steps over the number of persons or detections"
    save_figure(figure, picture.stem, alt, picture.parent)
    text = [
        "# Scale",
        "Time and memory of the bookkeeping of `prepare`, of the loader and of the evaluation, as the data grow to "
        "those of COCO-WholeBody + UBody. Made-up data: `python -m posedistill benchmark scale --save`.",
        f"![{alt}]({picture.name})",
        "Left: a line as steep as the diagonal is linear time; the loader runs the same number of steps at every size. "
        "Right: what stays flat does not depend on the size of the data. Memory is that of the process at the step, "
        "including what earlier steps in the same process have left behind.",
        "\n".join(lines),
        "What grows, each in proportion: the annotations of all persons, with 1.6 KB of keypoints each; the labels of "
        "all persons once more while `prepare` counts them; 3.3 KB of pose for each detection, and the results as they "
        "go into the file. The loader maps its store: pages in use are the system's cache, not the process's memory.",
    ]
    write_atomic(path, "\n\n".join(text) + "\n")
