"""One wording for every comparison: by its interval, its seeds and its tuning."""

import pytest

from posedistill.reporting.comparison import Difference
from posedistill.reporting.verdict import Compared, sorted_verdicts, verdict

UP, DOWN, LEVEL = Difference(2.0, 1.0, 3.0), Difference(-2.0, -3.0, -1.0), Difference(0.1, -1, 1.2)


@pytest.mark.parametrize(
    ("difference", "seeds", "kind", "words"),
    [
        (UP, (1, 2, 3), "gain", "a **gain**, with this sign in all 3 seeds"),
        (DOWN, (-1, -2, -3), "loss", "a **loss**, with this sign in all 3 seeds"),
        (UP, (2,), "gain", "a **gain** in this one training; another seed may differ"),
        (UP, (-1, 3, 4), "open", "only 2 of 3 training seeds have this sign"),
        (DOWN, (1, -3, -4), "open", "only 2 of 3 training seeds have this sign"),
        (LEVEL, (-1, 1, 1), "unclear", "**not told apart from zero**; 2 of 3 training seeds are above it"),
        (LEVEL, (0.1,), "unclear", "**not told apart from zero** (1 training seed)"),
    ],
)
def test_a_gain_needs_the_interval_and_every_seed(difference, seeds, kind, words):
    one = Compared("a − b", difference, seeds)
    assert one.kind == kind
    assert words in verdict(one)


def test_each_verdict_says_on_what_it_rests():
    text = verdict(Compared("a − b", UP, (1, 2, 3), 1525, "first"))
    assert text.startswith("**a − b**: +2.0 [+1.0, +3.0] points of mean OKS, a **gain**")
    assert "(n = 1,525 persons, 3 training seeds; only the settings of the first were tuned, so" in text


def test_verdicts_are_sorted_by_kind():
    text = sorted_verdicts(
        [Compared("a − b", UP, (1, 2)), Compared("c − b", UP, (-1, 2)), Compared("d − b", LEVEL, ())]
    )
    assert "**Gains**: a − b (+2.0)." in text and "**Losses**: none." in text
    assert "**The seeds disagree**: c − b (+2.0)." in text
    assert "**Not told apart from zero**: d − b (+0.1)." in text
