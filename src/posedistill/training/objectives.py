"""What the two distillation stages minimise: the losses of `posedistill.losses` with their weights and r(t).

Pure functions of what the models answered; 0-d tensors come back under the names of the paper's terms.
"""

from torch import Tensor, nn

from posedistill.losses import Epoch, Pair, decay, feature_loss, label_loss, logit_loss
from posedistill.params import Loss


def stage1_losses(
    student_out: Pair,
    teacher_out: Pair,
    student_features: Tensor | None,
    teacher_features: Tensor | None,
    labels: Pair,
    weight: Tensor,
    *,
    loss: Loss,
    epoch: Epoch,
    epochs: int,
    align: nn.Module | None = None,
) -> dict[str, Tensor]:
    """L = L_ori + r(t)·α·L_fea + r(t)·β·L_logit.

    Args:
        student_out, teacher_out: SimCC logits (x [N, K, Wx], y [N, K, Wy]).
        student_features, teacher_features: last backbone maps [N, C, H, W]; None where there is none (a teacher that
            is only an ONNX file): the feature term is then 0.
        labels: Gaussian labels of the shapes of the logits (`simcc.encode`).
        weight: [N, K], 1 where a keypoint is labelled.
        loss: alpha, beta, decay, logit_on, feature_reduction, reference_batch.
        epoch, epochs: the epoch from 0, and how many there are, for r(t).
        align: f, a 1×1 convolution to the teacher's channels; None where they are the student's already.

    Returns:
        0-d tensors label, feature, logit with weights and decay applied, and total, their sum. With N equal to
        `loss.reference_batch` they are the published step's; for any other N their balance is still that of it.
    """
    r = decay(epoch, epochs) if loss.decay else 1.0
    label = label_loss(student_out, labels, weight) * loss.reference_batch
    if student_features is None or teacher_features is None:
        feature = label.new_zeros(())
    else:
        aligned = student_features if align is None else align(student_features)
        feature = feature_loss(aligned, teacher_features, _reduction(loss)) * (loss.alpha * r)
    logit = logit_loss(student_out, teacher_out, _logit_weight(loss, weight)) * (loss.beta * r)
    return {"label": label, "feature": feature, "logit": logit, "total": label + feature + logit}


def stage2_losses(
    student_out: Pair, teacher_out: Pair, weight: Tensor | None = None, *, loss: Loss
) -> dict[str, Tensor]:
    """L = γ·L_logit: no labels and no decay, with the trained head as the teacher of a fresh one.

    `weight` [N, K] is needed for `loss.logit_on: labelled` alone. Returns label and feature (0), logit and total.
    """
    logit = logit_loss(student_out, teacher_out, _logit_weight(loss, weight)) * loss.gamma
    zero = logit.new_zeros(())
    return {"label": zero, "feature": zero, "logit": logit, "total": logit}


def _logit_weight(loss: Loss, weight: Tensor | None) -> Tensor | None:
    if loss.logit_on == "all":
        return None
    if weight is None:
        raise ValueError("loss.logit_on: labelled needs the weight of each keypoint")
    return weight


def _reduction(loss: Loss):
    return "mean" if loss.feature_reduction == "mean" else "sum"
