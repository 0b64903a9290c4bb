"""The report of `benchmark gpu`: README.md and its pictures beside the CSV files of the training, made of them alone.

python -m posedistill.benchmark.gpu_report [FOLDER]       make it again, on any machine
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from posedistill.benchmark.figures import Figures
from posedistill.errors import UserError, exits_with_line
from posedistill.files import write_atomic

MODELS, DIFFERENCES, CURVES = "models.csv", "differences.csv", "curves.csv"
FOLDER = Path("reports/gpu")


def write_report(folder: Path, figures: Figures | None = None) -> Path:
    """Write folder/README.md with its figures from the files there; the speeds of `figures` are copied beside them."""
    from posedistill.reporting.style import MODEL_NAMES, use_style

    models = _read(folder / MODELS)
    if models is None:
        raise UserError(f"{folder / MODELS}: no such file; `benchmark gpu` writes it")
    if figures is not None:
        write_atomic(folder / "figures.csv", figures.path.read_bytes())
    use_style()
    text = [
        "# A training on one GPU",
        "Rendered people at 256×192: a teacher, and a student trained without it (baseline), with it (stage 1), and "
        "with a new head (stage 1 + 2); the recipe `gpu-short`, cut to the time of the run. Made by "
        "`benchmarks/gpu.sh`, from the CSV files in this folder.",
        "## What the models reach",
        "Average precision (AP) in % on rendered people whom no training has seen; the whole body with its 95 % "
        "interval over images.",
        _models_table(models, MODEL_NAMES),
    ]
    differences = _read(folder / DIFFERENCES)
    if differences is not None:
        text += [
            "## What the distillation gains",
            "Paired differences over the same images, in points, with 95 % intervals. A filled point is one whose "
            "interval excludes zero.",
            _gain_figure(folder, differences),
            _gain_table(differences),
        ]
    curves = _read(folder / CURVES)
    if curves is not None:
        text += [
            "## The trainings",
            "The loss falls, the accuracy on the augmented crops rises.",
            _curves(folder, curves),
        ]
    speeds = Figures(folder / "figures.csv").rows()
    if speeds:
        text += ["## Speed", "What was measured on the card in the same run, and what it should be.", _speeds(speeds)]
    path = folder / "README.md"
    write_atomic(path, "\n\n".join(text) + "\n")
    return path


def _read(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path) if path.is_file() else None


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _models_table(models: pd.DataFrame, names: dict[str, str]) -> str:
    parts = [column for column in models.columns if column.startswith("AP ")]
    head = [
        "model",
        "size",
        "epochs",
        "steps",
        *(part.replace("AP wholebody", "AP [95 %]") for part in parts),
        "mean OKS",
    ]
    rows = []
    for row in models.to_dict("records"):
        values = [f"{row[part]:.1f}" for part in parts]
        values[parts.index("AP wholebody")] += f" [{row['low']:.1f}, {row['high']:.1f}]"
        facts = [names[row["model"]], row["size"], f"{row['epochs']:.0f}", f"{row['steps']:.0f}"]
        rows.append([*facts, *values, f"{row['mean OKS']:.1f}"])
    return _markdown(head, rows)


def _gain_figure(folder: Path, differences: pd.DataFrame) -> str:
    from posedistill.reporting.comparison import Difference, forest_figure
    from posedistill.reporting.style import save_figure

    rows = {
        str(pair): {
            str(row["part"]): Difference(row["mean"], row["low"], row["high"]) for row in part.to_dict("records")
        }
        for pair, part in differences[differences["metric"] == "AP"].groupby("pair", sort=False)
    }
    alt = "Differences in AP between the models, by part of the body, with intervals"
    save_figure(forest_figure(rows, "difference in AP, points"), "gain", alt, folder)
    return f"![{alt}](gain.png)"


def _gain_table(differences: pd.DataFrame) -> str:
    whole = differences[differences["part"] == "wholebody"]
    cells: dict[str, dict[str, str]] = {}
    for row in whole.to_dict("records"):
        text = f"{row['mean']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"
        cells.setdefault(str(row["pair"]), {})[str(row["metric"])] = text
    metrics = list(dict.fromkeys(whole["metric"]))
    rows = [[pair, *(found.get(metric, "") for metric in metrics)] for pair, found in cells.items()]
    return _markdown(["whole body", *metrics], rows)


def _curves(folder: Path, curves: pd.DataFrame) -> str:
    from posedistill.reporting.curves import panels
    from posedistill.reporting.style import MODEL_COLORS, MODEL_NAMES, save_figure

    figure, axes = panels(2)
    for axis, (column, scale, title) in zip(
        axes, (("total", 1.0, "Weighted loss"), ("accuracy", 100.0, "Keypoints within 5 % of the input, %"))
    ):
        for model, found in curves.groupby("model", sort=False):
            if column in found:
                seen = found[["step", column]].dropna()
                name = str(model)
                axis.plot(seen["step"], scale * seen[column], color=MODEL_COLORS[name], label=MODEL_NAMES[name])
        axis.set_title(title)
        axis.set_xlabel("step")
    axes[0].set_yscale("log")
    axes[1].set_ylim(bottom=0)
    axes[1].legend()
    alt = "Loss and accuracy of the four trainings over their steps"
    save_figure(figure, "curves", alt, folder)
    return f"![{alt}](curves.png)"


def _speeds(rows: list[dict[str, str]]) -> str:
    shown = [
        [row["what"], f"{row['value']} {row['unit']}".strip(), row["bar"], row["met"], row["note"]] for row in rows
    ]
    return _markdown(
        ["", "measured", "bar", "met", "note"], [[cell.replace("|", "/") for cell in row] for row in shown]
    )


@exits_with_line
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m posedistill.benchmark.gpu_report", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    print(write_report(parser.parse_args().folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
