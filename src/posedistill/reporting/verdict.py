"""The wording for comparisons of two models, shared by all reports so that equal results read the same.

A difference is a gain or a loss only if its interval over the images excludes zero and every training seed has its
sign. With one seed the words say so: another training of the same settings may come out differently.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from posedistill.reporting.comparison import Difference

Kind = Literal["gain", "loss", "open", "unclear"]
Tuned = Literal["both", "neither", "first", "second"]

KINDS: dict[Kind, str] = {
    "gain": "Gains",
    "loss": "Losses",
    "open": "The seeds disagree",
    "unclear": "Not told apart from zero",
}
TUNING: dict[Tuned, str] = {
    "both": "the settings of both were tuned, on other images",
    "neither": "the settings of neither were tuned",
    "first": "only the settings of the first were tuned, so a part of it may be tuning",
    "second": "only the settings of the second were tuned, so the first may do better than this",
}


@dataclass(frozen=True)
class Compared:
    """One comparison with all that its verdict depends on.

    `title` reads "stage 1 − baseline"; `difference` is pooled over the seeds, in points of `metric`; `seeds` holds the
    difference of each training seed alone, in points; `persons` is how many validation persons it was measured on.
    """

    title: str
    difference: Difference
    seeds: Sequence[float]
    persons: int | None = None
    tuned: Tuned | None = None
    metric: str = "mean OKS"

    @property
    def agreeing(self) -> int:
        """How many seeds have the sign of the pooled difference."""
        return sum((value > 0) == (self.difference.mean > 0) for value in self.seeds)

    @property
    def kind(self) -> Kind:
        """What can be said of it."""
        if not self.difference.significant:
            return "unclear"
        if self.agreeing < len(self.seeds):
            return "open"
        return "gain" if self.difference.mean > 0 else "loss"


def verdict(one: Compared) -> str:
    """One sentence as Markdown: the difference, what can be said of it, and on how many persons and seeds it rests."""
    count = len(one.seeds)
    one_seed = count < 2
    agreeing = f"only {one.agreeing} of {count} training seeds have this sign"
    words = {
        "gain": f"a **{one.kind}**",
        "loss": f"a **{one.kind}**",
        "open": f"**open**: the interval excludes zero, but {agreeing}",
        "unclear": "**not told apart from zero**",
    }[one.kind]
    if one.kind in ("gain", "loss"):
        words += (
            " in this one training; another seed may differ" if one_seed else f", with this sign in all {count} seeds"
        )
    elif one.kind == "unclear" and not one_seed:
        words += f"; {sum(value > 0 for value in one.seeds)} of {count} training seeds are above it"
    return f"**{one.title}**: {one.difference} points of {one.metric}, {words} ({evidence(one)})."


def evidence(one: Compared) -> str:
    """On what a comparison rests: "n = 525 persons, 3 training seeds; the settings of neither were tuned"."""
    count = max(1, len(one.seeds))
    found = [f"n = {one.persons:,} persons"] if one.persons is not None else []
    text = ", ".join([*found, f"{count} training seed{'s' if count > 1 else ''}"])
    return f"{text}; {TUNING[one.tuned]}" if one.tuned else text


def verdicts(rows: Iterable[Compared]) -> str:
    """`verdict` of each comparison as a Markdown list."""
    return "\n".join(f"- {verdict(one)}" for one in rows)


def sorted_verdicts(rows: Iterable[Compared]) -> str:
    """Comparisons grouped by what can be said of them, as a Markdown list: "Gains: a − b (+1.4); …"."""
    groups: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    metric = "mean OKS"
    for one in rows:
        groups[one.kind].append(f"{one.title} ({one.difference.mean:+.1f})")
        metric = one.metric
    lines = [
        f"- **{KINDS[kind]}**: {'; '.join(found) or 'none'}."
        for kind, found in groups.items()
        if found or kind != "open"
    ]
    return f"Whole-body {metric}, in points:\n\n" + "\n".join(lines)
