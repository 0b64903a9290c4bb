"""Results over training seeds: spread, pooled differences, and whether they belong to a run."""

from posedistill.reporting import ablation, seeds

PARTS = ("wholebody", "body", "foot", "face", "hand")


def metric(value: float) -> dict:
    return {"AP": dict.fromkeys(PARTS, value), "mean_oks": dict.fromkeys(PARTS, value)}


RESULTS = {
    "seeds": [0, 1],
    "models": {"baseline": {"0": metric(0.3), "1": metric(0.32)}, "stage1": {"0": metric(0.35), "1": metric(0.36)}},
    "differences": {
        "stage 1 − baseline": {
            "pooled": {part: [0.045, 0.03, 0.06] for part in PARTS},
            "seeds": {"0": [0.05, 0.03, 0.07], "1": [0.04, -0.01, 0.05]},
        }
    },
}


def test_spread_and_each_seed():
    head, rows = seeds.spread_table(RESULTS, "mean_oks").cells()
    assert head[1] == "whole body"
    assert rows[0][1] == "31.0 ± 1.4"
    assert rows[0][-1] == "30.0, 32.0"


def test_words_say_what_is_significant_and_in_how_many_seeds():
    text = seeds.words(RESULTS)
    assert "+4.5 [+3.0, +6.0]" in text
    assert "a **gain**, with this sign in all 2 seeds (2 training seeds)." in text
    assert "stage 1 − baseline (+4.5)" in ablation.conclusion(RESULTS)
