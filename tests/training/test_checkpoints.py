"""Checkpoints: whole or absent, found again, never mixed, passed over when damaged."""

import errno
import os
import threading
from pathlib import Path

import pytest
import torch
from training_fakes import CPU, batches_of, folder, plan, same_weights, supervised

from posedistill import files
from posedistill.errors import UserError
from posedistill.training.checkpoints import RunFolder, Writer, digest_inputs, run_key
from posedistill.training.loop import fit


def state(step: int) -> dict:
    return {"step": step, "weights": torch.arange(1000.0) + step}


def test_the_two_last_are_kept_and_the_newest_is_read(tmp_path):
    run = folder(tmp_path)
    for step in (1, 2, 3):
        run.save(step, state(step))
    assert [int(path.name.split("-")[1]) for path in run.checkpoints()] == [2, 3]
    loaded = run.load_last()
    assert loaded["step"] == 3 and torch.equal(loaded["weights"], state(3)["weights"])


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, capsys, damage):
    run = folder(tmp_path)
    for step in (1, 2):
        run.save(step, state(step))
    last = run.checkpoints()[-1]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1  # a bit in the middle of a tensor, which torch.load would not notice
    last.write_bytes({"flip": bytes(content), "cut": bytes(content[:99]), "empty": b""}[damage])
    assert run.load_last()["step"] == 1
    assert last.name in capsys.readouterr().err


def test_training_over_a_damaged_checkpoint_ends_the_same(tmp_path):
    p = plan(epochs=2, steps_per_epoch=2)
    whole = fit(supervised(), p, batches_of(p), CPU, folder(tmp_path / "whole")).model
    fit(supervised(), p, batches_of(p), CPU, folder(tmp_path / "cut"))
    RunFolder(tmp_path / "cut").checkpoints()[-1].write_bytes(b"damaged")
    assert same_weights(whole, fit(supervised(), p, batches_of(p), CPU, folder(tmp_path / "cut")).model)


def test_without_a_whole_checkpoint_training_starts_anew(tmp_path):
    run = folder(tmp_path)
    run.save(1, state(1))
    run.checkpoints()[0].write_bytes(b"damaged")
    assert run.load_last() is None


def test_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    run = folder(tmp_path)
    run.save(1, state(1))

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(UserError, match="no space left") as caught:
        run.save(2, state(2))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.checkpoints()[0].name, "steps.log"]
    assert run.load_last()["step"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_between_two_checkpoints_is_one_line(tmp_path):
    (tmp_path / "steps.log").symlink_to("/dev/full")
    p = plan(epochs=1, steps_per_epoch=2)
    with pytest.raises(UserError, match=r"cannot write .*steps\.log: No space left"):
        fit(supervised(), p, batches_of(p), CPU, folder(tmp_path))


class SlowFolder(RunFolder):
    """Writes when it is told to, and notes what it writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go, self.written, self.busy = threading.Semaphore(0), [], 0

    def save(self, step, state, keep=2):
        self.busy += 1
        assert self.busy == 1, "two at a time"
        assert self.go.acquire(timeout=10)
        self.written.append((step, state["weights"].tolist(), state["rows"]))
        self.busy -= 1


def test_a_checkpoint_is_written_beside_the_training_as_it_was_when_it_was_due(tmp_path):
    slow, weights, rows = SlowFolder(tmp_path), torch.zeros(2), [{"loss": 1.0}]
    with Writer(slow) as writer:
        writer.save(1, {"weights": weights, "rows": rows})
        assert slow.written == []  # the training goes on
        weights += 1
        rows[0]["loss"] = 2.0
        slow.go.release()
        writer.wait()
        assert slow.written == [(1, [0.0, 0.0], [{"loss": 1.0}])]


def test_checkpoints_are_written_in_order_one_at_a_time_and_all_of_them(tmp_path):
    slow = SlowFolder(tmp_path)
    with Writer(slow) as writer:
        for step in range(1, 5):
            slow.go.release()
            writer.save(step, {"weights": torch.full((1,), float(step)), "rows": []})
    assert [step for step, _, _ in slow.written] == [1, 2, 3, 4]


def test_the_next_epoch_begins_while_the_checkpoint_is_written(tmp_path):
    begun = threading.Event()

    class Waiting(RunFolder):
        def save(self, step, state, keep=2):
            assert begun.wait(timeout=10), "the training waits for the disk"
            super().save(step, state, keep)

    p = plan(epochs=2, steps_per_epoch=2)

    def batches(epoch, start):
        for step, batch in enumerate(batches_of(p)(epoch, start), start):
            if (epoch, step) == (1, 1):
                begun.set()
            yield batch

    fit(supervised(), p, batches, CPU, Waiting(tmp_path))
    assert [int(line) for line in (tmp_path / "steps.log").read_text().split()] == [2, 4]


@pytest.mark.parametrize("when", ["next", "end"])
def test_a_checkpoint_that_could_not_be_written_ends_the_training(tmp_path, when):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"), Writer(RunFolder(tmp_path / "file")) as writer:
        writer.save(1, state(1))
        if when == "next":
            writer.save(2, state(2))
            pytest.fail("the first went wrong")


def test_a_training_that_fails_leaves_the_checkpoint_that_was_under_way(tmp_path):
    slow = SlowFolder(tmp_path)
    with pytest.raises(ZeroDivisionError), Writer(slow) as writer:
        writer.save(1, {"weights": torch.zeros(1), "rows": []})
        slow.go.release()
        raise ZeroDivisionError
    assert len(slow.written) == 1


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write the checkpoints"):
        RunFolder(tmp_path / "file" / "run").open()


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    (tmp_path / ".step-000000009-abc.4711.tmp.pt").write_bytes(b"half")
    run = folder(tmp_path)
    assert not list(tmp_path.iterdir())
    assert run.load_last() is None


def test_finished_is_read_back_and_a_damaged_model_is_not(tmp_path, capsys):
    run = folder(tmp_path)
    assert run.finished() is None
    run.finished_model.write_bytes(b"weights")
    run.finish({"rows": [{"epoch": 1.0}]})
    assert run.finished()["rows"] == [{"epoch": 1.0}]
    run.finished_model.write_bytes(b"weighty")
    assert run.finished() is None
    assert "damaged" in capsys.readouterr().err


def test_the_key_follows_settings_inputs_and_code():
    keys = {
        run_key({"lr": 1}, {"train": "a"}, "c"),
        run_key({"lr": 2}, {"train": "a"}, "c"),
        run_key({"lr": 1}, {"train": "b"}, "c"),
        run_key({"lr": 1}, {"train": "a"}, "d"),
    }
    assert len(keys) == 4
    assert run_key({"a": 1, "b": 2}, {}, "c") == run_key({"b": 2, "a": 1}, {}, "c")


def test_digests_follow_contents_and_names(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    store = tmp_path / "store"
    (store / "deep").mkdir(parents=True)
    (store / "deep" / "a").write_text("one")
    first = digest_inputs({"train": store})
    assert digest_inputs({"train": store}) == first
    (store / "deep" / "a").write_text("two!")
    second = digest_inputs({"train": store})
    (store / "deep" / "a").rename(store / "deep" / "b")
    third = digest_inputs({"train": store})
    assert len({first["train"], second["train"], third["train"]}) == 3
    with pytest.raises(UserError, match="is not there"):
        digest_inputs({"teacher": tmp_path / "nothing"})
