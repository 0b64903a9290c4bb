"""Every `auto` of the runtime settings, decided."""

import pytest
import torch
from fake_stage import settings
from training_fakes import model

from posedistill import devices
from posedistill.devices import choose, device_type, set_up
from posedistill.errors import UserError


def runtime(**changes):
    return settings().runtime.replaced(**changes)


def test_on_the_cpu_nothing_is_oversubscribed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "cores", lambda: 2)
    device = choose(runtime(device="auto", workers="auto"))
    assert (device.device.type, device.precision, device.compile) == ("cpu", torch.float32, False)
    assert (device.threads, device.workers) == (1, 1)
    monkeypatch.setattr(devices, "cores", lambda: 1)
    assert choose(runtime(workers="auto")).workers == 0


def test_on_a_gpu_bfloat16_channels_last_and_compiled(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "cores", lambda: 16)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    device = choose(runtime(device="auto", workers="auto"))
    assert (device.device, device.precision) == (torch.device("cuda", 1), torch.bfloat16)
    assert device.channels_last and device.compile and device.workers == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UserError, match="has 2"):
        choose(runtime(device="auto"))


def test_what_is_set_stays(monkeypatch):
    device = choose(runtime(precision="bfloat16", channels_last=False, compile=True, workers=5, micro_batch=7))
    assert (device.precision, device.channels_last, device.compile) == (torch.bfloat16, False, True)
    assert (device.workers, device.micro_batch) == (5, 7)


def test_no_silent_fall_back_to_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"runtime\.device is cuda"):
        device_type(runtime(device="cuda"))


def test_layout_of_weights_and_images():
    last = choose(runtime(channels_last=True))
    images = last.layout(torch.zeros(2, 3, 32, 32))
    assert images.is_contiguous(memory_format=torch.channels_last)
    placed = last.place(model())
    weight = placed.backbone.stem[1].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_threads_are_those_of_the_settings():
    before = torch.get_num_threads()
    try:
        set_up(choose(runtime(threads=2)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(False)
