"""The stage prepare: books that balance, the same bytes every time, broken pictures, interruption."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posedistill.data.store import parts
from posedistill.data.store.arrow import TrainStore, ValStore
from posedistill.errors import UserError
from posedistill.files import sha256_file
from posedistill.params import record_reads, to_settings
from posedistill.pipeline import prepare as preparation
from posedistill.pipeline.prepare import prepare
from posedistill.sources import pixels


def contents(folder):
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def balanced(report):
    return all(f["read"] == f["kept"] + sum(f["dropped"].values()) for f in report.funnels)


@pytest.fixture
def data(tmp_path, write_coco):
    return write_coco(tmp_path / "data", images=6, persons=2)


def test_writes_stores_and_report(tmp_path, data, settings):
    report = prepare(settings(), tmp_path / "out", workers=1, progress=False)
    store = TrainStore(tmp_path / "out" / "train")
    assert len(store) == 12 and store.sources == ["small"]
    record, entry = store[3], data["annotations"][3]
    assert record.annotation_id == entry["id"] and record.image_id == entry["image_id"]
    assert record.pixels().shape == (record.height, record.width, 3)
    expected = np.array(entry["keypoints"]).reshape(-1, 3)[:, :2]
    back = (record.keypoints[:17, :2] + 0.5) / record.factor - 0.5 + record.origin
    np.testing.assert_allclose(back, expected, atol=1e-3)
    val = ValStore(tmp_path / "out" / "val-small")
    assert len(val.images) == 6 and len(val.persons) == 12
    truth = json.loads((tmp_path / "out" / "val-small" / "gt.json").read_bytes())
    assert len(truth["annotations"]) == 12 and set(val.image_ids.tolist()) == {i["id"] for i in truth["images"]}
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(asdict(report)))
    assert report.sets["train"]["persons"] == 12 and report.sets["train"]["parts"]["face"]["keypoints"] == 12 * 68
    assert report.sets["train"]["bytes per person"] > 1000 and balanced(report)
    assert not list((tmp_path / "checkpoints").iterdir())  # nothing unfinished is left behind


def test_same_settings_same_bytes_with_any_number_of_processes(tmp_path, data, settings, monkeypatch):
    monkeypatch.setattr(parts, "IMAGES_PER_PART", 2)
    prepare(settings(), tmp_path / "one", workers=1, progress=False)
    prepare(settings(), tmp_path / "two", workers=2, progress=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(TrainStore(tmp_path / "one" / "train").meta["rows"]) == 3


def test_an_earlier_result_is_replaced(tmp_path, data, settings):
    out = tmp_path / "out"
    prepare(settings(), out, workers=1, progress=False)
    (out / "val-old").mkdir()
    first = contents(out)
    prepare(settings(parts="body"), out, workers=1, progress=False)
    assert contents(out).keys() == first.keys() and contents(out) != first
    keypoints = TrainStore(out / "train").column("keypoints")
    assert (keypoints[:, :17, 2] == 1).all() and (keypoints[:, 17:] == 0).all()
    assert json.loads((out / "val-small" / "gt.json").read_bytes())["annotations"][0]["face_kpts"][2] > 0


def test_use_valid_flags(tmp_path, data, settings):
    for entry in data["annotations"]:
        entry["lefthand_valid"] = False
    (tmp_path / "data" / "annotations.json").write_text(json.dumps(data))
    prepare(settings(use_valid_flags=True), tmp_path / "out", workers=1, progress=False)
    labelled = TrainStore(tmp_path / "out" / "train").column("keypoints")[..., 2]
    assert (labelled[:, 91:112] == 0).all() and (labelled[:, 112:] == 1).all()
    prepare(settings(), tmp_path / "out", workers=1, progress=False)
    assert (TrainStore(tmp_path / "out" / "train").column("keypoints")[..., 2] == 1).all()


def test_broken_pictures_are_listed_and_counted(tmp_path, data, settings):
    images = tmp_path / "data" / "images"
    (images / "000001.jpg").unlink()
    whole = (images / "000002.jpg").read_bytes()
    (images / "000002.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "000003.jpg").write_bytes(b"")
    report = prepare(settings(max_broken=0.5), tmp_path / "out", workers=1, progress=False)
    assert report.sets["train"]["persons"] == 6 and report.sets["train"]["broken pictures"] == 3
    train, val = report.funnels
    expected = {"image missing": 2, "image cut off": 2, "image file empty": 2}
    assert train["dropped"] == val["dropped"] == expected and balanced(report)
    assert [b["picture"] for b in report.broken[:3]] == ["000001.jpg", "000002.jpg", "000003.jpg"]
    truth = json.loads((tmp_path / "out" / "val-small" / "gt.json").read_bytes())
    assert {i["id"] for i in truth["images"]} == {10, 14, 15} == {a["image_id"] for a in truth["annotations"]}


def test_odd_pictures_are_converted_and_counted(tmp_path, data, settings):
    images = tmp_path / "data" / "images"
    for name, mode in (("000000", "L"), ("000001", "CMYK")):
        with Image.open(images / f"{name}.jpg") as image:
            converted = image.convert(mode)
        converted.save(images / f"{name}.jpg", quality=95)
    tags = Image.Exif()
    tags[0x0112] = 6
    with Image.open(images / "000002.jpg") as image:
        image.load()
    image.save(images / "000002.jpg", quality=95, exif=tags)
    with Image.open(images / "000003.jpg") as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.save(images / "000003.jpg", quality=95, exif=tags)
    report = prepare(settings(), tmp_path / "out", workers=1, progress=False)
    expected = {"picture: " + what: 1 for what in (pixels.GREY, pixels.CMYK, pixels.NOT_TURNED, pixels.TURNED)}
    assert report.funnels[0]["notes"] == report.funnels[1]["notes"] == expected
    assert report.funnels[0]["examples"]["picture: " + pixels.GREY] == ["000000.jpg"]
    store = TrainStore(tmp_path / "out" / "train")
    assert len(store) == 12 and (store[0].pixels()[..., 0] == store[0].pixels()[..., 1]).mean() > 0.9


def test_reads_settings_of_data_and_inputs_alone(tmp_path, data, settings):
    P = settings()
    with record_reads() as reads:
        prepare(P, tmp_path / "out", workers=1, progress=False)
    assert {name for name in reads if not name.startswith(("data.", "input."))} == {"teacher.input"}


def test_parts_of_other_code_are_not_mixed_in(tmp_path, data, settings, monkeypatch):
    def folders(code):
        monkeypatch.setattr(preparation, "code_hash", lambda *entries: code)
        one = preparation.read_set(settings(), "train", settings().data.train, tmp_path / "data", 1, False)
        return one.folder

    assert folders("a") == folders("a") != folders("b")


def test_pictures_are_checked_by_name_and_size(tmp_path, data, settings):
    first = prepare(settings(), tmp_path / "out", workers=1, progress=False).sets["train"]["sources"][0]
    files = list((tmp_path / "data" / "images").iterdir())
    assert first["files"] == 6 and first["bytes"] == sum(path.stat().st_size for path in files)
    files[0].write_bytes(files[0].read_bytes() + b"\0")
    second = prepare(settings(), tmp_path / "out", workers=1, progress=False).sets["train"]["sources"][0]
    assert second["names and sizes"] != first["names and sizes"] and second["bytes"] == first["bytes"] + 1


def test_the_seed_draws_the_sheet_of_crops(tmp_path, data, settings):
    drawn = [
        prepare(settings(seed=seed), tmp_path / "out", workers=1, progress=False).sets["train"]["random persons"]
        for seed in (0, 1)
    ]
    assert drawn[0] != drawn[1] and sorted(drawn[0]) == list(range(12))


@pytest.mark.parametrize("how", ["missing", "cut"])
def test_too_many_broken_pictures_fail(tmp_path, data, settings, how):
    for path in sorted((tmp_path / "data" / "images").iterdir())[:2]:
        path.unlink() if how == "missing" else path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"2 of 6 pictures .*data\.max_broken.*000001\.jpg"):
        prepare(settings(), tmp_path / "out", workers=1, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": "photos"}, "no image folder"),
        ({"annotations": "absent.json"}, "no annotation file"),
    ],
)
def test_wrong_paths(tmp_path, data, settings, change, message):
    source = {"source": "coco_wholebody", "name": "s", "annotations": "annotations.json", "images": "images", **change}
    with pytest.raises(UserError, match=message):
        prepare(settings(train=[source]), tmp_path / "out", workers=1, progress=False)


def test_no_data_folder(tmp_path, settings):
    with pytest.raises(UserError, match=r"data\.root: there is no folder"):
        prepare(settings(), tmp_path / "out", workers=1, progress=False)


def test_nobody_left(tmp_path, data, settings):
    for entry in data["annotations"]:
        entry["iscrowd"] = 1
    (tmp_path / "data" / "annotations.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match="no person is left"):
        prepare(settings(), tmp_path / "out", workers=1, progress=False)


@pytest.mark.parametrize("split", ["train", "val"])
def test_nobody_left_says_why(tmp_path, data, settings, split):
    """A validation set without persons would end as an AP of -1."""
    for entry in data["annotations"]:
        entry["category_id"] = 0
    (tmp_path / "data" / "others.json").write_text(json.dumps(data))
    source = {"source": "coco_wholebody", "name": "others", "annotations": "others.json", "images": "images"}
    with pytest.raises(UserError, match=rf"data\.{split}: .*no person is left .*persons: not a person \(12\)"):
        prepare(settings(**{split: [source]}), tmp_path / "out", workers=1, progress=False)


def test_pictures_of_two_sources_with_the_same_ids_are_counted_apart(tmp_path, data, settings):
    source = {"source": "coco_wholebody", "annotations": "annotations.json", "images": "images"}
    P = settings(train=[{**source, "name": "a"}, {**source, "name": "b"}])
    report = prepare(P, tmp_path / "out", workers=1, progress=False)
    assert report.sets["train"]["images"] == 12


def test_sources_are_mixed_and_validation_sets_stay_apart(tmp_path, data, write_coco, settings):
    write_coco(tmp_path / "data" / "other", images=2, persons=1, seed=9)
    first = {"source": "coco_wholebody", "name": "a", "annotations": "annotations.json", "images": "images"}
    second = {**first, "name": "b", "annotations": "other/annotations.json", "images": "other/images"}
    prepare(settings(train=[first, second], val=[first, second]), tmp_path / "out", workers=1, progress=False)
    store = TrainStore(tmp_path / "out" / "train")
    assert store.sources == ["a", "b"] and np.bincount(store.column("source")).tolist() == [12, 2]
    assert len(ValStore(tmp_path / "out" / "val-a").persons) == 12
    assert len(ValStore(tmp_path / "out" / "val-b").persons) == 2


def test_a_repaired_picture_is_read_again(tmp_path, data, settings):
    """Though its name and size are the same, and the other parts are kept."""
    path = tmp_path / "data" / "images" / data["images"][0]["file_name"]
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))
    with pytest.raises(UserError, match="1 of 6 pictures cannot be used"):
        prepare(settings(), tmp_path / "out", workers=1, progress=False)
    path.write_bytes(good)
    report = prepare(settings(), tmp_path / "out", workers=1, progress=False)
    assert report.sets["train"]["persons"] == 12 and not report.broken


def test_large_pictures_make_small_parts(tmp_path, data, settings, monkeypatch):
    """A validation part holds its files whole: without a limit, 256 photographs of a camera take gigabytes."""
    sizes = [(tmp_path / "data" / "images" / image["file_name"]).stat().st_size for image in data["images"]]
    monkeypatch.setattr(parts, "BYTES_PER_PART", 2 * max(sizes))
    prepare(settings(), tmp_path / "out", workers=1, progress=False)
    assert len(list((tmp_path / "out" / "val-small").glob("part-*.arrow"))) >= 3
    assert len(list((tmp_path / "out" / "train").glob("part-*.arrow"))) == 1
    assert len(ValStore(tmp_path / "out" / "val-small").images) == 6


def test_a_name_of_two_lines_is_told_on_one(tmp_path, data, settings):
    data["images"][0]["file_name"] = "a\nb.jpg"
    (tmp_path / "data" / "annotations.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"a\\x0ab\.jpg \(missing\)"):
        prepare(settings(), tmp_path / "out", workers=1, progress=False)


KILLED = """
import sys, time
from pathlib import Path
import posedistill.data.store.parts as parts
import posedistill.pipeline.prepare as p
from posedistill.params import from_settings
import json
parts.IMAGES_PER_PART = 2
real = p.make_part
def slow(task):
    real_result = real(task)
    print("part", task.kind, task.index, flush=True)
    time.sleep(0.5)
    return real_result
p.make_part = slow
p.prepare(from_settings(json.loads(Path(sys.argv[1]).read_text())), Path(sys.argv[2]), workers=1, progress=False)
"""


def test_a_killed_run_continues_with_the_same_bytes(tmp_path, data, settings, monkeypatch):
    P = settings()
    (tmp_path / "settings.json").write_text(json.dumps(to_settings(P)))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "settings.json"), str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    lines = [process.stdout.readline() for _ in range(2)]
    assert lines == ["part train 0\n", "part train 1\n"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "train").exists()
    (finished,) = (tmp_path / "checkpoints").glob("prepare-train-*")
    stamp = (finished / "part-00001.arrow").stat().st_mtime_ns
    monkeypatch.setattr(parts, "IMAGES_PER_PART", 2)
    made = []
    real = preparation.make_part
    monkeypatch.setattr(preparation, "make_part", lambda task: (made.append((task.kind, task.index)), real(task))[1])
    prepare(P, tmp_path / "out", workers=1, progress=False)
    assert ("train", 0) not in made and ("train", 2) in made
    assert (tmp_path / "out" / "train" / "part-00001.arrow").stat().st_mtime_ns == stamp
    monkeypatch.setattr(preparation, "make_part", real)
    prepare(P, tmp_path / "whole", workers=1, progress=False)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_rendered_people(tmp_path, settings):
    source = {"source": "synthetic", "name": "rendered", "images": 3, "seed": 5}
    assets = Path(__file__).parents[2] / "assets"
    P = settings(train=[source], val=[{**source, "images": 2, "seed": 6}])
    P = P.replaced(data=P.data.replaced(root=str(assets)))
    for out in ("one", "two"):
        report = prepare(P, tmp_path / out, workers=1, progress=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") and balanced(report)
    assert report.sets["train"]["images"] <= 3 <= len(TrainStore(tmp_path / "one" / "train"))
    assert not list((tmp_path / "checkpoints").iterdir())


MEASURED = """
import json, re, sys
from pathlib import Path
from posedistill.pipeline.prepare import prepare
from posedistill.params import from_settings
if __name__ == "__main__":
    report = prepare(from_settings(json.loads(Path(sys.argv[1]).read_text())), Path(sys.argv[2]), progress=False)
    # Of this process alone: the workers hold one part each, some 100 MB. Not ru_maxrss, which begins with what the
    # process that started this one had.
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps([report.sets["train"]["persons"], int(peak[1]) / 1e6]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_memory_stays_under_two_gigabytes(tmp_path, write_coco, settings):
    """150,000 persons, made of repeated pictures: annotations are streamed, parts are written as they are made."""
    data = write_coco(tmp_path / "data", images=6, persons=2, width=64, height=48)
    rows = []
    for entry in data["annotations"]:
        picture, identity = entry.pop("image_id"), entry.pop("id")
        rows.append((picture, identity, json.dumps(entry)[1:]))
    with (tmp_path / "data" / "many.json").open("w") as file:
        repeated = [{**i, "id": i["id"] + 100 * r} for r in range(12_500) for i in data["images"]]
        file.write(json.dumps({"images": repeated, "categories": data["categories"]})[:-1] + ', "annotations": [')
        for r in range(12_500):
            for n, (picture, identity, rest) in enumerate(rows):
                comma = "" if r == n == 0 else ","
                file.write(f'{comma}{{"id": {identity + 1000 * r}, "image_id": {picture + 100 * r}, {rest}')
        file.write("]}")
    for entry, (picture, identity, _) in zip(data["annotations"], rows):
        entry.update(id=identity, image_id=picture)
    (tmp_path / "data" / "annotations.json").write_text(json.dumps(data))
    small = {"source": "coco_wholebody", "name": "s", "annotations": "annotations.json", "images": "images"}
    P = settings(train=[{**small, "name": "many", "annotations": "many.json"}], val=[small], size=(64, 64))
    (tmp_path / "settings.json").write_text(json.dumps(to_settings(P)))
    (tmp_path / "script.py").write_text(MEASURED)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "settings.json"), str(tmp_path / "out")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    persons, peak = json.loads(done.stdout)
    print(f"{persons} persons: {peak:.2f} GB")
    assert persons == 150_000 and peak < 2 - 2 * 0.2
