"""The command, from a data set to a corrected copy."""

import json

import coco_fixtures
import pytest

from posedistill.__main__ import main
from posedistill.audit.labels import read_pictures
from posedistill.audit.survey import survey
from posedistill.inference.pose import load
from posedistill.models.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def audited(tmp_path_factory, random_model):
    """The folder of a small data set with a double and a point outside a picture, and of what the command wrote."""
    folder = tmp_path_factory.mktemp("audit")
    content = coco_fixtures._write_coco(folder, images=2, persons=2)
    content["annotations"].append({**content["annotations"][0], "id": 999})
    content["annotations"][1]["keypoints"][:2] = [-20.0, 30.0]
    (folder / "annotations.json").write_text(json.dumps(content))
    save_checkpoint(random_model("n", (64, 64)), folder / "model.safetensors")
    assert main(audit(folder)) == 0
    return folder


def audit(folder, *more):
    places = ["--annotations", str(folder / "annotations.json"), "--images", str(folder / "images")]
    return ["audit", str(folder / "model.safetensors"), *places, "--out", str(folder / "out"), "--device", "cpu", *more]


def apply(folder, audit, output, annotations="annotations.json"):
    return ["audit", "--apply", str(audit), "--annotations", str(folder / annotations), "--write", str(output)]


def read(path):
    return json.loads(path.read_text())


def accept(folder, tmp_path, kind, change=None):
    """audit.json with the first finding of a kind accepted; `change` alters it."""
    content = read(folder / "out" / "audit.json")
    row = next(row for row in content["findings"] if row["kind"] == kind)
    row["accepted"] = True
    if change:
        change(row)
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(content))
    return path, row


def test_findings_are_ranked_counted_and_shown(audited):
    content = read(audited / "out" / "audit.json")
    rows = content["findings"]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["sure"] for row in rows] == sorted((row["sure"] for row in rows), reverse=True)
    assert content["persons"] == 5 and sum(content["counts"].values()) == len(rows)
    double = next(row for row in rows if row["kind"] == "double")
    assert {double["annotation_id"], double["same_as"]} == {100, 999} and double["sure"] > 0.9
    outside = next(row for row in rows if row["kind"] == "outside")
    assert outside["annotation_id"] == 101 and outside["points"]["keypoints"][:2] == [-20.0, 30.0]
    page = (audited / "out" / "audit.html").read_text()
    assert page.count("<figure>") == min(100, len(rows)) and "http" not in page


def test_what_was_accepted_is_applied_and_nothing_else(audited, tmp_path):
    path, row = accept(audited, tmp_path, "outside")
    assert main(apply(audited, path, tmp_path / "corrected.json")) == 0
    before, after = read(audited / "annotations.json"), read(tmp_path / "corrected.json")
    expected = {a["id"]: a for a in before["annotations"]}
    expected[101] = {**expected[101], **row["proposed"]}
    assert after["annotations"] == list(expected.values())
    assert expected[101]["keypoints"][:3] == [0, 0, 0] and expected[101]["num_keypoints"] == 16
    assert after["images"] == before["images"]


def test_odd_values_are_copied_as_they_are(audited, tmp_path):
    path, _ = accept(audited, tmp_path, "outside")
    content = read(audited / "annotations.json")
    content["annotations"][2] |= {"note": "caf\udce9", "large": 2**70, "face_kpts": [float("nan")] * 204}
    (tmp_path / "odd.json").write_text(json.dumps(content))
    assert main(apply(tmp_path, path, tmp_path / "corrected.json", "odd.json")) == 0
    before, after = (json.dumps(one["annotations"][2]) for one in (content, read(tmp_path / "corrected.json")))
    assert before == after


def test_a_field_with_nan_can_be_corrected(audited, tmp_path):
    content = read(audited / "annotations.json")
    content["annotations"][1]["keypoints"][6:8] = [float("nan"), 5.0]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(audited / "images")
    (tmp_path / "model.safetensors").symlink_to(audited / "model.safetensors")
    assert main(audit(tmp_path)) == 0
    path, row = accept(tmp_path, tmp_path, "outside")
    assert row["points"]["keypoints"][6] is None
    assert main(apply(tmp_path, path, tmp_path / "corrected.json")) == 0
    assert read(tmp_path / "corrected.json")["annotations"][1]["keypoints"][6:9] == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].update(id=[1]), "annotations[0]: id: found [1], expected a whole number"),
        (lambda rows: rows.append(rows[1]), "annotation 101: duplicate id"),
    ],
)
def test_annotations_that_cannot_be_corrected(audited, tmp_path, capsys, change, message):
    path, _ = accept(audited, tmp_path, "outside")
    content = read(audited / "annotations.json")
    change(content["annotations"])
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert main(apply(tmp_path, path, tmp_path / "corrected.json")) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "corrected.json").exists()


def test_what_a_reader_accepted_is_not_replaced_by_a_new_audit(audited, tmp_path, capsys):
    path, _ = accept(audited, tmp_path, "outside")
    before = path.read_bytes()
    assert main([*audit(audited), "--out", str(tmp_path)]) == 2
    assert "`accepted` is set in 1 of its findings" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_without_a_person_there_is_nothing_to_audit(audited, tmp_path, capsys):
    content = {**read(audited / "annotations.json"), "annotations": []}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(audited / "images")
    (tmp_path / "model.safetensors").symlink_to(audited / "model.safetensors")
    assert main(audit(tmp_path)) == 2
    assert "annotations.json: no person with a box and labels" in capsys.readouterr().err


def test_parts_that_a_file_never_labels_are_not_missed(audited):
    people = [
        {name: value for name, value in row.items() if "_kpts" not in name}
        for row in read(audited / "annotations.json")["annotations"]
    ]
    body = {**read(audited / "annotations.json"), "annotations": people}
    (audited / "body.json").write_text(json.dumps(body))
    result = survey(
        load(audited / "model.safetensors", "cpu"), read_pictures(audited / "body.json", audited / "images")
    )
    assert result.people and all(one.kind != "unlabelled" for one in result.candidates)


def test_an_accepted_double_is_removed(audited, tmp_path):
    path, row = accept(audited, tmp_path, "double")
    assert main(apply(audited, path, tmp_path / "corrected.json")) == 0
    kept = [a["id"] for a in read(tmp_path / "corrected.json")["annotations"]]
    assert row["annotation_id"] not in kept and len(kept) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(annotation_id=12345), "there is no annotation 12345"),
        (lambda row: row["points"].update(keypoints=[0] * 51), "the annotations have changed since the audit"),
        (lambda row: row.update(accepted="yes"), "accepted: found 'yes', expected true, false or null"),
        (lambda row: row.update(annotation_id=None), "annotation_id: found nothing, expected a whole number"),
        (lambda row: row.update(points=None), "expected objects as points and proposed"),
        (
            lambda row: row["proposed"].update(id=5),
            "proposed: found id, expected the fields of its points",
        ),
        (lambda row: row["proposed"].update(keypoints=[1, 2]), "keypoints: found 2 values, expected 51 or 399 numbers"),
    ],
)
def test_what_cannot_be_applied_is_one_line_and_writes_nothing(audited, tmp_path, capsys, change, message):
    path, _ = accept(audited, tmp_path, "outside", change)
    assert main(apply(audited, path, tmp_path / "corrected.json")) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "corrected.json").exists()


def test_two_findings_of_one_field_are_not_both_applied(audited, tmp_path, capsys):
    path, row = accept(audited, tmp_path, "outside")
    content = read(path)
    content["findings"].append({**row, "proposed": {**row["proposed"], "num_keypoints": 3}})
    path.write_text(json.dumps(content))
    assert main(apply(audited, path, tmp_path / "corrected.json")) == 2
    assert "both change num_keypoints of annotation 101" in capsys.readouterr().err


def test_inputs_are_never_overwritten(audited, tmp_path, capsys):
    path, _ = accept(audited, tmp_path, "outside")
    before = path.read_bytes()
    for target in (path, audited / "annotations.json"):
        assert main(apply(audited, path, target)) == 2
    assert path.read_bytes() == before and "would" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--annotations", "a.json"], "needs a model and --images"),
        (["--annotations", "a.json", "--write", "b.json"], "--apply and --write go together"),
        (["m", "--annotations", "a.json", "--apply", "x", "--write", "y"], "neither a model nor --images"),
        (["m", "--annotations", "a.json", "--images", "nowhere"], "nowhere: there is no such folder"),
        (["m", "--annotations", "a.json", "--images", ".", "--least", "2"], "--least: found 2"),
    ],
)
def test_wrong_arguments(capsys, arguments, message):
    assert main(["audit", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_pictures_that_cannot_be_read_are_named(audited, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    name = "000000.jpg"
    (tmp_path / "images" / name).write_bytes((audited / "images" / name).read_bytes())
    arguments = audit(audited, "--images", str(tmp_path / "images"), "--out", str(tmp_path / "out"))
    assert main(arguments) == 1
    assert "skipped 000001.jpg: image missing" in capsys.readouterr().err
    assert read(tmp_path / "out" / "audit.json")["persons"] == 3
