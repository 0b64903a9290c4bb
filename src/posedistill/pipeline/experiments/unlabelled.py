"""Distilling without labels, on the embedded default: pictures, boxes and the trained teacher, but no keypoint.

The pictures are those of the training set, with their boxes; only the labels are withheld. So what the students
differ in is what taught them, not what they saw.
"""

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError
from posedistill.files import sha256_file, write_atomic
from posedistill.params import read_settings
from posedistill.pipeline.experiments import report, results, schedule
from posedistill.pipeline.experiments.options import add_options, distinct
from posedistill.pipeline.experiments.workspaces import Experiment, Workspace, prepare_workspace
from posedistill.pipeline.handover import check_fresh

NAME = "unlabelled"
PICTURES = "pictures"  # the workspace with the data
SEEDS = (0, 1, 2)
REPORT = "12_unlabelled"
METRICS = Path("reports/metrics")

# name → (text, changed settings, stage whose model it is, whether it sees the labels)
VARIANTS: dict[str, tuple[str, Mapping[str, Any], str, bool]] = {
    "labels": ("labels alone (the baseline)", {}, "baseline", True),
    "logits": ("no labels, the teacher's logits", {"loss.alpha": 0.0}, "stage1", False),
    "features-logits": ("no labels, the teacher's features and logits", {}, "stage1", False),
    "all": ("labels, features and logits (stage 1)", {}, "stage1", True),
}

# What is compared: title → (variant, minus variant).
PAIRS = {
    "logits without labels − labels": ("logits", "labels"),
    "features and logits without labels − labels": ("features-logits", "labels"),
    "stage 1 − the same without labels": ("all", "features-logits"),
}


def unlabelled_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Changes that train on the pictures of `settings` as if they had no labels; validation stays as it is."""
    sources = [
        {
            "source": "unlabelled",
            "name": source["name"],
            "images": f"{source['name']}/images",
            "detections": f"{source['name']}/boxes.json",
        }
        for source in _rendered(settings)
    ]
    return {"data.train": sources, "data.root": "data"}


def write_pictures(settings: Mapping[str, Any], body: Path, folder: Path, workers: int | None = None) -> None:
    """Render the training pictures of `settings` into `folder`, a subfolder a source, and their boxes beside them.

    boxes.json holds COCO detections, one a person, and nothing of its keypoints; the annotations are removed.
    """
    from posedistill.parallel import cores
    from posedistill.synthetic import render_dataset

    for source in _rendered(settings):
        place = folder / source["name"]
        made_with = place / "made_with.json"
        key = json.dumps([dict(source), sha256_file(body / "body_asset.npz")], sort_keys=True)
        if made_with.is_file() and made_with.read_text() == key:
            continue
        shutil.rmtree(place, ignore_errors=True)
        render_dataset(body, place, source["images"], source["seed"], workers=workers or cores(), progress=True)
        truth = json.loads((place / "annotations.json").read_text())
        names = {image["id"]: image["file_name"] for image in truth["images"]}
        boxes = [
            {"file_name": names[person["image_id"]], "category_id": 1, "bbox": person["bbox"], "score": 1.0}
            for person in truth["annotations"]
            if not person.get("iscrowd")
        ]
        write_atomic(place / "boxes.json", json.dumps(boxes))
        (place / "annotations.json").unlink()
        write_atomic(made_with, key)


def _rendered(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    sources = settings["data"]["train"]
    if any(source["source"] != "synthetic" for source in sources):
        raise UserError(
            "data.train: this experiment withholds the labels of rendered people; expected source: synthetic"
        )
    return sources


def workspaces(seeds: tuple[int, ...] = SEEDS) -> list[Workspace]:
    """One a variant and seed."""
    return [
        Workspace(
            f"{name}-seed{seed}",
            {**changes, "student.seed": seed},
            (stage,),
            {} if stage == "baseline" else {"teacher": ""},
        )
        for seed in seeds
        for name, (_, changes, stage, _) in VARIANTS.items()
    ]


def place(variant: str, seed: int) -> tuple[str, str]:
    """(workspace, name of the model in it) of a variant."""
    return f"{variant}-seed{seed}", VARIANTS[variant][2]


def experiment(seeds: tuple[int, ...] = SEEDS) -> Experiment:
    """What `make unlabelled` runs."""
    texts = {name: text for name, (text, *_) in VARIANTS.items()}
    return Experiment(NAME, workspaces(seeds), tuple(VARIANTS), PAIRS, place, seeds, {"texts": texts})


def run(seeds: tuple[int, ...], processes: int) -> Path:
    """Prepare the pictures, train and evaluate, and write reports/metrics/unlabelled.json and the report."""
    from posedistill.training import checkpoints

    root = project.enter()
    settings = read_settings("params.yaml")
    check_fresh("teacher")
    kept = checkpoints.root().resolve()
    base = kept / NAME
    trainings = schedule.Processes(kept)
    here = _prepared(root, base, settings, trainings)
    plan = experiment(seeds)

    def start(workspace: Workspace) -> None:
        labelled = VARIANTS[workspace.name.rsplit("-seed", 1)[0]][3]
        folder = prepare_workspace(root if labelled else here, base, workspace, settings)
        trainings.run(folder, workspace.stages)

    schedule.run_all(plan.workspaces, start, processes, NAME, trainings.stop)
    out = root / METRICS / f"{NAME}.json"
    evaluate = settings["evaluate"]
    gathered = results.gather(plan, base, evaluate["bootstrap"], evaluate["seed"])
    results.write_results(out, {**gathered, **what_was_seen(root, base, seeds)})
    print(report.make_report(root, REPORT))
    return out


def what_was_seen(root: Path, base: Path, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Of both training sets the persons and the labelled keypoints, and the largest label loss without labels."""
    import pandas as pd

    from posedistill.data.store.arrow import TrainStore

    data = {}
    for name, folder in (("with labels", root), ("without labels", base / PICTURES)):
        store = TrainStore(folder / "prepared" / "train")
        points = sum(int((store[i].keypoints[:, 2] > 0).sum()) for i in range(len(store)))
        data[name] = [len(store), points]
    blind = [place(name, seed) for name, (*_, labelled) in VARIANTS.items() if not labelled for seed in seeds]
    curves = [base / workspace / "reports" / "curves" / f"{model}.tsv" for workspace, model in blind]
    loss = max(float(pd.read_csv(path, sep="\t")["label"].abs().max()) for path in curves)
    return {"data": data, "label_loss": loss}


def _prepared(root: Path, base: Path, settings: Mapping[str, Any], trainings: schedule.Processes) -> Path:
    """A folder that looks like the project, with the same teacher, in which the training pictures have no labels."""
    changes = unlabelled_settings(settings)
    workspace = Workspace(PICTURES, changes, ("prepare",), {"teacher": ""})
    here = prepare_workspace(root, base, workspace, settings, linked=("assets",))
    body = (root / settings["data"]["root"] / "body").resolve()
    data = here / "data"
    data.mkdir(exist_ok=True)
    if not (data / "body").exists():
        (data / "body").symlink_to(body)
    write_pictures(settings, body, data)
    # as the trainings, so that an interruption ends it, too
    schedule.run_all([workspace], lambda one: trainings.run(here, one.stages), 1, NAME, trainings.stop)
    return here


def table(path: Path) -> str:
    """The results as Markdown: mean OKS and AP of the whole body in percent, mean over the seeds, and differences."""
    content = json.loads(path.read_text())
    lines = ["| student taught by | mean OKS | AP |", "| --- | ---: | ---: |"]
    for name, by_seed in content["models"].items():
        oks, ap = (
            100 * sum(one[metric]["wholebody"] for one in by_seed.values()) / len(by_seed)
            for metric in ("mean_oks", "AP")
        )
        lines.append(f"| {content['texts'][name]} | {oks:.1f} | {ap:.1f} |")
    lines += ["", "| difference in mean OKS | points | 95 % interval over images |", "| --- | ---: | ---: |"]
    for title, found in content["differences"].items():
        mean, low, high = (100 * value for value in found["pooled"]["wholebody"])
        lines.append(f"| {title} | {mean:+.1f} | {low:+.1f} to {high:+.1f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m posedistill.pipeline.experiments.unlabelled", description=__doc__)
    add_options(parser)
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the trainings end, too
    try:
        out = run(distinct(options.seeds) or SEEDS, options.processes)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(table(out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
