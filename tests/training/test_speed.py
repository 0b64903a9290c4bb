"""What keeps a GPU busy, checked without one: no waiting in the step, one compiled graph, bfloat16 where it is safe."""

import dataclasses
from functools import partial

import pytest
import torch
from test_distillation import inputs, stage1, stage2
from torch.utils._python_dispatch import TorchDispatchMode
from training_fakes import CPU, batches_of, folder, model, plan, same_weights, supervised

from posedistill.data.feed import device_augment
from posedistill.models import build_rtmpose
from posedistill.models.cspnext import CSPNeXtBlock
from posedistill.params import Loss
from posedistill.training import loop
from posedistill.training.compiled import compile_regions, prepare_compiler, regions
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


class Graphs:
    """A backend of torch.compile that runs what it is given as it is, and keeps it."""

    def __init__(self) -> None:
        self.kept = []

    def __call__(self, graph, example):
        self.kept.append(graph)
        return graph.forward


@pytest.mark.slow
@pytest.mark.parametrize("build", [supervised, stage1, stage2])
def test_regions_are_compiled_once_for_all_epochs_and_give_the_same(build):
    """Nothing in them that torch.compile would break at, nor anything that it would compile anew in the next epoch."""
    objective, graphs = build().train(), Graphs()
    objective.start_epoch(0, 4)
    images, keypoints = inputs()
    expected, _, _ = objective(images, keypoints)
    names = list(objective.state_dict())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    objective.compile(backend=graphs)
    found, _, _ = objective(images, keypoints)
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term, rtol=1e-4, atol=1e-7)
    first = len(graphs.kept)
    for epoch in (1, 2):
        objective.start_epoch(epoch, 4)
        objective(images, keypoints)[0]["total"].backward()
    assert len(graphs.kept) == first > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    with torch.compiler.set_stance("force_eager"):  # as the loop does for its look in eval mode
        objective.evaluated_terms(images, keypoints)
    assert len(graphs.kept) == first
    assert list(objective.state_dict()) == names
    assert all(parameter.grad is not None for parameter in objective.parameters())


@pytest.mark.slow
def test_blocks_of_the_same_shapes_share_their_code():
    """The published size m has 12 blocks in four stages."""
    torch.manual_seed(0)
    network, graphs = build_rtmpose("m", (64, 64)).eval(), Graphs()
    torch._dynamo.reset()
    prepare_compiler()
    compile_regions(network, backend=graphs, dynamic=False)
    blocks = [part for part in regions(network) if isinstance(part, CSPNeXtBlock)]
    with torch.no_grad():
        for block in blocks:
            block(torch.zeros(1, block.conv1.conv.in_channels, 8, 8))
    assert (len(blocks), len(graphs.kept)) == (12, 4)


@pytest.mark.slow
def test_changes_of_the_pixels_are_one_graph_that_makes_no_constants():
    """Each would be a copy to the GPU that waits for all before it."""
    images = torch.randint(0, 255, (2, 32, 32, 3), dtype=torch.uint8)
    changes = torch.rand(2, 9)

    def on_gpu(images, changes):  # the way of `to_model_input` there
        return device_augment.normalise(device_augment.apply_torch(images, changes))

    expected, graphs = on_gpu(images, changes), Graphs()
    torch._dynamo.reset()
    compiled = torch.compile(on_gpu, backend=graphs, fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(images, changes), expected)
    (graph,) = graphs.kept
    assert torch.tensor not in [node.target for node in graph.graph.nodes]


@pytest.mark.slow
def test_a_compiled_training_ends_with_the_weights_of_a_plain_one(tmp_path, monkeypatch):
    """The compiler's own part replaced by plain execution."""
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path))
    p = plan(epochs=2, steps_per_epoch=2, batch=2)
    torch._dynamo.reset()
    results = []
    for compiles in (False, True):
        objective = stage1()
        if compiles:
            monkeypatch.setattr(objective, "compile", partial(objective.compile, backend="eager"))
        device = dataclasses.replace(CPU, compile=compiles)
        results.append(fit(objective, p, batches_of(p), device, folder(tmp_path / str(compiles))).model)
    assert same_weights(*results)
