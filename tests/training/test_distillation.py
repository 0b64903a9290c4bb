"""Stage 1 and stage 2 over the loop: what is trained, what is frozen, and what the switches do."""

import pytest
import torch
from training_fakes import CPU, SIZE, batch_at, batches_of, folder, model, plan, same_weights

from posedistill.data.feed.device_augment import to_model_input
from posedistill.losses import logit_loss
from posedistill.params import Loss
from posedistill.training.frozen import frozen
from posedistill.training.loop import fit
from posedistill.training.schedule import Schedule
from posedistill.training.stage1 import Stage1
from posedistill.training.stage2 import Stage2

LOSS = Loss(
    alpha=7e-5,
    beta=0.1,
    gamma=1.0,
    decay=True,
    logit_on="all",
    feature_reduction="sum",
    extra={},
    reference_batch=64,
    clip_norm=1.0,
)


def stage1(loss: Loss = LOSS, teacher_size: str = "nw", seed: int = 0) -> Stage1:
    torch.manual_seed(seed)
    return Stage1(model(seed), frozen(model(5, teacher_size).eval(), CPU), loss)


def stage2(loss: Loss = LOSS, trained=None) -> Stage2:
    trained = (trained or model(3)).eval().requires_grad_(False)
    return Stage2(trained, frozen(trained, CPU), model(9).head, loss)


def inputs(number: int = 0):
    batch = batch_at(0, number, 4)
    return to_model_input(batch.images, None), batch.keypoints


def test_stage1_trains_student_and_alignment_and_nothing_else(tmp_path):
    objective = stage1()
    (teacher,) = objective._teacher
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    p = plan(name="stage1", epochs=1, steps_per_epoch=3)
    trained = {id(parameter) for parameter in objective.parameters()}
    assert trained == {id(x) for x in (*objective.student.parameters(), *objective.align.parameters())}
    align = objective.align.weight.detach().clone()
    result = fit(objective, p, batches_of(p), CPU, folder(tmp_path))
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert not torch.equal(align, objective.align.weight)
    assert set(result.model.state_dict()) == set(model().state_dict())


def test_a_frozen_teacher_predicts_the_same_in_train_mode():
    teacher = model(5, "nw")
    with torch.no_grad():  # statistics that are not those of a batch
        for name, buffer in teacher.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    images, _ = inputs()
    expected = teacher.eval()(images)
    copy = frozen(teacher, CPU)
    objective = Stage1(model(), copy, LOSS)
    objective.train()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in copy.modules())
    assert not any(module.training for module in copy.modules())
    for found, truth in zip(copy(images), expected):
        torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-6)


def test_alignment_only_where_channels_differ():
    assert stage1(teacher_size="n").align is None
    assert stage1(teacher_size="nw").align.weight.shape == (model(0, "nw").size.channels, model().size.channels, 1, 1)


def test_decay_multiplies_both_distillation_terms():
    images, keypoints = inputs()
    objective = stage1().eval()
    objective.start_epoch(0, 4)
    first, _, _ = objective(images, keypoints)
    objective.start_epoch(3, 4)
    last, _, _ = objective(images, keypoints)
    assert objective.facts() == {"decay": 0.25}
    for name in ("feature", "logit"):
        torch.testing.assert_close(last[name], first[name] * 0.25)
    torch.testing.assert_close(last["label"], first["label"])
    torch.testing.assert_close(last["total"], last["label"] + last["feature"] + last["logit"])


@pytest.mark.parametrize("change", [{"alpha": 1e-4}, {"alpha": 0.0}, {"beta": 0.5}, {"logit_on": "labelled"}])
def test_every_switch_gives_other_weights(tmp_path, change):
    p = plan(name="stage1", epochs=1, steps_per_epoch=3)
    results = [
        fit(stage1(loss), p, batches_of(p), CPU, folder(tmp_path / str(i))).model
        for i, loss in enumerate((LOSS, LOSS.replaced(**change)))
    ]
    assert not same_weights(*results)


def test_curves_hold_every_term_its_gradient_and_the_agreement(tmp_path):
    p = plan(name="stage1", epochs=2, steps_per_epoch=3)
    rows = fit(stage1(), p, batches_of(p), CPU, folder(tmp_path)).rows
    assert {"label", "feature", "logit", "total", "decay", "accuracy", "agreement"} <= set(rows[0])
    norms = [rows[-1][f"grad_{name}"] for name in ("label", "feature", "logit")]
    assert all(norm > 0 for norm in norms)


def test_looking_at_gradients_leaves_no_trace(tmp_path):
    results = []
    for every in (1, 2):
        p = plan(name="stage1", epochs=2, steps_per_epoch=3, validate_every=every)
        results.append(fit(stage1(), p, batches_of(p), CPU, folder(tmp_path / str(every))).model)
    assert same_weights(*results)


def test_stage2_keeps_the_backbone_and_trains_a_fresh_head_towards_the_trained_one(tmp_path, random_model):
    objective = stage2(trained=random_model("n", SIZE))
    original, _ = objective._frozen
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    images, keypoints = inputs(50)
    start = objective.eval()(images, keypoints)[0]["total"].item()
    p = plan(name="stage2", epochs=2, steps_per_epoch=8, schedule=Schedule(5e-3, 16))
    result = fit(objective, p, batches_of(p), CPU, folder(tmp_path))
    made = result.model.state_dict()
    for name, tensor in before.items():
        assert torch.equal(original.state_dict()[name], tensor)
        if name.startswith("backbone."):
            assert torch.equal(made[name], tensor), name
    assert not torch.equal(made["head.cls_x.weight"], before["head.cls_x.weight"])
    with torch.no_grad():
        end = logit_loss(result.model(images), original(images)).item()
    assert end < start
    assert all(row["label"] == 0 and row["feature"] == 0 for row in result.rows)


def test_stage2_optimises_only_the_head():
    objective = stage2()
    assert {id(x) for x in objective.parameters()} == {id(x) for x in objective.head.parameters()}
    assert set(objective.state_dict()) == {f"head.{name}" for name in model().head.state_dict()}


def test_stage2_runs_the_backbone_once_and_without_gradients():
    objective = stage2()
    _, teacher = objective._frozen
    calls = []
    teacher.backbone.register_forward_hook(lambda module, given, result: calls.append(result.requires_grad))
    objective.train()
    terms, _, _ = objective(*inputs())
    terms["total"].backward()
    assert calls == [False]


def test_gamma_scales_the_loss_of_stage2():
    images, keypoints = inputs()
    one, two = (stage2(LOSS.replaced(gamma=g)).eval()(images, keypoints)[0]["total"] for g in (1.0, 2.0))
    torch.testing.assert_close(two, 2 * one)
