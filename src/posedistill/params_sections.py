"""The sections of params.yaml as frozen pydantic models: each setting with its type and range.

A section may hold only some of its settings: those that a stage lists in dvc.yaml, or those that replace others.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from posedistill.errors import UserError
from posedistill.files import sha256_file

SizeName = Literal["n", "nw", "t", "s", "m", "l", "x"]
SIZES: tuple[str, ...] = get_args(SizeName)  # models/sizes.py holds a row for each
ROLES = ("teacher", "baseline", "stage1", "stage2")  # the four models, in pipeline order

LARGEST = 2**32 - 1  # NumPy's largest seed
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
MOST_PROCESSES = 1024  # more would only exhaust the machine
Processes = Annotated[int, Field(ge=0, le=MOST_PROCESSES)]
Pixels = Annotated[int, Field(ge=32, le=LARGEST, multiple_of=16)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(pattern=r"\S", description="text that is not empty")]
Name = Annotated[str, Field(pattern=r"^[\w-]+$", description="letters, digits, - and _ (part of a folder's name)")]
Digest = Annotated[str, Field(pattern="^[0-9a-fA-F]{8,64}$", description="8 to 64 hexadecimal digits in quotes")]
Auto = Literal["auto"]
KeypointTable = Annotated[
    tuple[Whole, ...],
    Field(
        strict=False,
        min_length=133,
        max_length=133,
        description="a list of 133 whole numbers >= 0: where the teacher has each keypoint",
    ),
]


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("low > high")
    return span


# strict=False: a list, too, becomes a tuple.
ShareSpan = Annotated[
    tuple[Share, Share],
    Field(strict=False, description="[low, high], two numbers from 0 to 1 with low <= high"),
    AfterValidator(_ordered),
]
ScaleSpan = Annotated[
    tuple[Annotated[float, Field(ge=0.1, le=10)], Annotated[float, Field(ge=0.1, le=10)]],
    Field(strict=False, description="[low, high], two numbers from 0.1 to 10 with low <= high"),
    AfterValidator(_ordered),
]


class UnlistedSetting(RuntimeError):
    """Code read a setting that its stage does not list under `params:` in dvc.yaml: the stage would not run again
    when that setting changes."""


UNLISTED: Any = object()  # placeholder for a setting that the section does not hold


class Section(BaseModel):
    """A group of settings: immutable, without unknown keys; integers become floats and lists tuples, nothing else is
    converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _check(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        return value if value is UNLISTED else check(value)

    @model_validator(mode="after")
    def _without_unlisted(self) -> Self:
        for name in [name for name, value in self if value is UNLISTED]:
            del self.__dict__[name]
        return self

    @classmethod
    def partial(cls, values: Any) -> Any:
        """`values` as input for a section that holds only these."""
        return {**dict.fromkeys(cls.model_fields, UNLISTED), **values} if isinstance(values, dict) else values

    def __getattr__(self, name: str) -> Any:  # only called for missing attributes
        if name in type(self).model_fields:
            key = f"{type(self).__name__.lower()}.{name}"
            raise UnlistedSetting(f"{key} is read by a stage that does not list it: add it to its params: in dvc.yaml")
        raise AttributeError(f"{type(self).__name__} has no setting {name}")

    def present(self) -> Iterator[tuple[str, Any]]:
        """The section's settings, in order, as (name, value)."""
        return iter(self)

    def dump(self) -> dict[str, Any]:
        """The settings as plain values (lists, dictionaries, numbers, text), for keys, tables and files; not recorded
        as reads. For a source, only what differs from its defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def replaced(self, values: "Mapping[str, Any] | Section | None" = None, /, **changes: Any) -> Self:
        """A copy with some values replaced, checked like any others."""
        return self.model_validate(self.partial({**dict(self), **dict(values or {}), **changes}))


class Weights(Section):
    """A file of weights and its SHA-256: 64 hexadecimal digits, or its first 8 or more; null = any file."""

    path: Text
    sha256: Digest | None

    def verified(self, key: str = "weights") -> Path:
        """The path, if the file exists and has the checksum; otherwise a UserError naming setting `key`."""
        path = Path(self.path)
        if not path.is_file():
            raise UserError(f"{key}.path: there is no file {path}; allowed: a file of weights, or {key}: null")
        if self.sha256 is None:
            return path
        found = sha256_file(path)
        if not found.startswith(self.sha256.lower()):
            raise UserError(f"{key}.sha256: {path} has {found}, but the settings say {self.sha256}: not the same file")
        return path


class LabelRates(Section):
    """How many labels a rendered training set keeps: the share of persons with labels of feet, of the face, of each
    hand, and the share of occluded body points that are labelled."""

    foot: Share
    face: Share
    hand: Share
    occluded: Share


class Source(Section):
    """One source of persons. Paths are relative to data.root.

    synthetic: `images` rendered pictures from `seed`; in data.train also `labels`, how many of them are kept (null =
    all). coco_wholebody: `annotations` (COCO-WholeBody or body-only COCO JSON), folder `images`, optional `detections`.
    ubody: folder `UBody` unless `images`, `annotations`, `videos` say otherwise; `split`, `scenes` (null = all 15),
    every `step`-th frame. unlabelled: folder or video `images`, boxes in `detections` (null = the whole image is one
    person).
    """

    source: Literal["synthetic", "coco_wholebody", "ubody", "unlabelled"]
    name: Name
    images: Count | Text | None = None
    seed: Whole | None = None
    labels: LabelRates | None = None
    annotations: Text | None = None
    detections: Text | None = None
    videos: Text | None = None
    split: Text | None = None
    scenes: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = None
    step: Count = 10

    # Kind → (required keys, optional keys).
    KEYS: ClassVar[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
        "synthetic": (("images", "seed"), ("labels",)),
        "coco_wholebody": (("annotations", "images"), ("detections",)),
        "ubody": ((), ("images", "annotations", "videos", "split", "scenes", "step", "detections")),
        "unlabelled": (("images",), ("detections", "step")),
    }


Sources = Annotated[tuple[Source, ...], Field(strict=False, min_length=1)]


class Data(Section):
    """Where persons come from."""

    seed: Whole
    root: Text
    tracked: Text
    train: Sources
    val: Sources
    boxes: Literal["ground_truth", "detections"]
    use_valid_flags: bool
    parts: Literal["all", "body"]
    max_broken: Share


class Input(Section):
    """Size of the model's input in pixels."""

    height: Pixels
    width: Pixels

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


class AugmentValues(Section):
    """Random changes of a training sample; `*_p` and plain shares are probabilities."""

    box_padding: Annotated[float, Field(ge=1)]
    flip: Share
    half_body: Share
    shift: Share
    shift_p: Share
    scale: ScaleSpan
    rotation: Annotated[float, Field(ge=0, le=180)]
    rotation_p: Share
    hsv: bool
    blur_p: Share
    median_blur_p: Share
    dropout_p: Share
    dropout_size: ShareSpan


class Augment(AugmentValues):
    """The same with its last phase: for the last `weak_epochs` epochs, `weak` replaces single values."""

    weak_epochs: Whole
    weak: Annotated[AugmentValues, BeforeValidator(AugmentValues.partial)] | None

    def weakened(self) -> "Augment":
        """The augmentation of the last `weak_epochs` epochs."""
        return self.replaced(self.weak)


class Teacher(Section):
    """The large model: taken from `checkpoint`, or trained from whole weights `init` or those of a `backbone` (both
    null = random weights).

    `input` is the size of its own pictures (null = that of the student's). `keypoints` says where a given teacher has
    each of the 133 keypoints (null = in their order). `more` are further teachers, files of whole models: the student
    learns from the mean of all distributions.
    """

    size: SizeName
    input: Input | None
    checkpoint: Weights | None
    init: Weights | None
    backbone: Weights | None
    seed: Whole
    epochs: Count
    lr: Positive
    clip_norm: Positive | None
    augment: Annotated[Augment, BeforeValidator(Augment.partial)] | None
    keypoints: KeypointTable | None
    more: Annotated[tuple[Weights, ...], Field(strict=False, min_length=1)] | None


class Student(Section):
    """The small model: baseline, stage 1 and stage 2 have its size, and start from its backbone."""

    size: SizeName
    backbone: Weights | None
    seed: Whole
    epochs: Count
    lr: Positive
    clip_norm: Positive | None


class Ema(Section):
    """Exponential moving average of the weights with an exponential ramp of `gamma` steps."""

    momentum: PositiveShare
    gamma: Count


class Train(Section):
    """Settings of all trainings. `batch` is global: over all devices and micro-batches."""

    batch: Count
    reference_batch: Count | None
    weight_decay: NonNegative
    warmup_steps: Whole
    warmup_factor: PositiveShare
    flat: Share
    final_lr: Share
    ema: Ema
    validate_every: Positive  # epochs; below 1, on a part of the images
    keep: Literal["last", "best"]


class Loss(Section):
    """Weights and switches of the distillation losses; `extra` are further terms by name (`losses.EXTRA_TERMS`)."""

    alpha: NonNegative
    beta: NonNegative
    gamma: NonNegative
    decay: bool
    logit_on: Literal["all", "labelled"]
    feature_reduction: Literal["sum", "mean"]
    extra: Annotated[dict[str, NonNegative], Field(description="a mapping {name: weight} of names in losses.py")] | None
    reference_batch: Count
    clip_norm: Positive | None


class Stage2(Section):
    """Self-distillation of the head over a frozen backbone."""

    init: Literal["stage1", "baseline"]
    epochs: Count
    lr: Positive
    seed: Whole
    schedule: Literal["cosine", "published"]


class Evaluate(Section):
    """Prediction and scoring on the validation sets."""

    flip_test: bool
    score_threshold: NonNegative
    nms: Share
    batch: Count
    bootstrap: Whole
    seed: Whole


class Export(Section):
    """The ONNX file and its parity check."""

    opset: Annotated[int, Field(ge=11, le=20)]
    crops: Count


class Runtime(Section):
    """How, not what: no stage depends on these, apart from those that change results in the last bits."""

    device: Literal["auto", "cpu", "cuda"]
    devices: Count
    precision: Literal["auto", "float32", "bfloat16"]
    channels_last: bool | Auto
    compile: bool | Auto
    workers: Processes | Auto
    threads: Annotated[int, Field(ge=1, le=MOST_PROCESSES)]
    micro_batch: Count | None


class Params(Section):
    """All settings, or those listed by one stage."""

    data: Data
    input: Input
    augment: Augment
    teacher: Teacher
    student: Student
    train: Train
    loss: Loss
    stage2: Stage2
    evaluate: Evaluate
    export: Export
    runtime: Runtime

    def augment_for(self, role: str) -> Augment:
        """The augmentation of a training; the teacher's own `teacher.augment` replaces single values."""
        return self.augment.replaced(self.teacher.augment) if role == "teacher" else self.augment

    def input_for(self, role: str) -> Input:
        """The input of a model; the teacher may have its own."""
        return self.teacher.input or self.input if role == "teacher" else self.input


SECTIONS: dict[str, type[Section]] = {name: field.annotation for name, field in Params.model_fields.items()}  # type: ignore[misc]
