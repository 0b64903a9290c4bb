"""Progress: a bar on a terminal, few plain lines elsewhere."""

import pytest
from tqdm import tqdm

from posedistill import progress as module
from posedistill.progress import Lines, on_terminal, progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets: clock[0] = 3."""
    seconds = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    monkeypatch.setenv("POSEDISTILL_PROGRESS", "lines")
    return seconds


def test_a_line_every_ten_seconds_and_one_at_the_end(clock, capsys):
    with progress(total=8512, desc="stage1: epoch 2/4", unit="persons") as bar:
        for second in range(1, 26):
            clock[0] = second
            bar.set_postfix_str(f"loss {second}")
            bar.update(128)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "stage1: epoch 2/4: 1,280 of 8,512 persons, 128 persons/s, loss 10",
        "stage1: epoch 2/4: 2,560 of 8,512 persons, 128 persons/s, loss 20",
        "stage1: epoch 2/4: 3,200 of 8,512 persons, 128 persons/s, loss 25",
    ]


def test_the_last_line_is_written_once(clock, capsys):
    with progress(total=2, desc="a", unit="steps") as bar:
        clock[0] = 20
        bar.update(2)
    assert capsys.readouterr().err == "a: 2 of 2 steps, 0.1 steps/s\n"


def test_items_are_counted_and_the_rate_leaves_out_what_was_done_before(clock, capsys):
    def items():
        for _ in range(3):
            clock[0] += 2
            yield "item"

    assert list(progress(items(), desc="rendering", unit="images", total=10, initial=7)) == ["item"] * 3
    assert capsys.readouterr().err == "rendering: 10 of 10 images, 0.5 images/s\n"
    assert Lines([1, 2], desc="", unit="").total == 2


def test_nothing_is_written_where_nothing_is_done_or_shown(clock, capsys):
    progress(total=3, desc="a", unit="b").close()
    assert list(progress(range(3), desc="a", unit="b", show=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_the_runner_knows_of_the_terminal(monkeypatch):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("POSEDISTILL_PROGRESS", raising=False)
    assert on_terminal()
    monkeypatch.setenv("POSEDISTILL_PROGRESS", "lines")
    assert not on_terminal()
    monkeypatch.setenv("POSEDISTILL_PROGRESS", "terminal")
    bar = progress([1], desc="a", unit="b")
    assert isinstance(bar, tqdm)
    bar.close()
