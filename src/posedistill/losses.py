"""The losses of two-stage pose distillation (DWPose, arXiv 2307.15880), as pure functions of tensors.

Symbols, as in the paper: N persons, K = 133 keypoints, L bins of an axis; S the student's distribution over the bins,
T the teacher's, V the label's; W the weight of a keypoint, 0 where it is unlabelled; F a feature map [N, C, H, W].

    L_ori   = −(1/N) Σ_n (1/K) Σ_k W_nk (1/L) Σ_i V_i log S_i       learn from the labels      `label_loss`
    L_logit = −(1/N) Σ_n (1/K) Σ_k          Σ_i T_i log S_i       learn from the teacher     `logit_loss`
    L_fea   =  (1/N) Σ_n Σ_chw (F_teacher − f(F_student))²        look like the teacher      `feature_loss`
    r(t)    =  1 − t/t_max,  t = 0, 1, …, t_max − 1               and let go of it in time   `decay`

    stage 1:  L = L_ori + r(t)·(α·L_fea + β·L_logit + Σ w·L_extra)   α = 7e-5, β = 0.1, no extra term as published
    stage 2:  L = γ·L_logit                                          γ = 1

The sums are those of the published code; each function says where that departs from the paper. L_logit and the extra
terms count all keypoints, labelled or not, unless `loss.logit_on` is `labelled`. The stages are put together in
`posedistill.training.stage1` and `stage2`. EXTRA_TERMS lists the terms that DWPose does not have: a further one is a
function with the arguments of `logit_loss` and a line there.

Every SimCC loss adds up over two axes. A pair (x [N, K, Wx], y [N, K, Wy]) holds both: logits of a model, or the
Gaussian labels of `posedistill.models.simcc.encode`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from posedistill.keypoints import SKELETON

Pair = tuple[Tensor, Tensor]  # of both axes (x, y)
Epoch = TypeVar("Epoch", float, Tensor)  # a tensor where a compiled step must not depend on its value

# Logits are multiplied by this before every softmax (RTMPose, arXiv 2303.07399: temperature τ = 0.1).
# The Gaussian labels too, so V is not the Gaussian itself but softmax(10·Gaussian).
INVERSE_TEMPERATURE = 10.0


def _divergence(student: Tensor, target: Tensor) -> Tensor:
    """Σ_i T_i (log T_i − log S_i) over the bins: logits or labels [N, K, L] → [N, K].

    The Kullback-Leibler divergence differs from the cross-entropy of the formulas above by Σ_i T_i log T_i. That does
    not depend on the student, so the gradients are the same, and a perfect student has the loss 0.
    """
    log_s = torch.log_softmax(student * INVERSE_TEMPERATURE, dim=-1)
    log_t = torch.log_softmax(target * INVERSE_TEMPERATURE, dim=-1)
    return (log_t.exp() * (log_t - log_s)).sum(-1)


def label_loss(pred: Pair, target: Pair, weight: Tensor) -> Tensor:
    """L_ori: how far the predicted distributions are from the labelled positions.

    Args:
        pred: logits (x [N, K, Wx], y [N, K, Wy]).
        target: Gaussian labels of the same shapes, peak 1 (`simcc.encode`).
        weight: [N, K], 1 where a keypoint is labelled, else 0.

    Returns:
        A 0-d tensor: mean over the bins, weighted mean over K (all K, labelled or not), x plus y, mean over the batch.

    The published code (RTMPose's KLDiscretLoss) sums over the batch instead: its value is this one times N. That makes
    L_ori alone grow with the batch of a GPU, which shifts the balance of labels and teacher. Here the caller multiplies
    by `loss.reference_batch` (64 at 256×192, as published), whatever the actual batch.
    """
    x, y = (_divergence(p, t) / p.shape[-1] for p, t in zip(pred, target))  # [N, K] each
    return ((x + y) * weight).mean()


def logit_loss(student: Pair, teacher: Pair, weight: Tensor | None = None) -> Tensor:
    """L_logit: how far the student's distributions are from the teacher's.

    Args:
        student: logits (x [N, K, Wx], y [N, K, Wy]).
        teacher: logits of the same shapes; no gradient flows into them.
        weight: None as in the paper and the published code: the teacher also teaches the keypoints that nobody
            labelled. [N, K] counts some only (the ablation `loss.logit_on: labelled`).

    Returns:
        A 0-d tensor: sum (not mean) over the bins, mean over K, x plus y, mean over the batch.
    """
    x, y = (_divergence(s, t.detach()) for s, t in zip(student, teacher))  # [N, K] each
    return (x + y if weight is None else (x + y) * weight).mean()


def feature_loss(student: Tensor, teacher: Tensor, reduction: Literal["sum", "mean"] = "sum") -> Tensor:
    """L_fea: squared distance of the feature maps.

    Args:
        student: [N, C, H, W], after the 1×1 convolution f where its channels differ from the teacher's.
        teacher: [N, C, H, W]; no gradient flows into it.
        reduction: "sum" over C·H·W as in the published code, where α = 7e-5. "mean" is the paper's 1/(C·H·W), for which
            it gives α = 5e-5; at C·H·W = 1024·8·6 that is about 69,000 times less than the code's, too little to do
            anything. The author's advice is to follow the code (issue 23 of the DWPose repository).

    Returns:
        A 0-d tensor, mean over the batch.
    """
    error = (teacher.detach() - student).square().sum() / len(student)
    return error if reduction == "sum" else error / student[0].numel()


def decay(epoch: Epoch, epochs: int) -> Epoch:
    """r(t): the weight of all distillation terms, 1 in the first epoch (t = `epoch` = 0) and 1/epochs in the last.

    The paper counts t from 1 and writes 1 − (t − 1)/t_max, which is the same.
    """
    return 1.0 - epoch / epochs


def mean_teacher(teachers: Sequence[Pair]) -> Pair:
    """Logits whose distributions are the mean of several teachers': T = (1/M) Σ_m T_m.

    Pairs (x [N, K, Wx], y [N, K, Wy]) → one such pair. One teacher comes back as it is. Source: distillation from an
    ensemble, arXiv 1503.02531.
    """
    if len(teachers) == 1:
        return teachers[0]
    x, y = (torch.stack([torch.log_softmax(t * INVERSE_TEMPERATURE, dim=-1) for t in axis]) for axis in zip(*teachers))
    return x.logsumexp(0) / INVERSE_TEMPERATURE, y.logsumexp(0) / INVERSE_TEMPERATURE  # the constant log M is no matter


# Extra terms

STANDARD_TEMPERATURE = 0.5
BONE_BETA = 1.0  # pixels


def standardised_logit_loss(student: Pair, teacher: Pair, weight: Tensor | None = None) -> Tensor:
    """L_std = (1/N) Σ_n (1/K) Σ_k τ² KL(softmax(z(teacher)/τ) ‖ softmax(z(student)/τ)),  z(x) = (x − mean x)/std x.

    Logits are standardised before the softmax, so the student need not reach the teacher's range, only its shape.
    Source: Logit Standardization in Knowledge Distillation, CVPR 2024, arXiv 2403.01427. Applied to SimCC: the bins of
    an axis are the classes, so mean and standard deviation are those of the bins of one keypoint and axis, and the sum
    is over both axes. τ = 0.5 instead of the paper's 2: a Gaussian label's peak stands 6 to 7 deviations above the
    rest, which makes it as narrow as the factor 10 of the other losses does.

    Arguments and result as for `logit_loss`.
    """
    x, y = (_standardised_divergence(s, t.detach()) for s, t in zip(student, teacher))  # [N, K] each
    return (x + y if weight is None else (x + y) * weight).mean()


def _standardised_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    scale = 1 / (STANDARD_TEMPERATURE * INVERSE_TEMPERATURE)
    return STANDARD_TEMPERATURE**2 * _divergence(standardised(student) * scale, standardised(teacher) * scale)


def standardised(logits: Tensor) -> Tensor:
    """Logits [N, K, L] with mean 0 and standard deviation 1 over the bins."""
    centred = logits - logits.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()


def bone_loss(student: Pair, teacher: Pair, weight: Tensor | None = None) -> Tensor:
    """L_bone = (1/N) Σ_n (1/B) Σ_b Σ_xy h(v_student − v_teacher),  v = E[end] − E[start],  E = Σ_i S_i · i/2.

    Compares the bone vectors of the skeleton: how its keypoints lie to one another, wherever the person is. E is the
    expected position in input pixels, and h the smooth L1: d²/2 within a pixel, |d| − 1/2 beyond. The B bones are those
    of `keypoints.SKELETON`: body, feet and hands; a face has none. Source: bones from Compositional Human Pose
    Regression, arXiv 1704.00159; expected positions from Integral Human Pose Regression, arXiv 1711.08229.

    Args:
        student, teacher: logits of all 133 keypoints, as for `logit_loss`.
        weight: None, or [N, K]: a bone counts where both its ends do.

    Returns:
        A 0-d tensor.
    """
    start, end = (_bones if torch.compiler.is_compiling() else _kept_bones)(student[0].device)
    total: Tensor | float = 0.0
    for s, t in zip(student, teacher):
        own, theirs = expected_position(s), expected_position(t.detach())
        difference = (own[:, end] - own[:, start]) - (theirs[:, end] - theirs[:, start])  # [N, B]
        zero = torch.zeros_like(difference)
        total = total + torch.nn.functional.smooth_l1_loss(difference, zero, reduction="none", beta=BONE_BETA)
    return (total if weight is None else total * weight[:, start] * weight[:, end]).mean()  # type: ignore[union-attr]


def expected_position(logits: Tensor) -> Tensor:
    """Mean of the distribution over the bins, in input pixels: [N, K, L] → [N, K]."""
    bins = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return (torch.softmax(logits * INVERSE_TEMPERATURE, dim=-1) * bins).sum(-1) / 2


def _bones(device: torch.device) -> tuple[Tensor, Tensor]:
    start, end = torch.tensor(SKELETON, device=device).unbind(1)
    return start, end


_kept_bones = lru_cache(maxsize=16)(_bones)


class Extra(NamedTuple):
    """A term: its function of student and teacher logits and the weight of each keypoint; the factor with which its
    gradient is about that of L_logit; and whether it is meant to stand in L_logit's place or beside it."""

    loss: Callable[[Pair, Pair, Tensor | None], Tensor]
    weight: float
    replaces_logits: bool


# By name, as in the setting loss.extra
EXTRA_TERMS = {
    "standardised": Extra(standardised_logit_loss, 3.0, replaces_logits=True),
    "bones": Extra(bone_loss, 0.05, replaces_logits=False),
}
