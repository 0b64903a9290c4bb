"""Which distillation losses are worth their time: table and figure of the results of `make verdict`."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from posedistill.reporting import seeds
from posedistill.reporting.comparison import draw_difference
from posedistill.reporting.curves import nothing_figure, panels
from posedistill.reporting.tables import Table, row_table
from posedistill.reporting.verdict import KINDS, Compared

EQUAL_EPOCHS, EQUAL_TIME = "{} − baseline", "{} − baseline of equal time"


def judged(results: Mapping[str, Any]) -> dict[str, tuple[Compared, Compared]]:
    """Name of a loss → its comparison with the baseline of equal epochs, and with that of equal training time."""
    found = {one.title: one for one in seeds.compared(results)}
    texts = results.get("texts", {}).values()
    return {text: (found[EQUAL_EPOCHS.format(text)], found[EQUAL_TIME.format(text)]) for text in texts}


def worth_table(results: Mapping[str, Any]) -> Table:
    """One row per loss: gain, interval and agreeing seeds at equal epochs and equal time, and the cost of its steps."""
    names = dict(zip(results.get("texts", {}).values(), results.get("texts", {})))
    rows = {}
    for text, (epochs, time) in judged(results).items():
        name = names[text]
        rows[text] = {
            "at equal epochs": str(epochs.difference),
            "seeds above 0": _above(epochs),
            "at equal time": str(time.difference),
            "seeds above 0 ": _above(time),
            "cost": f"{results['costs'][name]:.2f}",
            "epochs of equal time": f"{results['epochs'][name]:.1f}",
        }
    notes = (
        "Difference from the baseline in points of whole-body mean OKS, with the 95 % interval of a paired bootstrap "
        "over images, pooled over the seeds. Cost: training time, in that of the baseline. The baseline of equal time "
        f"trains for the epochs in the last column instead of {results.get('of', '–')}; between two whole numbers it "
        "is interpolated, person by person."
    )
    return row_table(rows, "loss", notes=notes)


def _above(one: Compared) -> str:
    return f"{sum(value > 0 for value in one.seeds)} of {len(one.seeds)}"


def worth_figure(results: Mapping[str, Any]) -> Figure:
    """The same as points with intervals, on one axis for both panels; strokes: each seed."""
    rows = judged(results)
    if not rows:
        return nothing_figure("no results yet")
    figure, axes = panels(2, 1.3 + 0.36 * len(rows))
    shown = [one for pair in rows.values() for one in pair]
    ends = [end for one in shown for end in (one.difference.low, one.difference.high, *one.seeds)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.06 * (high - low) or 1.0
    for panel, (axis, title) in enumerate(zip(axes, ("equal epochs", "equal training time"))):
        for place, pair in enumerate(rows.values()):
            axis.plot(pair[panel].seeds, [place - 0.28] * len(pair[panel].seeds), "|", ms=8, mew=1.8, color="#000000")
            draw_difference(axis, place, pair[panel].difference)
        axis.axvline(0, color="#000000", lw=1)
        axis.set(title=title, xlabel="points of mean OKS", xlim=(low - margin, high + margin))
        axis.set(ylim=(len(rows) - 0.5, -0.5))
        axis.set_yticks(range(len(rows)), list(rows) if panel == 0 else [])
        axis.grid(axis="y", visible=False)
    return figure


def worth_words(results: Mapping[str, Any]) -> str:
    """The losses grouped by whether they are worth their time, as Markdown."""
    groups: dict[str, list[str]] = {
        "Worth their time (a gain at equal time)": [],
        "A gain at equal epochs, none at equal time": [],
        "No gain": [],
    }
    better, only_epochs, none = groups
    for text, (epochs, time) in judged(results).items():
        group = better if time.kind == "gain" else only_epochs if epochs.kind == "gain" else none
        why = "" if group != none else f", {KINDS[epochs.kind].lower()}"
        groups[group].append(f"{text} ({epochs.difference.mean:+.1f} and {time.difference.mean:+.1f}{why})")
    lines = [f"- **{group}**: {'; '.join(found) or 'none'}." for group, found in groups.items()]
    return "Points of whole-body mean OKS at equal epochs and at equal time:\n\n" + "\n".join(lines)


def model_names(results: Mapping[str, Any]) -> dict[str, str]:
    """Names of the models in tables."""
    texts = results.get("texts", {})
    times = {f"{name}-time": f"baseline, time of: {text}" for name, text in texts.items()}
    return {"baseline": "baseline", **texts, **times}
