"""What keeps a GPU busy, checked without one: no waiting in the step, one compiled graph, bfloat16 where it is safe."""

import dataclasses

import pytest
import torch
from test_distillation import inputs, stage1, stage2
from torch.utils._python_dispatch import TorchDispatchMode
from training_fakes import CPU, batches_of, folder, model, plan, supervised

from posedistill.params import Loss
from posedistill.training import loop
from posedistill.training.frozen import frozen
from posedistill.training.loop import fit
from posedistill.training.stage1 import Stage1
from posedistill.training.stage2 import Stage2

BFLOAT16 = dataclasses.replace(CPU, precision=torch.bfloat16, channels_last=True)


class CountWaits(TorchDispatchMode):
    """Counts the operations that make the host wait for a GPU: a value is read, or its shape depends on values."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "_unique2", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        counter = bool(args) and args[0] is not None and getattr(args[0], "dtype", None) in (torch.int64, torch.bool)
        # The moving average counts its steps on the CPU.
        self.count += function.overloadpacket.__name__ in self.WAITING and not (counter and args[0].ndim == 0)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("build", [supervised, stage1, stage2])
def test_only_logging_waits_for_the_device(tmp_path, monkeypatch, build):
    """Three or nine steps between two looks wait as often."""
    monkeypatch.setattr(loop, "ROWS", 1)
    counts = []
    for steps in (3, 9):
        p = plan(epochs=1, steps_per_epoch=steps, batch=2)
        with CountWaits() as waits:
            fit(build(), p, batches_of(p), CPU, folder(tmp_path / str(steps)))
        counts.append(waits.count)
    assert counts[0] == counts[1] > 0


def test_looking_more_often_waits_more_often(tmp_path, monkeypatch):
    """The count above does count."""
    monkeypatch.setattr(loop, "ROWS", 1)
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    counts = []
    for steps in (2, 4):
        p = plan(epochs=1, steps_per_epoch=steps, batch=2)
        with CountWaits() as waits:
            fit(supervised(), p, batches_of(p), CPU, folder(tmp_path / str(steps)))
        counts.append(waits.count)
    assert counts[1] > counts[0]


def test_bfloat16_computes_losses_in_float32_near_those_of_float32():
    trained = model(3).eval().requires_grad_(False)
    loss = stage1().loss
    assert isinstance(loss, Loss)
    images, keypoints = inputs()
    for plain, half in (
        (stage1(), Stage1(model(0), frozen(model(5, "nw").eval(), BFLOAT16), loss)),
        (stage2(), Stage2(trained, frozen(trained, BFLOAT16), model(9).head, loss)),
    ):
        half.load_state_dict(plain.state_dict())
        half = BFLOAT16.place(half)
        with BFLOAT16.autocast():
            terms, prediction, teacher_logits = half(BFLOAT16.layout(images), keypoints)
        expected, _, _ = plain(images, keypoints)
        assert prediction[0].dtype == teacher_logits[0].dtype == torch.float32
        for name, term in terms.items():
            assert term.dtype == torch.float32
            torch.testing.assert_close(term, expected[name], rtol=0.05, atol=1e-5)
        terms["total"].backward()
        assert all(
            parameter.grad.dtype == torch.float32 for parameter in half.parameters() if parameter.grad is not None
        )


@pytest.mark.slow
@pytest.mark.parametrize("build", [supervised, stage1, stage2])
def test_a_step_is_one_graph_for_all_epochs(build):
    """Nothing in it that torch.compile would break at, nor anything that it would compile anew in the next epoch."""
    objective = build().train()
    images, keypoints = inputs()
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(objective.forward, backend=backend, fullgraph=True)
    for epoch in range(4):
        objective.start_epoch(epoch, 4)
        terms, _, _ = compiled(images, keypoints)
    assert len(graphs) == 1
    objective.start_epoch(3, 4)
    torch.testing.assert_close(terms["total"], objective(images, keypoints)[0]["total"], rtol=1e-3, atol=1e-7)
