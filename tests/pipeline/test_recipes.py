"""Recipes say what was published, and the files are those of the table."""

import math
import shlex
import subprocess
from pathlib import Path

import pytest

from posedistill.errors import UserError
from posedistill.params import Params, from_settings, read_settings
from posedistill.pipeline import recipes

ROOT = Path(__file__).parents[2]

# name → student, teacher, input, AP on COCO + UBody: the published table, written out.
PUBLISHED = {
    "dwpose-t-256x192": ("t", "l", (256, 192), 48.5),
    "dwpose-s-256x192": ("s", "l", (256, 192), 53.8),
    "dwpose-m-256x192": ("m", "l", (256, 192), 60.6),
    "dwpose-l-256x192": ("l", "x", (256, 192), 63.1),
    "dwpose-l-384x288": ("l", "x", (384, 288), 66.5),
}
ALL = [f"{name}-{data}" for name in PUBLISHED for data in ("coco", "coco-ubody")]


def params_of(name: str) -> Params:
    """The settings as the pipeline would read them from the committed file, starting weights aside."""
    settings = read_settings(ROOT / "recipes" / f"{name}.yaml")
    for section in ("teacher", "student"):
        settings[section]["backbone"] = None
    return from_settings(settings)


def test_the_table_is_complete():
    assert (*ALL, "gpu-rendered", "gpu-short") == recipes.NAMES


@pytest.mark.parametrize("name", recipes.NAMES)
def test_the_file_is_that_of_the_table(name):
    """python -m posedistill.pipeline.recipes --write brings them in step."""
    text = (ROOT / "recipes" / f"{name}.yaml").read_text()
    assert text == recipes.recipe_text(name)
    assert read_settings(ROOT / "recipes" / f"{name}.yaml") == recipes.settings_of(name)


@pytest.mark.parametrize("name", ALL)
def test_published_settings(name):
    params = params_of(name)
    student, teacher, size, whole = PUBLISHED[name.rsplit("-coco")[0]]
    large = size == (384, 288)
    share = 32 if large else 64
    assert (params.student.size, params.teacher.size, params.input.size) == (student, teacher, size)
    assert params.teacher.epochs == params.student.epochs == 270
    assert params.teacher.lr == params.student.lr == params.stage2.lr == 4e-3
    assert params.stage2.epochs == 60 and params.stage2.init == "stage1"
    assert {params.data.seed, params.teacher.seed, params.student.seed, params.stage2.seed} == {21}
    train, loss = params.train, params.loss
    assert (train.batch, train.reference_batch, loss.reference_batch) == (8 * share, 8 * share, share)
    assert (train.weight_decay, train.warmup_steps, train.warmup_factor) == (0.05, 1000, 1e-5)
    assert (train.flat, train.final_lr) == (0.5, 0.05)
    assert (train.ema.momentum, train.ema.gamma, train.keep) == (2e-4, 2000, "best")
    assert (loss.alpha, loss.beta, loss.gamma, loss.decay) == (7e-5, 0.1, 1.0, True)
    assert (loss.logit_on, loss.feature_reduction, loss.clip_norm) == ("all", "sum", 1.0)
    assert params.student.clip_norm is None
    assert params.teacher.clip_norm == (35 if teacher == "x" else None)
    assert params.evaluate.flip_test and (params.evaluate.score_threshold, params.evaluate.nms) == (0.2, 0.9)
    assert params.data.boxes == "detections" and not params.data.use_valid_flags
    if name.endswith("ubody"):
        assert f"{whole} AP" in (ROOT / "recipes" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", ALL)
def test_published_augmentation(name):
    params = params_of(name)
    strong = params.augment
    assert (strong.box_padding, strong.flip, strong.half_body) == (1.25, 0.5, 0.3)
    assert (strong.shift, strong.shift_p, strong.scale) == (0.16, 0.3, (0.6, 1.4))
    assert (strong.rotation, strong.rotation_p, strong.hsv) == (80, 0.6, True)
    assert (strong.blur_p, strong.median_blur_p) == (0.1, 0.1)
    assert (strong.dropout_p, strong.dropout_size, strong.weak_epochs) == (1.0, (0.2, 0.4), 30)
    weak = strong.weakened()
    assert (weak.shift_p, weak.scale, weak.rotation, weak.dropout_p) == (0.0, (0.75, 1.25), 60, 0.5)
    teacher = params.augment_for("teacher")
    if params.teacher.size == "x":
        for phase in (teacher, teacher.weakened()):
            assert (phase.scale, phase.rotation) == ((0.5, 1.5), 90)
        assert (teacher.weakened().shift_p, teacher.weakened().dropout_p) == (0.0, 0.5)
    else:
        assert teacher == strong


@pytest.mark.parametrize("name", ALL)
def test_data_and_starting_weights(name):
    params = params_of(name)
    expected = ["coco_wholebody", "ubody"] if name.endswith("ubody") else ["coco_wholebody"]
    assert [source.source for source in params.data.train] == expected
    assert [source.source for source in params.data.val] == expected
    assert params.data.val[0].detections.endswith("COCO_val2017_detections_AP_H_56_person.json")
    settings = read_settings(ROOT / "recipes" / f"{name}.yaml")
    for section in ("teacher", "student"):
        size = settings[section]["size"]
        file = Path(settings[section]["backbone"]["path"]).name
        assert file.startswith("cspnext-tiny_" if size == "t" else f"cspnext-{size}_")
        assert ("body7_210e-384x288" if size == "x" else "aic-coco_210e-256x192") in file
    # What DVC hashes is what is read.
    files = [
        getattr(source, key) for source in params.data.train + params.data.val for key in ("annotations", "detections")
    ]
    assert all(Path("/datasets", file).is_relative_to(params.data.tracked) for file in files if file)


@pytest.mark.parametrize("name", ALL)
def test_sigma_of_the_input_size_is_the_published_one(name):
    from posedistill.data.geometry import label_sigma

    expected = (6.0, 6.93) if "384x288" in name else (4.9, 5.66)
    assert all(
        math.isclose(a, b, abs_tol=1e-9) for a, b in zip(label_sigma(params_of(name).input.size), expected, strict=True)
    )


def test_put_in_place(tmp_path, monkeypatch, capsys):
    """The data folder is replaced; sums of weights that are there are filled in, the others are named."""
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("old")
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path))
    weights = tmp_path / "sets" / "weights"
    weights.mkdir(parents=True)
    (weights / recipes.BACKBONES["t"]).write_bytes(b"tiny")
    assert recipes.main(["dwpose-t-256x192-coco", "--root", str(tmp_path / "sets")]) == 0
    settings = read_settings(tmp_path / "params.yaml")
    assert settings["data"]["root"] == str(tmp_path / "sets")
    assert len(settings["student"]["backbone"]["sha256"]) == 64
    assert settings["teacher"]["backbone"]["sha256"] is None
    said = capsys.readouterr().out
    assert recipes.BACKBONES["l"] in said and "to be downloaded" in said
    assert recipes.BACKBONES["t"] not in said
    assert f"cp -s {tmp_path}/sets/coco/annotations/" in said and "ubody" not in said


def test_the_commands_for_the_annotations_make_what_the_settings_name(tmp_path):
    sets = tmp_path / "my sets"
    for file in (
        "coco/annotations/coco_wholebody_train_v1.0.json",
        "coco/annotations/coco_wholebody_val_v1.0.json",
        f"coco/person_detection_results/{Path(recipes.DETECTIONS).name}",
        "UBody/annotations/Speech/keypoint_annotation.json",
    ):
        (sets / file).parent.mkdir(parents=True, exist_ok=True)
        (sets / file).write_text(file)
    commands = f"{recipes.LINKS}\n{recipes.UBODY_LINKS}".format(root=shlex.quote(str(sets)))
    subprocess.run(commands, shell=True, check=True)
    data = recipes.settings_of("dwpose-t-256x192-coco-ubody", str(sets))["data"]
    for source in data["train"] + data["val"]:
        assert (sets / source["annotations"]).exists()
    assert "detections" in (sets / recipes.DETECTIONS).read_text()
    assert "UBody" in (sets / "annotations/ubody/Speech/keypoint_annotation.json").read_text()


def test_the_list_says_what_each_recipe_is_for(capsys):
    assert recipes.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes.NAMES)
    for line in lines:
        settings = recipes.settings_of(line.split()[0])
        size = "{height}x{width}".format_map(settings["input"])
        assert f"student {settings['student']['size']}, teacher {settings['teacher']['size']}, {size}, " in line
        assert len(line) <= 120


def test_what_is_no_recipe_is_one_line_and_changes_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("old")
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path))
    assert recipes.main(["dwpose-xl"]) == 2
    assert recipes.main(["dwpose-t-256x192-coco", "--root", "datasets"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("unknown recipe dwpose-xl; available: dwpose-t-256x192-coco, ")
    assert len(lines) == 2 and "absolute" in lines[1]
    assert (tmp_path / "params.yaml").read_text() == "old"
    with pytest.raises(UserError):
        recipes.settings_of("nothing")
