"""The loop: it learns, accumulates, stops, resumes to the same bits, and reports what happened."""

import math

import pytest
import torch
from training_fakes import CPU, batches_of, folder, model, plan, same_weights, supervised

from posedistill.devices import Device
from posedistill.errors import UserError
from posedistill.training import loop
from posedistill.training.loop import fit
from posedistill.training.schedule import Schedule


def with_micro_batch(size: int) -> Device:
    return Device(**(vars(CPU) | {"micro_batch": size}))


class Interrupted(BaseException):
    """Stands for Ctrl-C or a kill between two steps."""


def stop_at(batches, epoch: int, step: int):
    def stopped(at_epoch, start):
        for number, batch in enumerate(batches(at_epoch, start), start):
            if (at_epoch, number) == (epoch, step):
                raise Interrupted
            yield batch

    return stopped


def test_training_lowers_the_loss_and_rises_in_accuracy(tmp_path):
    p = plan(epochs=16, steps_per_epoch=6, batch=4)
    rows = fit(supervised(), p, batches_of(p), CPU, folder(tmp_path)).rows
    assert rows[-1]["label"] < 0.9 * rows[0]["label"]
    assert rows[-1]["accuracy"] > rows[0]["accuracy"]
    assert rows[-1]["step"] == p.steps
    assert rows[-1]["epoch"] == p.epochs


def test_curves_have_a_row_at_each_epochs_end_and_the_schedules_rate(tmp_path):
    p = plan(epochs=3, steps_per_epoch=4)
    rows = fit(supervised(), p, batches_of(p), CPU, folder(tmp_path)).rows
    assert [row["step"] for row in rows if row["epoch"] == int(row["epoch"])] == [4, 8, 12]
    assert [row["lr"] for row in rows] == [p.schedule.at(int(row["step"]) - 1) for row in rows]


@pytest.mark.parametrize(("epochs", "steps"), [(1, 7), (3, 10), (12, 75), (270, 430), (60, 3)])
def test_rows_are_neither_missing_nor_many(epochs, steps):
    p = plan(epochs=epochs, steps_per_epoch=steps)
    due = [step for step in range(1, p.steps + 1) if p.row_due(step)]
    assert set(range(steps, p.steps + 1, steps)) <= set(due)
    assert epochs <= len(due) <= max(2 * loop.ROWS, 2 * epochs)


def test_micro_batches_add_up_to_the_batch(tmp_path, monkeypatch):
    """In eval mode, where BatchNorm does not look at the batch; in float64, so that rounding hides no mistake."""
    p = plan(epochs=1, steps_per_epoch=5, batch=6)
    results = []
    for size in (6, 4):
        objective = supervised().double()
        objective.eval()
        monkeypatch.setattr(objective, "train", lambda mode=True: None)
        batches = batches_of(p, dtype=torch.float64)
        results.append(fit(objective, p, batches, with_micro_batch(size), folder(tmp_path / str(size))).model)
    for name, whole in results[0].state_dict().items():
        # Adam divides by the gradient's size, which magnifies rounding where a gradient is near 0: by tensor.
        assert (results[1].state_dict()[name].double() - whole).norm() <= 1e-9 * whole.double().norm(), name


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 0), (1, 3), (2, 3)])
def test_resumed_training_ends_with_the_same_bits(tmp_path, monkeypatch, epoch, step):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 2)
    p = plan(epochs=3, steps_per_epoch=4, keep="best")

    def run(path, batches):
        objective = supervised()

        def validate(model):
            return {"val_ap": float(sum(tensor.double().sum() for tensor in model.state_dict().values()))}

        result = fit(objective, p, batches, CPU, folder(path), validate=validate)
        return result, objective

    whole, trained = run(tmp_path / "whole", batches_of(p))
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop_at(batches_of(p), epoch, step))
    resumed, resumed_objective = run(tmp_path / "cut", batches_of(p))
    assert same_weights(whole.model, resumed.model)
    assert same_weights(trained, resumed_objective)
    assert whole.rows == resumed.rows
    saved = [int(line) for line in (tmp_path / "cut" / "steps.log").read_text().split()]
    assert saved == list(range(2, p.steps + 1, 2)), "a step before a checkpoint was repeated"


def test_keep_best_gives_the_weights_of_the_best_epoch(tmp_path):
    p = plan(epochs=3, steps_per_epoch=2, keep="best")
    seen = []

    def validate(model):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"val_ap": (10.0, 30.0, 20.0)[len(seen) - 1]}

    best = fit(supervised(), p, batches_of(p), CPU, folder(tmp_path), validate=validate).model.state_dict()
    assert all(torch.equal(best[name], tensor) for name, tensor in seen[1].items())
    assert not all(torch.equal(best[name], tensor) for name, tensor in seen[2].items())


def test_validation_every_n_epochs_and_at_the_end(tmp_path):
    p = plan(epochs=5, steps_per_epoch=1, validate_every=2)
    rows = fit(supervised(), p, batches_of(p), CPU, folder(tmp_path), validate=lambda model: {"val_ap": 1.0}).rows
    assert [row["epoch"] for row in rows if "val_ap" in row] == [2, 4, 5]


def test_validation_several_times_an_epoch_goes_with_the_rows_of_the_curves():
    p = plan(epochs=2, steps_per_epoch=266, validate_every=0.25)
    due = [step for step in range(1, p.steps + 1) if p.validation_due(step)]
    assert due == [66, 132, 198, 266, 332, 398, 464, 532]
    assert all(map(p.row_due, due))
    rarely = plan(epochs=5, steps_per_epoch=7, validate_every=2)
    assert [step for step in range(1, 36) if rarely.validation_due(step)] == [14, 28, 35]


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_checkpoint(tmp_path, capsys):
    p = plan(epochs=2, steps_per_epoch=4)

    def poisoned(epoch, start):
        for number, batch in enumerate(batches_of(p)(epoch, start), start):
            if (epoch, number) == (1, 1):
                batch.keypoints[0, 0, 2] = math.nan
            yield batch

    with pytest.raises(UserError, match=r"the loss is not finite after step 6 \(epoch 2\), with .*step-000000004"):
        fit(supervised(), p, poisoned, CPU, folder(tmp_path))
    state = folder(tmp_path).load_last()
    assert state["step"] == 4
    assert all(tensor.isfinite().all() for tensor in state["objective"].values())


def test_an_infinite_gradient_does_not_reach_a_checkpoint(tmp_path):
    p = plan(epochs=3, steps_per_epoch=2, clip_norm=None, validate_every=3)
    objective = supervised()
    calls = []

    def spoil(gradient):
        calls.append(1)
        return gradient * math.nan if len(calls) == 4 else gradient  # the last step of the second epoch

    objective.student.head.cls_y.weight.register_hook(spoil)
    with pytest.raises(UserError, match="a weight or BatchNorm statistic is not finite after step 4"):
        fit(objective, p, batches_of(p), CPU, folder(tmp_path))
    assert folder(tmp_path).load_last()["step"] == 2


def test_only_the_moving_average_leaves_the_loop(tmp_path):
    p = plan(epochs=1, steps_per_epoch=6)
    objective = supervised()
    result = fit(objective, p, batches_of(p), CPU, folder(tmp_path))
    assert not same_weights(result.model, objective.student)
    assert not same_weights(result.model, model())
    assert not result.model.training


def test_a_training_that_diverges_names_the_learning_rate(tmp_path):
    p = plan(epochs=2, steps_per_epoch=4, clip_norm=None, schedule=Schedule(1e38, 8), settings=("student.lr", "clip"))
    with pytest.raises(UserError, match=r"diverged: .* is not finite .* learning rate 1e\+38 .* lower student\.lr"):
        fit(supervised(), p, batches_of(p), CPU, folder(tmp_path))


def test_predictions_that_are_not_finite_end_the_training(tmp_path):
    p = plan(epochs=1, steps_per_epoch=2)
    with pytest.raises(UserError, match="a prediction on the validation images is not finite after step 2"):
        fit(supervised(), p, batches_of(p), CPU, folder(tmp_path), validate=lambda model: {"val_ap": math.nan})
