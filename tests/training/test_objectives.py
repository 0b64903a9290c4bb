"""The losses of a stage: one published step of each with its gradients, the switches, and what batches do to them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import kl_div, log_softmax, softmax

from posedistill.models import build_rtmpose
from posedistill.models.fold import fold_batch_norm
from posedistill.models.simcc import encode, label_weight
from posedistill.params import load_params
from posedistill.training import stage1_losses, stage2_losses

GOLDEN = np.load(Path(__file__).parents[1] / "golden/training/rule-steps.npz")
LOSS = load_params(Path(__file__).parents[2] / "params.yaml").loss
PUBLISHED = LOSS.replaced(alpha=7e-5, beta=0.1, gamma=1.0, decay=True, logit_on="all", feature_reduction="sum")


def golden_labels(stage, input_size=(256, 192)):
    visible = torch.tensor(GOLDEN[f"{stage}/visible"]).double()
    points = torch.cat((torch.tensor(GOLDEN[f"{stage}/keypoints"]), visible[..., None]), dim=-1)
    pair = encode(points, input_size)  # float32, as published
    return tuple(axis.double() for axis in pair), label_weight(points, input_size)


def golden_model(size, prefix, rule_weights):
    with torch.device("meta"):
        model = build_rtmpose(size)
    model.load_state_dict(rule_weights(model.state_dict(), prefix), assign=True)
    return model.double().requires_grad_()


def check_gradients(stage, gradients):
    """Norms of all gradients and some whole ones; a norm that is rounding noise only has to be noise here too."""
    names, norms = GOLDEN[f"{stage}/grad_names"], GOLDEN[f"{stage}/grad_norms"]
    assert set(names) == set(gradients)
    for name, norm in zip(names, norms):
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-9, abs=1e-12 * norms.max()), name
    whole = [key for key in GOLDEN.files if key.startswith(f"{stage}/grad/")]
    assert len(whole) >= 6
    for key in whole:
        found, expected = gradients[key.removeprefix(f"{stage}/grad/")].numpy(), GOLDEN[key]
        assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-9, key


def test_stage1_step_is_the_published(rule_weights, rule_images):
    teacher = golden_model("l", "teacher/", rule_weights).requires_grad_(False).eval()
    student = golden_model("t", "student/", rule_weights).train()
    align = nn.Conv2d(student.size.channels, teacher.size.channels, 1)
    align.load_state_dict(rule_weights(align.state_dict(), "align/"))
    align.double()
    images = rule_images(4, (256, 192)).double()
    with torch.no_grad():
        teacher_features = teacher.backbone(images)
        teacher_out = teacher.head(teacher_features)
    features = student.backbone(images)
    losses = stage1_losses(
        student.head(features),
        teacher_out,
        features,
        teacher_features,
        *golden_labels("stage1"),
        loss=PUBLISHED.replaced(reference_batch=len(images)),
        epoch=int(GOLDEN["stage1/epoch"]),
        epochs=int(GOLDEN["stage1/max_epochs"]),
        align=align,
    )
    names = {"label": "loss_kpt", "feature": "loss_fea", "logit": "loss_logit", "total": "total"}
    assert set(losses) == set(names)
    for name, published in names.items():
        assert losses[name].shape == ()
        assert losses[name].item() == pytest.approx(GOLDEN[f"stage1/{published}"].item(), rel=1e-9), name
    losses["total"].backward()
    gradients = {f"student.{name}": parameter.grad for name, parameter in student.named_parameters()}
    gradients |= {f"distill_losses.loss_fea.align.{name}": p.grad for name, p in align.named_parameters()}
    check_gradients("stage1", gradients)


def test_stage2_step_is_the_published(rule_weights, rule_images):
    teacher = golden_model("l", "teacher/", rule_weights).requires_grad_(False).eval()
    head = golden_model("l", "student/", rule_weights).head.train()
    with torch.no_grad():
        features = teacher.backbone(rule_images(4, (256, 192)).double())
        teacher_out = teacher.head(features)
    losses = stage2_losses(head(features), teacher_out, loss=PUBLISHED)
    assert losses["total"].item() == pytest.approx(GOLDEN["stage2/total"].item(), rel=1e-9)
    assert losses["label"].item() == losses["feature"].item() == 0
    losses["total"].backward()
    check_gradients("stage2", {f"student.head.{name}": p.grad for name, p in head.named_parameters()})


def small_step(persons=64, seed=0):
    """Outputs, maps and labels of a made-up step, float64: [N, 17] keypoints on 64×64 pixels."""
    draw = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    student, teacher = ((random(persons, 17, 128), random(persons, 17, 128)) for _ in range(2))
    points = torch.cat((random(persons, 17, 2) * 30 + 32, (random(persons, 17, 1) > 0).double()), dim=-1)
    labels, weight = encode(points, (64, 64), torch.float64), label_weight(points, (64, 64))
    return student, teacher, random(persons, 8, 2, 2), random(persons, 8, 2, 2), labels, weight


def test_stage1_at_batch_64_is_the_published_formula():
    student, teacher, maps, teacher_maps, labels, weight = small_step(64)
    found = stage1_losses(*small_step(64), loss=PUBLISHED, epoch=90, epochs=270)
    label = logit = 0.0
    for s, t, v in zip(student, teacher, labels):
        log_s = log_softmax(10 * s, -1)
        label += (kl_div(log_s, softmax(10 * v, -1), reduction="none").mean(-1) * weight).sum() / 17  # summed over N
        logit += kl_div(log_s, softmax(10 * t, -1), reduction="none").sum() / 17 / 64
    r = 1 - 90 / 270
    expected = {
        "label": label,
        "feature": 7e-5 * r * (maps - teacher_maps).square().sum() / 64,
        "logit": 0.1 * r * logit,
    }
    expected["total"] = sum(expected.values())
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-12), name


def test_the_balance_of_the_losses_does_not_depend_on_the_batch():
    step = small_step(64)
    whole = stage1_losses(*step, loss=PUBLISHED, epoch=0, epochs=10)

    def every_eighth(part, first):
        return part[first::8] if isinstance(part, torch.Tensor) else tuple(axis[first::8] for axis in part)

    batches = [[every_eighth(part, first) for part in step] for first in range(8)]
    small = [stage1_losses(*batch, loss=PUBLISHED, epoch=0, epochs=10) for batch in batches]
    for name, value in whole.items():
        assert value.item() == pytest.approx(sum(terms[name] for terms in small).item() / 8, rel=1e-12)


def test_switches():
    step = small_step(8)
    base = stage1_losses(*step, loss=PUBLISHED, epoch=6, epochs=10)

    def switched(**values):
        return stage1_losses(*step, loss=PUBLISHED.replaced(**values), epoch=6, epochs=10)

    steady = switched(decay=False)
    assert steady["label"] == base["label"]
    for name in ("feature", "logit"):
        assert base[name].item() == pytest.approx(0.4 * steady[name].item())
    assert switched(alpha=1.4e-4)["feature"].item() == pytest.approx(2 * base["feature"].item())
    assert switched(beta=0.0)["logit"].item() == 0
    assert switched(reference_batch=32)["label"].item() == pytest.approx(base["label"].item() / 2)
    assert switched(feature_reduction="mean")["feature"].item() == pytest.approx(base["feature"].item() / (8 * 2 * 2))
    labelled = switched(logit_on="labelled")["logit"]
    assert 0 < labelled < base["logit"]
    everybody = (*step[:5], torch.ones_like(step[5]))
    everywhere = stage1_losses(*everybody, loss=PUBLISHED.replaced(logit_on="labelled"), epoch=6, epochs=10)
    assert everywhere["logit"].item() == pytest.approx(base["logit"].item())

    halved = PUBLISHED.replaced(gamma=0.5)
    assert stage2_losses(*step[:2], loss=halved)["total"].item() * 2 == pytest.approx(
        stage2_losses(*step[:2], loss=PUBLISHED)["total"].item()
    )
    with pytest.raises(ValueError, match="weight"):
        stage2_losses(*step[:2], loss=PUBLISHED.replaced(logit_on="labelled"))


def test_a_teacher_of_logits_alone():
    student, teacher, _, _, labels, weight = small_step(8)
    losses = stage1_losses(student, teacher, None, None, labels, weight, loss=PUBLISHED, epoch=0, epochs=1)
    assert losses["feature"].item() == 0
    assert losses["total"].item() == pytest.approx((losses["label"] + losses["logit"]).item())


def accumulated_gradient(student, align, teacher, images, labels, weight, parts):
    """Gradient of the mean loss over the micro-batches `parts`, flat."""
    parameters = [*student.parameters(), *align.parameters()]
    for parameter in parameters:
        parameter.grad = None
    for rows in parts:
        with torch.no_grad():
            teacher_features = teacher.backbone(images[rows])
            teacher_out = teacher.head(teacher_features)
        features = student.backbone(images[rows])
        losses = stage1_losses(
            student.head(features),
            teacher_out,
            features,
            teacher_features,
            tuple(axis[rows] for axis in labels),
            weight[rows],
            loss=PUBLISHED,
            epoch=1,
            epochs=10,
            align=align,
        )
        (losses["total"] / len(parts)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in parameters])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_micro_batches_give_the_gradient_of_the_whole_batch(mode, random_model):
    """64 = 2 × 32: with BatchNorm in eval mode, and in train mode for a batch of twice the same half."""
    student = random_model("n", (64, 64)).train(mode == "train")
    teacher = fold_batch_norm(random_model("nw", (64, 64), seed=1))
    torch.manual_seed(0)
    align = nn.Conv2d(student.size.channels, teacher.size.channels, 1)
    images = torch.randn(64, 3, 64, 64)
    points = torch.rand(64, 133, 3) * torch.tensor([64.0, 64.0, 2.0])
    points[..., 2] = (points[..., 2] > 1).float()
    if mode == "train":
        images[32:], points[32:] = images[:32], points[:32]
    labels, weight = encode(points, (64, 64)), label_weight(points, (64, 64))
    step = (student, align, teacher, images, labels, weight)
    whole = accumulated_gradient(*step, [slice(0, 64)])
    parts = accumulated_gradient(*step, [slice(0, 32), slice(32, 64)])
    assert torch.nn.functional.cosine_similarity(whole, parts, dim=0) >= 0.9999
    assert parts.norm().item() == pytest.approx(whole.norm().item(), rel=1e-4)
