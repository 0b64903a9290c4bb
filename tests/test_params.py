"""Settings: the file and the sections have the same keys, and a bad value is one clear line."""

import copy
import json
import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedistill import models
from posedistill.errors import UserError
from posedistill.files import sha256_file
from posedistill.params import (
    SECTIONS,
    SIZES,
    UnlistedSetting,
    Weights,
    from_settings,
    load_params,
    read_settings,
    record_reads,
    to_settings,
)
from posedistill.stages import stage_params, stage_settings

ROOT = Path(__file__).parents[1]
DEFAULT = json.dumps(read_settings(ROOT / "params.yaml"))


@pytest.fixture
def settings() -> dict:
    return json.loads(DEFAULT)


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def changed(settings: dict, key: str, value) -> dict:
    """A copy of `settings` with one value replaced or added; `key` as in data.train.0.seed."""
    result = copy.deepcopy(settings)
    *parents, last = key.split(".")
    place = result
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[int(last) if isinstance(place, list) else last] = value
    return result


def message(settings: dict) -> str:
    with pytest.raises(UserError) as caught:
        from_settings(settings)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_file_and_sections_have_the_same_keys(settings):
    assert list(settings) == list(SECTIONS)
    for name, section in SECTIONS.items():
        assert list(settings[name]) == list(section.model_fields), name


def test_every_size_that_settings_allow_is_a_model():
    assert tuple(models.sizes.SIZES) == SIZES


def test_settings_survive_a_round_trip(settings):
    params = from_settings(settings)
    plain = to_settings(params)
    assert from_settings(plain) == params
    assert from_settings(json.loads(json.dumps(plain))) == params
    assert copy.deepcopy(params) == params
    assert pickle.loads(pickle.dumps(params)) == params
    assert params.loss.alpha == 7e-5
    assert params.input.size == (128, 96)


def test_json_is_accepted_too(settings, tmp_path):
    file = tmp_path / "params.json"
    file.write_text(json.dumps(settings))
    assert load_params(file) == load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("loss.alhpa", 1, ["loss.alhpa", "did you mean loss.alpha?): remove it"]),
        ("losses", {}, ["losses", "did you mean loss"]),
        ("augment.weak.rotaton", 1, ["augment.weak.rotaton", "did you mean augment.weak.rotation?"]),
        ("augment.weak.weak_epochs", 1, ["augment.weak.weak_epochs", "unknown key"]),
        ("teacher.augment", {"flipp": 1}, ["teacher.augment.flipp", "did you mean teacher.augment.flip?"]),
        ("train.ema.momentun", 1, ["train.ema.momentun", "did you mean train.ema.momentum?"]),
        ("data.train.0.sed", 1, ["data.train[0].sed", "did you mean data.train[0].seed?"]),
        ("data.train.0.annotations", "a.json", ["data.train[0].annotations", "unknown key"]),
        ("teacher.epochs", -1, ["teacher.epochs", "-1", ">= 1"]),
        ("teacher.epochs", 2.5, ["teacher.epochs", "2.5", "whole number"]),
        ("teacher.epochs", True, ["teacher.epochs", "true", "whole number"]),
        ("teacher.size", "huge", ["teacher.size", "huge", "n | nw | t | s | m | l | x"]),
        ("teacher.size", None, ["teacher.size", "null", "| x"]),
        ("input.height", 100, ["input.height", "100", "divisible by 16"]),
        ("input.width", 0, ["input.width", "0", ">= 32"]),
        ("loss.alpha", "5e-5", ["loss.alpha", '"5e-5"', "number"]),
        ("loss.alpha", -1e-5, ["loss.alpha", "-1e-05", ">= 0"]),
        ("loss.alpha", float("nan"), ["loss.alpha", "nan"]),
        ("student.lr", 0, ["student.lr", "0", "> 0"]),
        ("student.lr", float("inf"), ["student.lr", "inf"]),
        ("loss.decay", 1, ["loss.decay", "1", "true or false"]),
        ("loss.logit_on", "visible", ["loss.logit_on", "visible", "all | labelled"]),
        ("stage2.init", "teacher", ["stage2.init", "stage1 | baseline"]),
        ("augment.flip", 1.5, ["augment.flip", "1.5", "<= 1"]),
        ("augment.scale", [1.2, 0.8], ["augment.scale", "[1.2, 0.8]", "low <= high"]),
        ("augment.scale", 1, ["augment.scale", "1", "[low, high]"]),
        ("augment.scale", ["a", 2], ["augment.scale", "['a', 2]", "[low, high]"]),
        ("augment.weak.scale", [2, 1], ["augment.weak.scale", "[2, 1]"]),
        ("augment.weak", 3, ["augment.weak", "3", "mapping"]),
        ("loss", 3, ["loss", "3", "mapping"]),
        ("runtime.workers", "many", ["runtime.workers", "many", "auto"]),
        ("runtime.workers", -1, ["runtime.workers", "-1", "auto"]),
        ("runtime.device", "gpu", ["runtime.device", "gpu", "auto | cpu | cuda"]),
        ("train.batch", 0, ["train.batch", "0", ">= 1"]),
        ("train.keep", "first", ["train.keep", "last | best"]),
        ("data.train", [], ["data.train", "at least one"]),
        ("data.val.0.source", "coco", ["data.val[0].source", "coco", "coco_wholebody"]),
        ("data.val.0.name", "a/b", ["data.val[0].name", '"a/b"', "letters"]),
        ("data.val.0.images", "folder", ["data.val[0].images", "folder", "whole number"]),
        ("data.tracked", ["data"], ["data.tracked", "['data']", "text"]),
        ("data.root", "", ["data.root", "not empty"]),
        ("teacher.checkpoint", "a.pth", ["teacher.checkpoint", '"a.pth"', "{path"]),
        ("teacher.checkpoint", {"path": "a.pth"}, ["teacher.checkpoint.sha256", "missing"]),
        ("student.backbone", {"path": "no/a.pth", "sha256": "0" * 64}, ["student.backbone.path", "no/a.pth", "null"]),
        ("student.backbone", {"path": "params.yaml", "sha256": "xyz"}, ["student.backbone.sha256", "hexadecimal"]),
        ("student.backbone", {"path": "params.yaml", "sha256": 12345678}, ["student.backbone.sha256", "in quotes"]),
    ],
)
def test_what_cannot_be_is_one_line_with_the_key_and_what_is_allowed(settings, key, value, parts):
    text = message(changed(settings, key, value))
    for part in parts:
        assert part in text


def test_a_missing_setting_is_named(settings):
    del settings["loss"]["beta"]
    assert "loss.beta: missing" in message(settings)


def test_a_source_says_what_its_kind_needs(settings):
    bad = changed(settings, "data.train", [{"source": "synthetic", "name": "a", "images": 3}])
    assert "data.train[0].seed: missing" in message(bad)
    two = [{"source": "synthetic", "name": "a", "images": 3, "seed": 0}] * 2
    assert "no other source" in message(changed(settings, "data.val", two))


def test_detector_boxes_need_detections(settings):
    coco = [{"source": "coco_wholebody", "name": "coco", "images": "val2017", "annotations": "val.json"}]
    text = message(changed(changed(settings, "data.val", coco), "data.boxes", "detections"))
    assert "data.val[0].detections" in text


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=4), st.data())
def test_any_value_anywhere_is_read_or_refused_with_its_key(value, data):
    settings = json.loads(DEFAULT)
    section = data.draw(st.sampled_from(list(SECTIONS)))
    leaf = data.draw(st.sampled_from(list(settings[section])))
    try:
        from_settings(changed(settings, f"{section}.{leaf}", value))
    except UserError as error:
        assert f"{section}.{leaf}" in str(error)


def test_weights_are_checked_by_their_sum(tmp_path):
    file = tmp_path / "a.pth"
    file.write_bytes(b"weights")
    digest = sha256_file(file)
    for given_sum in (digest, digest[:8], digest.upper()):
        weights = Weights(path=str(file), sha256=given_sum)
        assert weights.verified() == file
    assert Weights(path=str(file), sha256=None).verified() == file
    wrong = Weights(path=str(file), sha256="0" * 64)
    with pytest.raises(UserError, match=r"teacher\.checkpoint\.sha256.*a\.pth.*not the same file"):
        wrong.verified("teacher.checkpoint")
    file.unlink()
    with pytest.raises(UserError, match=r"teacher\.checkpoint\.path.*no file"):
        wrong.verified("teacher.checkpoint")


def test_teacher_augmentation_and_weak_augmentation(settings):
    params = from_settings(changed(settings, "teacher.augment", {"rotation": 90, "weak": {"shift_p": 0}}))
    assert params.augment_for("teacher").rotation == 90.0
    assert params.augment_for("teacher").weakened().dropout_p == params.augment.dropout_p
    for role in ("baseline", "stage1", "stage2"):
        assert params.augment_for(role) is params.augment
    weak = params.augment.weakened()
    given = settings["augment"]["weak"]
    assert (weak.shift_p, weak.dropout_p) == (given["shift_p"], given["dropout_p"])
    assert weak.dropout_p != params.augment.dropout_p
    assert weak.rotation == params.augment.rotation


def test_a_stage_reads_only_what_it_lists(settings):
    params = from_settings({"teacher": {"size": "l"}, "input": settings["input"]}, "teacher")
    assert params.teacher.size == "l"
    with pytest.raises(UnlistedSetting, match=r"loss\.alpha .*is read by a stage that does not list it"):
        _ = params.loss.alpha
    with pytest.raises(UnlistedSetting, match=r"teacher\.epochs"):
        _ = params.teacher.epochs
    with pytest.raises(AttributeError):
        _ = params.teacher.epoch
    assert to_settings(params)["teacher"] == {"size": "l"}


def test_stage_settings_are_those_of_the_pipeline():
    listed = stage_settings("stage1")
    assert "gamma" not in listed["loss"] and listed["loss"]["alpha"] == 7e-5
    assert set(listed["teacher"]) == {"size", "input", "keypoints", "more"}
    params = stage_params("stage1")
    assert params.loss.alpha == 7e-5
    assert params.runtime.workers == "auto"  # how, not what: every stage has it
    with pytest.raises(UnlistedSetting):
        _ = params.loss.gamma
    assert stage_params("evaluate@stage1").evaluate.flip_test is True
    with pytest.raises(UserError, match="no stage distill, allowed: code, prepare, teacher"):
        stage_params("distill")


def test_files_that_are_no_settings(tmp_path):
    cases = {
        "a.yaml": ("loss: [1", r"a\.yaml:\d: not YAML"),
        "b.yaml": ("- 1\n- 2\n", "mapping"),
        "c.json": ("{", r"c\.json:1: not JSON"),
        "d.yaml": ("loss: {a: 1, a: 2}", "not YAML.*duplicate"),
    }
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=expected):
            load_params(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read"):
        load_params(tmp_path / "absent.yaml")


NESTED = "&a [x, x, x, x, x, x, x, x, x]"
BOMB = "[" + NESTED + "".join(f", &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghijk")) + "]"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("alpha: 7e-5", f"alpha: {'1' * 400}", "loss.alpha: found 1111"),
        ("epochs: 4", f"epochs: {'1' * 400}", "teacher.epochs: found 1111"),
        ("epochs: 4", f"epochs: {'1' * 5000}", "cannot be read as a settings file (Exceeds the limit"),
        ("epochs: 4", f"epochs: 0x{'f' * 5000}", "teacher.epochs: found a number of 20000 bits"),
        ("alpha: 7e-5", f"alpha: {'[' * 600}{']' * 600}", "nested too deeply"),
        ("alpha: 7e-5", f"alpha: {BOMB}", "loss.alpha: found [['x', "),
        (
            "weak:                    # replaces the values above",
            f"weak:\n    hsv: {BOMB}",
            "augment.weak.hsv: found [[",
        ),
        ("  beta", f"  bomb: {BOMB}\n  beta", "loss.bomb: unknown key"),
        ("alpha: 7e-5", "alpha: &a [*a]", "loss.alpha: found [[[...]]]"),
        ("alpha: 7e-5", "alpha: .nan", "loss.alpha: found nan"),
        ("alpha: 7e-5", "alpha: -.inf", "loss.alpha: found -inf"),
        ("alpha: 7e-5", "alpha: 2001-13-01", "cannot be read as a settings file (month"),
        (
            "alpha: 7e-5",
            "alpha: 7e-5\n  alfa: 1",
            "loss.alfa: unknown key (did you mean loss.alpha?): remove it; allowed: ",
        ),
        ("alpha: 7e-5", "alpha: 7e-5\n  5: 1", 'loss."5": unknown key'),
        ("device: auto", "device: cudaa", "runtime.device: found cudaa, allowed: auto | cpu | cuda"),
        ("device: auto", f"device: {'x' * 1000}", 'runtime.device: found "xxx'),
        ("device: auto", r'device: "\uD800 \e[31m"', r'runtime.device: found "\ud800 \u001b[31m"'),
        ("loss:", "loss: null\nlost:", "lost: unknown key (did you mean loss?)"),
        ("train:\n  batch", "train: null\nx:\n  batch", "x: unknown key"),
    ],
)
def test_what_no_setting_can_be_is_one_short_line(old, new, expected, tmp_path):
    file = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load_params(file)
    line = str(caught.value)
    assert expected in line and "\n" not in line
    found = line.partition("found ")[2].partition(", allowed")[0]
    assert len(found) <= 200
    line.encode()


def test_encodings(tmp_path):
    file, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    file.write_text(text, encoding="utf-8-sig")  # a byte order mark, as Windows editors write it
    assert load_params(file) == load_params(ROOT / "params.yaml")
    file.write_text(text, encoding="utf-16")
    with pytest.raises(UserError, match="not UTF-8"):
        load_params(file)


def test_reads_are_recorded(settings):
    params = from_settings(changed(settings, "teacher.augment", {"rotation": 90}))
    with record_reads() as reads:
        assert params.input.size == (128, 96)
        _ = params.train.ema.momentum, params.augment.weakened().flip, params.data.train[0].seed
        params.augment_for("teacher")
    assert reads == {
        *("input.height", "input.width", "train.ema", "augment.weak", "augment.flip"),
        *("data.train", "teacher.augment"),
    }
    _ = params.loss.alpha
    assert "loss.alpha" not in reads


def test_tables_and_keys_are_no_reads(settings):
    params = from_settings(settings)
    with record_reads() as reads:
        to_settings(params)
        dict(params.loss.present()), params.train.dump(), params.augment.replaced(flip=0.1), repr(params)
        assert copy.deepcopy(params) == params == pickle.loads(pickle.dumps(params))
    assert reads == set()


def test_all_processes_append_their_reads_to_a_file(settings, tmp_path):
    program = (
        "import multiprocessing, sys\n"
        "from posedistill.params import load_params\n"
        "params = load_params(sys.argv[1])\n"
        "params.loss.alpha, params.loss.alpha\n"
        "worker = multiprocessing.get_context('fork').Process(target=lambda: params.student.size)\n"
        "worker.start(), worker.join()\n"
    )
    environment = {"PYTHONPATH": str(ROOT / "src"), "POSEDISTILL_READS": str(tmp_path / "reads")}
    subprocess.run([sys.executable, "-c", program, ROOT / "params.yaml"], check=True, env=environment)
    assert (tmp_path / "reads").read_text().splitlines() == ["loss.alpha", "student.size"]


def test_replaced_values_are_checked(settings):
    params = from_settings(settings)
    assert params.augment.replaced({"rotation": 40}).rotation == 40.0
    assert params.loss.replaced(beta=0.5, gamma=2).dump() == settings["loss"] | {"beta": 0.5, "gamma": 2.0}
    for values in ({"beta": -1}, {"betta": 1}):
        with pytest.raises(ValueError, match=next(iter(values))):
            params.loss.replaced(values)


def test_numbers_follow_yaml_1_2(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 5e-5\nb: 2e-05\nc: 1e3\n")
    assert read_settings(tmp_path / "a.yaml") == {"a": 5e-5, "b": 2e-5, "c": 1e3}


def test_settings_need_neither_yaml_nor_torch(settings, tmp_path):
    """A training machine may have only JSON; and reading settings must be quick."""
    (tmp_path / "params.json").write_text(json.dumps(settings))
    program = (
        "import sys\n"
        "sys.modules['ruamel'] = None\n"
        "from posedistill.params import load_params\n"
        "load_params(sys.argv[1])\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "params.json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
