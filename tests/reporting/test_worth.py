"""The verdict on losses: one row each, at equal epochs and at equal time."""

import matplotlib.pyplot as plt

from posedistill.experiments.results import NOTHING
from posedistill.reporting import worth

PARTS = ("wholebody", "body", "foot", "face", "hand")


def difference(mean, spread, seeds):
    pooled = [mean, mean - spread, mean + spread]
    return {
        "pooled": dict.fromkeys(PARTS, pooled),
        "seeds": {str(i): [value, value - spread, value + spread] for i, value in enumerate(seeds)},
    }


RESULTS = {
    "seeds": [0, 1, 2],
    "texts": {"logits": "logits", "both": "features and logits (stage 1)", "bones": "logits and bones"},
    "costs": {"logits": 1.6, "both": 1.75, "bones": 1.9},
    "epochs": {"logits": 3.2, "both": 3.5, "bones": 3.8},
    "of": 2,
    "persons": 525,
    "models": {},
    "differences": {
        "logits − baseline": difference(0.034, 0.01, [0.03, 0.035, 0.037]),
        "logits − baseline of equal time": difference(0.012, 0.01, [0.01, 0.012, 0.014]),
        "features and logits (stage 1) − baseline": difference(0.02, 0.01, [0.01, 0.02, 0.03]),
        "features and logits (stage 1) − baseline of equal time": difference(-0.005, 0.01, [0.01, -0.02, -0.005]),
        "logits and bones − baseline": difference(0.02, 0.01, [0.06, -0.01, 0.01]),
        "logits and bones − baseline of equal time": difference(-0.02, 0.01, [-0.03, -0.01, -0.02]),
    },
}


def test_a_row_a_loss():
    head, rows = worth.worth_table(RESULTS).cells()
    assert head[0] == "loss" and "cost" in head
    assert rows[1][:7] == (
        ["features and logits (stage 1)", "+2.0 [+1.0, +3.0]", "3 of 3", "-0.5 [-1.5, +0.5]", "1 of 3", "1.75", "3.5"]
    )


def test_the_losses_are_sorted_by_what_they_are_worth():
    better, only_epochs, none = worth.worth_words(RESULTS).splitlines()[2:]
    assert better.endswith("at equal time)**: logits (+3.4 and +1.2).")
    assert "stage 1) (+2.0 and -0.5)" in only_epochs
    assert "bones (+2.0 and -2.0, the seeds disagree)" in none  # an interval beyond zero, but one seed below


def test_both_panels_share_their_axis():
    figure = worth.worth_figure(RESULTS)
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert [label.get_text() for label in left.get_yticklabels()] == list(RESULTS["texts"].values())
    plt.close(figure)


def test_without_results_there_is_an_empty_page():
    worth.worth_table(NOTHING).cells()
    plt.close(worth.worth_figure(NOTHING))
    assert "none" in worth.worth_words(NOTHING)
