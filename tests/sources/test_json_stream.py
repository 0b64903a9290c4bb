"""JSON files read one record at a time, and those that are not JSON."""

import gzip
import json
import math
import os
from pathlib import Path

import pytest

from posedistill.errors import UserError
from posedistill.sources.json_stream import load_whole, top_level


def whole(path):
    """Everything of a file, its annotations as a list."""
    entries, annotations = top_level(path, streamed="annotations")
    return {**entries, "annotations": list(annotations)}


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", "{", '{"images": [', '{"annotations": {}, "images": []}', "\x00\x01"),
        *('{"images": []}', '{"images": [], "annotations": [], "annotations": []}'),
        *(
            '{"images": [], "images": [], "annotations": []}',
            '{"annotations": [], "images": ' + "[" * 5000 + "]" * 5000 + "}",
        ),
    ],
    ids=range(11),
)
def test_files_that_are_not_annotations(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"broken\.json"):
        whole(path)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="there is no annotation file"):
        whole(tmp_path / "absent.json")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_cut_off_file(content, save, share):
    path = save(content)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(UserError):
        whole(path)


def test_streaming_reads_the_same_as_json(content, save):
    content["annotations"][0]["note"] = 'brackets } ] in a "string" \\'
    content["info"] = {"a": [1, {"b": "]"}], "n": -1.5e3, "t": True, "z": None}
    path = save(content)
    entries, annotations = top_level(path, streamed="annotations")
    assert list(annotations) == content["annotations"]
    assert entries == {name: value for name, value in content.items() if name != "annotations"}
    path.write_text(json.dumps(content, indent=3))
    assert list(top_level(path, streamed="annotations")[1]) == content["annotations"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (gzip.compress, "expected a JSON object .*found a gzip file"),
        (lambda raw: raw.decode().encode("utf-16"), "found UTF-16"),
        (lambda raw: raw + raw, "the file goes on after its end"),
    ],
)
def test_files_of_another_kind_are_named(content, save, change, message):
    path = save(content)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=message):
        whole(path)


def test_what_the_standard_does_not_allow_is_read(tmp_path):
    """NaN, a byte order mark, half a surrogate pair (a name that is not UTF-8), and integers beyond 64 bits."""
    records = '[{"a": NaN, "b": 36893488147419103232}, {"c": [{"d": -Infinity}]}]'
    text = '{"images": ["caf\\udce9.jpg"], "annotations": ' + records + "}"
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    for read in (whole(path), load_whole(path, "file")):
        first, second = read["annotations"]
        assert math.isnan(first["a"]) and first["b"] == 2**65 and second == {"c": [{"d": -math.inf}]}
        assert read["images"] == ["caf\udce9.jpg"]


def test_a_pipe_that_a_shell_has_opened_is_read_as_a_file(content, save):
    reading, writing = os.pipe()
    raw = save(content).read_bytes()
    os.write(writing, raw)
    os.close(writing)
    assert whole(Path(f"/dev/fd/{reading}")) == content
    os.close(reading)


@pytest.mark.parametrize("record", ["3", '"a"', "[1]", '{"a": }', '{"a": 1,}'])
def test_records_that_are_not_objects_or_not_json_are_named(tmp_path, record):
    path = tmp_path / "a.json"
    path.write_text('{"images": [], "annotations": [{}, ' + record + "]}")
    with pytest.raises(UserError, match=r"a\.json: annotations"):
        whole(path)


@pytest.mark.parametrize("length", [3, 10, 20, 30, 45, 51])
def test_a_file_that_is_cut_off_is_called_so_with_the_place(tmp_path, length):
    whole = b'{"images": [{"id": 1}], "annotations": [{"id": 12}]}'
    (tmp_path / "cut.json").write_bytes(whole[:length])
    with pytest.raises(UserError, match=rf"cut\.json: .*cut off at byte {length}\b"):
        load_whole(tmp_path / "cut.json", "file")
    with pytest.raises(UserError, match=rf"cut\.json: .*cut off at byte {length}\b"):
        list(top_level(tmp_path / "cut.json", streamed="annotations")[1])


def test_pipes_without_a_writer_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        for read in (lambda path: load_whole(path, "file"), lambda path: top_level(path, streamed="annotations")):
            with pytest.raises(UserError, match="it is a device, pipe or socket, expected a file"):
                read(path)
    with pytest.raises(UserError, match="it is a folder, expected a file"):
        load_whole(tmp_path, "file")
