"""The sections of params.yaml as frozen dataclasses: every setting with its meaning and its allowed values."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.files import sha256_file
from posedistill.params_check import (
    check_of,
    choice,
    fail,
    flag,
    mapping,
    real,
    setting,
    span,
    text,
    texts,
    unknown,
    whole,
)

SIZES = ("n", "nw", "t", "s", "m", "l", "x")  # the names of models/sizes.py (a test compares them)
ROLES = ("teacher", "baseline", "stage1", "stage2")  # the four models, in the order of the pipeline

NULL = (None,)


class UnlistedSetting(RuntimeError):
    """Code read a setting that its stage does not list under `params:` in dvc.yaml: the stage would not run again
    when that setting changes."""


class Section:
    """What all sections share: checked construction from a mapping, possibly of only some of the settings."""

    @classmethod
    def read(cls, key: str, values: Any, *, stage: str | None = None) -> Any:
        """Check `values` (a mapping) and build the section called `key`.

        With a `stage`, settings may be missing: reading one of those later raises UnlistedSetting. Without, a missing
        setting is a UserError.
        """
        values = mapping(key, values)
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for name in values:
            if name not in fields:
                raise unknown(key, name, fields)
        checked = {}
        for name, field in fields.items():
            if name in values:
                checked[name] = check_of(field)(f"{key}.{name}", values[name])
            elif stage is None and field.default is dataclasses.MISSING:
                raise UserError(f"{key}.{name}: missing, allowed: see params.yaml of this version")
            elif field.default is not dataclasses.MISSING:
                checked[name] = field.default
        section = object.__new__(cls)
        for name, value in checked.items():
            object.__setattr__(section, name, value)
        if stage is not None:
            object.__setattr__(section, "_listed_by", (key, stage))
        return section

    def __getattr__(self, name: str) -> Any:  # only called for what is not there
        if name in type(self).__dict__.get("__dataclass_fields__", {}):
            key, stage = self.__dict__.get("_listed_by", (type(self).__name__.lower(), "?"))
            raise UnlistedSetting(
                f"{key}.{name} is read, but stage {stage} does not list it: add it to its params: in dvc.yaml"
            )
        raise AttributeError(f"{type(self).__name__} has no setting {name}")

    def present(self) -> Iterator[tuple[str, Any]]:
        """The settings that are there, in order, as (name, value)."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if field.name in self.__dict__:
                yield field.name, self.__dict__[field.name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.present())})"


@dataclass(frozen=True, repr=False)
class Weights(Section):
    """A file of weights and its SHA-256: 64 hexadecimal digits, or its first 8 or more; null = any file."""

    path: str = setting(text())
    sha256: str | None = setting(text(optional=True))

    def verified(self, key: str = "weights") -> Path:
        """The path of the file, if it is there and has the checksum; otherwise a UserError naming setting `key`."""
        path = Path(self.path)
        if not path.is_file():
            raise UserError(f"{key}.path: there is no file {path}; allowed: a file of weights, or {key}: null")
        if self.sha256 is None:
            return path
        found = sha256_file(path)
        if not found.startswith(self.sha256.lower()):
            raise UserError(f"{key}.sha256: {path} has {found}, but the settings say {self.sha256}: not the same file")
        return path


def _weights(key: str, value: Any) -> Weights | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise fail(key, value, "null or {path: …, sha256: …}")
    if isinstance(value.get("sha256"), int | float):  # YAML reads 12345678 and 1234e567 as numbers
        raise fail(f"{key}.sha256", value["sha256"], "8 to 64 hexadecimal digits in quotes, or null")
    weights = Weights.read(key, value)
    digits = (weights.sha256 or "0" * 8).lower()
    if not 8 <= len(digits) <= 64 or any(digit not in "0123456789abcdef" for digit in digits):
        raise fail(f"{key}.sha256", weights.sha256, "8 to 64 hexadecimal digits in quotes, or null")
    return weights


@dataclass(frozen=True, repr=False)
class Source(Section):
    """One source of persons. Paths are relative to data.root.

    synthetic: `images` rendered pictures from `seed`. coco_wholebody: `annotations` (COCO-WholeBody or body-only
    COCO JSON), folder `images`, optional `detections`. ubody: folder `UBody` unless `images`, `annotations`, `videos`
    say otherwise; `split`, `scenes` (null = all 15), every `step`-th frame. unlabelled: folder or video `images`,
    boxes in `detections` (null = the whole image is one person).
    """

    source: str = setting(choice("synthetic", "coco_wholebody", "ubody", "unlabelled"))
    name: str = setting(text())
    images: int | str | None = setting(lambda key, value: value, default=None)
    seed: int | None = setting(whole(also=NULL), default=None)
    annotations: str | None = setting(text(optional=True), default=None)
    detections: str | None = setting(text(optional=True), default=None)
    videos: str | None = setting(text(optional=True), default=None)
    split: str | None = setting(text(optional=True), default=None)
    scenes: tuple[str, ...] | None = setting(texts(optional=True), default=None)
    step: int = setting(whole(1), default=10)


# What each kind of source must say, and which further keys it understands.
_SOURCE_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "synthetic": (("images", "seed"), ()),
    "coco_wholebody": (("annotations", "images"), ("detections",)),
    "ubody": ((), ("images", "annotations", "videos", "split", "scenes", "step", "detections")),
    "unlabelled": (("images",), ("detections", "step")),
}


def _source(key: str, value: Any) -> Source:
    source = Source.read(key, value)
    required, optional = _SOURCE_KEYS[source.source]
    for name in required:
        if name not in value:
            raise UserError(f"{key}.{name}: missing, a source of kind {source.source} needs it")
    for name in value:
        if name not in ("source", "name", *required, *optional):
            raise unknown(key, name, ("source", "name", *required, *optional))
    if source.source == "synthetic":
        whole(1)(f"{key}.images", source.images)
    elif source.images is not None:
        text()(f"{key}.images", source.images)
    if not all(letter.isalnum() or letter in "-_" for letter in source.name):
        raise fail(f"{key}.name", source.name, "letters, digits, - and _ (it becomes part of a folder's name)")
    return source


def _sources(key: str, value: Any) -> tuple[Source, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise fail(key, value, "a list of sources, at least one")
    sources = tuple(_source(f"{key}[{i}]", item) for i, item in enumerate(value))
    names = [source.name for source in sources]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise fail(f"{key}[{i}].name", name, "a name that no other source of the list has")
    return sources


@dataclass(frozen=True, repr=False)
class Data(Section):
    """Where persons come from."""

    seed: int = setting(whole())
    root: str = setting(text())
    tracked: tuple[str, ...] = setting(texts(number=3))  # dvc.yaml names each: DVC takes no list there
    train: tuple[Source, ...] = setting(_sources)
    val: tuple[Source, ...] = setting(_sources)
    boxes: str = setting(choice("ground_truth", "detections"))
    use_valid_flags: bool = setting(flag())
    parts: str = setting(choice("all", "body"))
    max_broken: float = setting(real(0, 1))


@dataclass(frozen=True, repr=False)
class Input(Section):
    """Size of the model's input in pixels."""

    height: int = setting(whole(32, multiple_of=32))
    width: int = setting(whole(32, multiple_of=32))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


def _augment_override(key: str, value: Any) -> Mapping[str, Any]:
    """Settings of `augment` that replace its values: checked here, applied by Augment.replaced."""
    if value is None:
        return {}
    fields = {field.name: field for field in dataclasses.fields(Augment)}
    if key.endswith(".weak"):
        fields = {name: field for name, field in fields.items() if name not in ("weak", "weak_epochs")}
    checked = {}
    for name, item in mapping(key, value).items():
        if name not in fields:
            raise unknown(key, name, fields)
        checked[name] = check_of(fields[name])(f"{key}.{name}", item)
    return checked


@dataclass(frozen=True, repr=False)
class Augment(Section):
    """Random changes of a training sample; `*_p` and plain shares are probabilities."""

    box_padding: float = setting(real(1))
    flip: float = setting(real(0, 1))
    half_body: float = setting(real(0, 1))
    shift: float = setting(real(0, 1))
    shift_p: float = setting(real(0, 1))
    scale: tuple[float, float] = setting(span(0.1, 10))
    rotation: float = setting(real(0, 180))
    rotation_p: float = setting(real(0, 1))
    hsv: bool = setting(flag())
    blur_p: float = setting(real(0, 1))
    median_blur_p: float = setting(real(0, 1))
    dropout_p: float = setting(real(0, 1))
    dropout_size: tuple[float, float] = setting(span(0, 1))
    weak_epochs: int = setting(whole())
    weak: Mapping[str, Any] = setting(_augment_override)

    def replaced(self, values: Mapping[str, Any] | None) -> "Augment":
        """A copy with `values` (checked settings of this section) in place of its own."""
        return dataclasses.replace(self, **(values or {}))

    def weakened(self) -> "Augment":
        """The augmentation of the last `weak_epochs` epochs."""
        return self.replaced(self.weak)


@dataclass(frozen=True, repr=False)
class Teacher(Section):
    """The large model: taken from `checkpoint`, or trained from `backbone` (null = random weights)."""

    size: str = setting(choice(*SIZES))
    checkpoint: Weights | None = setting(_weights)
    backbone: Weights | None = setting(_weights)
    seed: int = setting(whole())
    epochs: int = setting(whole(1))
    lr: float = setting(real(above=True))
    clip_norm: float | None = setting(real(above=True, also=NULL))
    augment: Mapping[str, Any] = setting(_augment_override)


@dataclass(frozen=True, repr=False)
class Student(Section):
    """The small model: baseline, stage 1 and stage 2 have its size, and start from its backbone."""

    size: str = setting(choice(*SIZES))
    backbone: Weights | None = setting(_weights)
    seed: int = setting(whole())
    epochs: int = setting(whole(1))
    lr: float = setting(real(above=True))
    clip_norm: float | None = setting(real(above=True, also=NULL))


@dataclass(frozen=True, repr=False)
class Ema(Section):
    """Exponential moving average of the weights with an exponential ramp of `gamma` steps."""

    momentum: float = setting(real(0, 1, above=True))
    gamma: int = setting(whole(1))


@dataclass(frozen=True, repr=False)
class Train(Section):
    """What all trainings share. `batch` is global: over all devices and micro-batches."""

    batch: int = setting(whole(1))
    reference_batch: int | None = setting(whole(1, also=NULL))
    weight_decay: float = setting(real())
    warmup_steps: int = setting(whole())
    warmup_factor: float = setting(real(0, 1, above=True))
    flat: float = setting(real(0, 1))
    final_lr: float = setting(real(0, 1))
    ema: Ema = setting(lambda key, value: Ema.read(key, value))
    validate_every: int = setting(whole(1))
    keep: str = setting(choice("last", "best"))


@dataclass(frozen=True, repr=False)
class Loss(Section):
    """Weights and switches of the distillation losses."""

    alpha: float = setting(real())
    beta: float = setting(real())
    gamma: float = setting(real())
    decay: bool = setting(flag())
    logit_on: str = setting(choice("all", "labelled"))
    feature_reduction: str = setting(choice("sum", "mean"))
    reference_batch: int = setting(whole(1))
    clip_norm: float | None = setting(real(above=True, also=NULL))


@dataclass(frozen=True, repr=False)
class Stage2(Section):
    """Self-distillation of the head over a frozen backbone."""

    init: str = setting(choice("stage1", "baseline"))
    epochs: int = setting(whole(1))
    lr: float = setting(real(above=True))
    seed: int = setting(whole())
    schedule: str = setting(choice("cosine", "published"))


@dataclass(frozen=True, repr=False)
class Evaluate(Section):
    """Prediction and scoring on the validation sets."""

    flip_test: bool = setting(flag())
    score_threshold: float = setting(real())
    nms: float = setting(real(0, 1))
    batch: int = setting(whole(1))
    bootstrap: int = setting(whole())
    seed: int = setting(whole())


@dataclass(frozen=True, repr=False)
class Export(Section):
    """The ONNX file and its parity check."""

    opset: int = setting(whole(11))
    crops: int = setting(whole(1))


AUTO = ("auto",)


@dataclass(frozen=True, repr=False)
class Runtime(Section):
    """How, not what: no stage depends on these, apart from those that change results in the last bits."""

    device: str = setting(choice("auto", "cpu", "cuda"))
    devices: int = setting(whole(1))
    precision: str = setting(choice("auto", "float32", "bfloat16"))
    channels_last: bool | str = setting(flag(also=AUTO))
    compile: bool | str = setting(flag(also=AUTO))
    workers: int | str = setting(whole(also=AUTO))
    threads: int = setting(whole(1))
    micro_batch: int | None = setting(whole(1, also=NULL))
