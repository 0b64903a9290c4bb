from pathlib import Path

import numpy as np
import pytest

from posedistill.params import load_params
from posedistill.training.schedule import Schedule, build_schedule, scaled_lr

GOLDEN = np.load(Path(__file__).parents[1] / "golden/training/sched_ema.npz")
PARAMS = Path(__file__).parents[2] / "params.yaml"
PER_EPOCH = int(GOLDEN["iters_per_epoch"])


@pytest.fixture
def train():
    return load_params(PARAMS).train


def rates(schedule):
    return [schedule.at(step) for step in range(schedule.steps)]


def test_published_stage_1():
    schedule = Schedule(4e-3, 270 * PER_EPOCH, 1000, 1e-5, 135 * PER_EPOCH, 0.05)
    np.testing.assert_allclose(rates(schedule), GOLDEN["lr_s1"], rtol=1e-9)


def test_published_stage_2_never_decays():
    schedule = Schedule(4e-3, 60 * PER_EPOCH, 1000, 1e-5, 60 * PER_EPOCH, 0.05)
    np.testing.assert_allclose(rates(schedule), GOLDEN["lr_s2"], rtol=1e-9)
    assert schedule.at(schedule.steps - 1) == 4e-3


def test_settings_make_the_schedule(train):
    schedule = build_schedule(train, 1e-3, epochs=12, steps_per_epoch=100)
    assert (schedule.steps, schedule.flat_steps, schedule.warmup_steps) == (1200, 600, 100)
    assert schedule.at(0) == pytest.approx(1e-3 * train.warmup_factor)
    assert schedule.at(99) == schedule.at(600) == 1e-3 > schedule.at(601)
    assert schedule.at(1199) == pytest.approx(1e-3 * train.final_lr, rel=1e-3)
    published = build_schedule(train, 1e-3, epochs=12, steps_per_epoch=100, shape="published")
    assert published.at(1199) == 1e-3


def test_warm_up_is_at_most_a_tenth(train):
    schedule = build_schedule(train, 1e-3, epochs=2, steps_per_epoch=50)
    assert schedule.warmup_steps == 10 and schedule.at(9) == 1e-3 > schedule.at(8)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 9), (1, 20), (3, 1)])
def test_the_shortest_trainings_have_a_rate(train, epochs, steps):
    assert all(0 < rate <= 1e-3 for rate in rates(build_schedule(train, 1e-3, epochs, steps)))


def test_the_rate_follows_the_batch():
    assert scaled_lr(4e-3, 64, 512) == pytest.approx(5e-4)
    assert scaled_lr(4e-3, 64, None) == 4e-3
