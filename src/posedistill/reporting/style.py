"""Common style of all figures, and reproducible saving: the same bytes on every run."""

import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from posedistill.files import write_atomic
from posedistill.keypoints import PARTS

FIGURES = Path("reports/figures")
DPI = 100  # figures are shown pixel for pixel: a width of 9 inches is 900 pixels in the report

# Okabe and Ito's colours, told apart in all common kinds of colour blindness; the second mark is the line style.
BLUE, ORANGE, GREEN, RED, PINK, SKY, YELLOW, GREY = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#6E6E6E"),
)
MODEL_COLORS = {"teacher": GREY, "baseline": BLUE, "baseline_long": SKY, "stage1": ORANGE, "stage2": RED}
MODEL_MARKERS = {"teacher": "D", "baseline": "o", "baseline_long": "v", "stage1": "s", "stage2": "^"}
MODEL_NAMES = {
    "teacher": "teacher",
    "baseline": "baseline",
    "baseline_long": "baseline, longer",
    "stage1": "stage 1",
    "stage2": "stage 1 + 2",
}
PART_COLORS = dict(zip((*PARTS, "hand", "wholebody"), (BLUE, SKY, GREEN, ORANGE, RED, RED, "#000000")))


def use_style() -> None:
    """Set the look for all figures made afterwards. The backend is the one that needs no screen."""
    matplotlib.use("agg")
    sns.set_theme(context="notebook", style="whitegrid", palette=[BLUE, ORANGE, GREEN, RED, PINK, SKY, GREY])
    plt.rcParams.update(
        {
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.labelsize": 11,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E6E6E6",
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )


class Picture:
    """An image file as a notebook shows it; `path` is relative to the project."""

    def __init__(self, path: Path, content: bytes, alt: str) -> None:
        self.path, self.content, self.alt = path, content, alt

    def _repr_mimebundle_(self, include=None, exclude=None):
        kind = "image/jpeg" if self.path.suffix == ".jpg" else "image/png"
        return {kind: self.content, "text/plain": self.alt}

    def __repr__(self) -> str:
        return self.alt


def save_figure(figure: Figure, name: str, alt: str | None = None, folder: Path = FIGURES) -> Picture:
    """Write a figure to reports/figures/<name>.png (`name` is <stage>/<what>) and close it.

    The file holds no version, date or path, and at most 256 colours, which keeps it small.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    content = io.BytesIO()
    small.save(content, format="PNG", optimize=True)
    return _written(Path(folder) / f"{name}.png", content.getvalue(), alt or name)


def save_photo(image: Image.Image, name: str, alt: str | None = None, folder: Path = FIGURES) -> Picture:
    """Write a picture of photos to reports/figures/<name>.jpg (`name` is <stage>/<what>)."""
    content = io.BytesIO()
    image.convert("RGB").save(content, format="JPEG", quality=82, optimize=True)
    return _written(Path(folder) / f"{name}.jpg", content.getvalue(), alt or name)


def _written(path: Path, content: bytes, alt: str) -> Picture:
    write_atomic(path, content)
    return Picture(path, content, alt)
