"""The method shown on one batch: the source of the losses, shapes, numbers, and distributions before and after."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from posedistill.data.feed.augment import sample_train
from posedistill.data.feed.device_augment import MEAN, STD, to_model_input
from posedistill.data.feed.pixel_changes import enlarged
from posedistill.data.store.arrow import TrainStore
from posedistill.keypoints import NAMES, PARTS, SKELETON, UPPER_BODY
from posedistill.losses import INVERSE_TEMPERATURE, Pair
from posedistill.models import simcc
from posedistill.models.rtmpose import build_rtmpose
from posedistill.params import Input, Params
from posedistill.reporting.samples import spread
from posedistill.reporting.style import BLUE, GREY, ORANGE
from posedistill.reporting.tables import Plain, Table, number, row_table
from posedistill.training.objective import labels_of
from posedistill.training.runs import load_model
from posedistill.training.stage1 import Stage1, load_more, load_teacher
from posedistill.training.stage2 import Stage2
from posedistill.training.supervised import new_student

PERSONS = 16
BORDER = 0.15  # of the input's size
NEAR = 0.2  # of the input's height
# How each distribution is drawn: the teacher, the label, the student before its training and after.
LINES: dict[str, dict[str, Any]] = {
    "teacher": {"color": ORANGE, "ls": "-", "lw": 2.4},
    "label": {"color": "#000000", "ls": ":", "lw": 1.8},
    "student, before": {"color": GREY, "ls": "--", "lw": 1.4},
    "student, after": {"color": BLUE, "ls": "-", "lw": 1.4},
}


def source(*functions: Callable) -> Plain:
    """The code of functions as it runs, without docstrings."""
    return Plain("```python\n" + "\n\n".join(map(_code, functions)) + "\n```")


def _code(function: Callable) -> str:
    text = textwrap.dedent(inspect.getsource(function))
    (definition,) = ast.parse(text).body
    assert isinstance(definition, ast.FunctionDef)
    lines = text.rstrip().splitlines()
    if ast.get_docstring(definition) is not None:
        documented = definition.body[0]
        del lines[documented.lineno - 1 : documented.end_lineno]
    return "\n".join(lines).strip()


@dataclass(frozen=True)
class Worked:
    """One training batch of B persons through teacher and student.

    images [B, 3, H, W], normalised; keypoints [B, K, 3] in input pixels; teacher, before and after: SimCC logits (x
    [B, K, 2W], y [B, K, 2H]); shapes: what flows → its shape and meaning; terms: of the loss → (raw, factor, weighted,
    weighted with the trained student or None).
    """

    images: Tensor
    keypoints: Tensor
    teacher: Pair
    before: Pair
    after: Pair
    shapes: Mapping[str, tuple[tuple[int, ...], str]]
    terms: Mapping[str, tuple[float, float, float, float | None]]
    reads_labels: bool


@torch.no_grad()
def stage1_batch(params: Params, train: str = "prepared/train", models: str = "models") -> Worked:
    """A batch of stage 1 in the first epoch, with the student as it starts, and as it was trained."""
    own = params.input_for("teacher")
    images, keypoints, seen = _batch(params, "stage1", train, own if own != params.input else None)
    student, loss = params.student, params.loss
    before = new_student(student.size, params.input.size, student.seed, student.backbone, "student.backbone").eval()
    after = load_model(f"{models}/stage1.safetensors", student.size, params.input.size, "student.size")
    teacher, more = load_teacher(params, f"{models}/teacher.safetensors"), load_more(params)
    objective = Stage1(before, teacher.eval(), loss, params.teacher.keypoints, [one.eval() for one in more]).eval()
    weighted, start, answer = objective(images, keypoints, seen)
    objective.student = after
    trained, end, _ = objective(images, keypoints, seen)
    assert answer is not None
    factors = {"label": loss.reference_batch, "feature": loss.alpha, "logit": loss.beta}
    terms = {}
    for name, factor in factors.items():
        if factor:
            value = weighted[name].item()
            # The 1×1 convolution f is not kept with the trained student.
            last = None if name == "feature" and objective.align is not None else trained[name].item()
            terms[name] = (value / factor, float(factor), value, last)
    features = before.backbone(images)
    shapes = {"images": (tuple(images.shape), "the batch, as the student sees it")}
    maps, _ = teacher.features_and_logits(images if seen is None else seen)
    if maps is not None:
        shapes["F, teacher"] = (tuple(maps.shape), "last feature map of the teacher")
    shapes["F, student"] = (tuple(features.shape), "last feature map of the student")
    if objective.align is not None:
        shapes["f(F), student"] = (tuple(objective.align(features).shape), "after the 1×1 convolution f")
    shapes |= _logit_shapes(answer, keypoints)
    return Worked(images, keypoints, answer, start, end, shapes, terms, reads_labels=True)


@torch.no_grad()
def stage2_batch(params: Params, train: str = "prepared/train", models: str = "models") -> Worked:
    """A batch of stage 2: the trained head teaches the fresh one, as it starts, and as it was trained."""
    images, keypoints, _ = _batch(params, "stage2", train)
    size = params.student.size
    trained = load_model(f"{models}/{params.stage2.init}.safetensors", size, params.input.size, "student.size")
    after = load_model(f"{models}/stage2.safetensors", size, params.input.size, "student.size")
    torch.manual_seed(params.stage2.seed)
    head = build_rtmpose(size, params.input.size).head.eval()
    first, start, answer = Stage2(trained, trained, head, params.loss)(images, keypoints)
    last, end, _ = Stage2(trained, trained, after.head.eval(), params.loss)(images, keypoints)
    assert answer is not None
    features = trained.backbone(images)
    shapes = {
        "images": (tuple(images.shape), "the batch"),
        "F": (tuple(features.shape), "feature map of the frozen backbone, for both heads"),
    }
    shapes |= _logit_shapes(answer, keypoints)
    gamma = float(params.loss.gamma)
    value = first["logit"].item()
    terms = {"logit": (value / gamma, gamma, value, last["logit"].item())} if gamma else {}
    return Worked(images, keypoints, answer, start, end, shapes, terms, reads_labels=False)


def _batch(params: Params, stage: str, train: str, view: Input | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Images [B, 3, H, W] and keypoints [B, K, 3] of persons spread over the store, augmented as in the stage's
    training; and the teacher's images, if its input is another one, `view`."""
    store, augment = TrainStore(train), params.augment_for(stage)
    rows = spread(PERSONS, len(store))
    samples = [
        sample_train(store[int(i)], augment, params.input, np.random.default_rng([0, int(i)]), view) for i in rows
    ]
    changes = torch.from_numpy(np.stack([one.changes for one in samples]))
    keypoints = torch.from_numpy(np.stack([one.keypoints for one in samples]))
    images = to_model_input(torch.from_numpy(np.stack([one.image for one in samples])), changes)
    seen = None
    if view is not None:
        larger = torch.from_numpy(np.stack([one.teacher_image for one in samples if one.teacher_image is not None]))
        seen = to_model_input(larger, enlarged(changes, view.height / params.input.height))
    return images, keypoints, seen


def _logit_shapes(answer: Pair, keypoints: Tensor) -> dict[str, tuple[tuple[int, ...], str]]:
    labelled = int((keypoints[..., 2] > 0).sum())
    return {
        "T and S, x": (tuple(answer[0].shape), "logits over the bins of half a pixel in x, of both"),
        "T and S, y": (tuple(answer[1].shape), "the same in y"),
        "W": (tuple(keypoints.shape[:2]), f"1 where a keypoint is labelled: {labelled} of {keypoints[..., 2].numel()}"),
    }


def shapes_table(worked: Worked) -> Table:
    """What flows through the step: shapes, and what they mean."""
    rows = {name: {"shape": " × ".join(map(str, shape)), "what": what} for name, (shape, what) in worked.shapes.items()}
    return row_table(rows, "tensor")


SYMBOLS = {"label": "L_ori", "feature": "L_fea", "logit": "L_logit"}


def terms_table(worked: Worked, factors: Mapping[str, str]) -> Table:
    """The terms of the loss: raw value × factor = what is added, at the start and with the trained student."""
    rows = {}
    for name, (raw, factor, weighted, last) in worked.terms.items():
        rows[SYMBOLS[name]] = {
            "value": f"{raw:,.4g}",
            "factor": f"{factors[name]} = {factor:g}",
            "product": number(weighted, ".3f"),
            "product after training": number(last, ".3f"),
        }
    rows["total"] = {"product": number(sum(one[2] for one in worked.terms.values()), ".3f")}
    note = f"{len(worked.images)} augmented training persons, networks in eval mode, first epoch (r(t) = 1)."
    return row_table(rows, "term", notes=note)


def axes_figure(worked: Worked) -> Figure:
    """Two keypoints, one labelled and one not: the crop, and along x the distributions of teacher, label, and student
    before and after its training."""
    cases = [case for case in (_labelled(worked), _unlabelled(worked)) if case is not None]
    figure, grid = plt.subplots(len(cases), 2, figsize=(9, 2.9 * len(cases)), width_ratios=(1, 3.6), squeeze=False)
    for (picture, plot), (person, keypoint) in zip(grid, cases):
        _draw_case(worked, picture, plot, person, keypoint)
    grid[0][1].legend(loc="best", fontsize=9)
    grid[-1][1].set_xlabel("x, pixels of the input")
    return figure


def _labelled(worked: Worked) -> tuple[int, int] | None:
    """The labelled joint of the body at which the student was the furthest from the teacher, among those that teacher
    and trained student have right."""
    weight = worked.keypoints[..., 2] > 0
    weight[:, : UPPER_BODY[5]] = weight[:, PARTS["face"].start :] = False
    teacher, before, after = (_x(pair).argmax(-1) for pair in (worked.teacher, worked.before, worked.after))
    truth = worked.keypoints[..., 0] * simcc.SPLIT_RATIO
    right = weight & ((teacher - truth).abs() < 4) & ((after - truth).abs() < 4) & _inside(worked.teacher)
    return _largest((before - teacher).abs().float(), right if right.any() else weight)


def _unlabelled(worked: Worked) -> tuple[int, int] | None:
    """The unlabelled point of which the teacher is most certain, of those that it puts inside the picture and near a
    labelled neighbour."""
    unlabelled = (worked.keypoints[..., 2] == 0) & _inside(worked.teacher)
    teacher = torch.stack([axis.argmax(-1) / simcc.SPLIT_RATIO for axis in worked.teacher], dim=-1)
    neighbour = worked.keypoints[:, [_neighbour(k) for k in range(len(NAMES))]]
    near = (teacher - neighbour[..., :2]).norm(dim=-1) < NEAR * worked.images.shape[2]
    sensible = unlabelled & near & (neighbour[..., 2] > 0)
    return _largest(_x(worked.teacher).amax(-1), sensible if sensible.any() else unlabelled)


def _inside(pair: Pair) -> Tensor:
    """Whether each arg-max [B, K] is away from the border."""
    shares = [axis.argmax(-1) / axis.shape[-1] for axis in pair]
    return torch.stack([(share > BORDER) & (share < 1 - BORDER) for share in shares]).all(dim=0)


def _neighbour(keypoint: int) -> int:
    """The joint next to a keypoint: the wrist of a hand, the nose of the face, else one linked to it."""
    for part, joint in (("lefthand", "left_wrist"), ("righthand", "right_wrist"), ("face", "nose")):
        if PARTS[part].start <= keypoint < PARTS[part].stop:
            return NAMES.index(joint)
    linked = [other for link in SKELETON if keypoint in link for other in link if other != keypoint]
    return linked[0]


def _x(pair: Pair) -> Tensor:
    return torch.softmax(pair[0].double() * INVERSE_TEMPERATURE, dim=-1)


def _largest(values: Tensor, where: Tensor) -> tuple[int, int] | None:
    if not where.any():
        return None
    place = int(torch.where(where, values, -torch.inf).argmax())
    return place // values.shape[1], place % values.shape[1]


def _draw_case(worked: Worked, picture: Axes, plot: Axes, person: int, keypoint: int) -> None:
    image = worked.images[person].permute(1, 2, 0).numpy() * np.array(STD) + np.array(MEAN)
    picture.imshow(image.round().clip(0, 255).astype(np.uint8))
    x, y, labelled = worked.keypoints[person, keypoint].tolist()
    if not labelled:
        x, y = (float(axis[person, keypoint].argmax()) / simcc.SPLIT_RATIO for axis in worked.teacher)
    picture.scatter([x], [y], s=90, facecolors="none", edgecolors=ORANGE, linewidths=2.5)
    picture.set_axis_off()
    width = worked.images.shape[-1]
    curves = {"teacher": worked.teacher, "student, before": worked.before, "student, after": worked.after}
    lines = {name: _x(pair)[person, keypoint].numpy() for name, pair in curves.items()}
    if labelled:
        size = (worked.images.shape[2], width)
        label, _ = labels_of(worked.keypoints[person : person + 1], size, torch.float64)
        lines["label"] = _x(label)[0, keypoint].numpy()
    for name, style in LINES.items():
        if name in lines:
            plot.plot(np.arange(len(lines[name])) / simcc.SPLIT_RATIO, 100 * lines[name], label=name, **style)
    state = "labelled" if labelled else "not labelled"
    if worked.reads_labels:
        state += ": label and teacher teach it" if labelled else ": only the teacher teaches it"
    plot.set(xlim=(0, width), title=f"{NAMES[keypoint]}, {state}", ylabel="probability of a bin, %")
