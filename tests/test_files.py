"""A file is whole or as it was before, whatever happens while it is written."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from posedistill import project
from posedistill.errors import UserError
from posedistill.files import atomic_path, dumps_json, loads_json, refuse_overwrite, sha256_file, write_atomic
from posedistill.sources.json_stream import load_whole

ROOT = Path(__file__).parents[1]


def test_writes_text_and_bytes_and_makes_folders(tmp_path):
    write_atomic(tmp_path / "a" / "b.txt", "größe")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "größe".encode()
    write_atomic(tmp_path / "a" / "b.txt", b"\x00")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\x00"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "model.safetensors"
    write_atomic(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == target.suffix
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_longest_name_can_be_written_and_two_files_at_once(tmp_path):
    long = tmp_path / ("写" * 83 + ".json")
    with atomic_path(long) as first, atomic_path(tmp_path / "b.json") as second:
        assert first != second and first.name.startswith(".") and ".tmp" in first.name
        first.write_text("a")
        second.write_text("b")
    assert long.read_text() == "a" and len(list(tmp_path.iterdir())) == 2


def test_killed_while_writing_the_old_file_stays(tmp_path):
    target = tmp_path / "a.json"
    write_atomic(target, "old")
    program = (
        "import os, signal, sys\n"
        "from posedistill.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path:\n"
        "    path.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, target], env={"PYTHONPATH": str(ROOT / "src")}, check=False)
    assert done.returncode == -9
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")],
)
def test_a_refusing_disk_is_one_line(tmp_path, number, words):
    target = tmp_path / "a.json"
    write_atomic(target, "old")
    with pytest.raises(UserError, match=f"cannot write {target}: {words}"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_device_or_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"cannot write .*pipe: it is a device, pipe or socket, expected a file"):
        write_atomic(pipe, "new")
    assert pipe.is_fifo()


def test_a_link_to_itself_overwrites_nothing(tmp_path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    refuse_overwrite(tmp_path / "out.json", tmp_path / "loop.jpg")
    with pytest.raises(UserError, match="is read by this command"):
        refuse_overwrite(tmp_path / "loop.jpg", tmp_path / "loop.jpg")


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass  # nothing was written, so there is nothing to put in place


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_root_is_found_upward_or_given(tmp_path, monkeypatch):
    monkeypatch.delenv("POSEDISTILL_ROOT", raising=False)
    (tmp_path / "dvc.yaml").touch()
    inside = tmp_path / "notebooks" / "deep"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert project.root() == tmp_path
    assert project.enter() == tmp_path and Path.cwd() == tmp_path
    monkeypatch.setenv("POSEDISTILL_ROOT", str(inside))
    assert project.root() == inside


def test_outside_a_project_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("POSEDISTILL_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no dvc\.yaml"):
        project.root()


def test_checkpoints_live_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path / "project"))
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "elsewhere"))
    assert project.checkpoints() == tmp_path / "elsewhere"
    monkeypatch.delenv("POSEDISTILL_CHECKPOINTS")
    assert project.checkpoints() == tmp_path / "project" / ".checkpoints"
    # a temporary copy that DVC runs an experiment in
    monkeypatch.setenv("POSEDISTILL_ROOT", str(tmp_path / "project" / ".dvc" / "tmp" / "exps" / "standalone" / "abc"))
    assert project.checkpoints() == tmp_path / "project" / ".checkpoints"


@pytest.mark.parametrize("pretty", [True, False])
def test_json_is_the_same_without_orjson(monkeypatch, pretty):
    content = {"a": [1, 2.5, 1e-7, None, True], "ä": {}, "b": [], "c": {"d": 'x\n"y"'}}
    fast = dumps_json(content, pretty=pretty)
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert dumps_json(content, pretty=pretty).replace(b"1e-07", b"1e-7") == fast
    assert loads_json(fast) == content
    with pytest.raises(ValueError):
        loads_json(b"{")


def test_an_input_is_never_an_output(tmp_path):
    source, folder = tmp_path / "in.json", tmp_path / "pictures"
    source.write_text("precious")
    folder.mkdir()
    (folder / "a.jpg").write_text("a")
    (tmp_path / "link").symlink_to(source)
    os.link(source, tmp_path / "hard")
    for output in ("in.json", "pictures/../in.json", "link", "hard"):
        with pytest.raises(UserError, match="is read by this command"):
            refuse_overwrite(tmp_path / output, None, source)
    with pytest.raises(UserError, match=r"a\.jpg"):
        refuse_overwrite([tmp_path / "new", folder / "a.jpg"], folder)
    with pytest.raises(UserError, match="new"):  # also where the file does not exist yet
        refuse_overwrite(tmp_path / "new", tmp_path / "new")
    refuse_overwrite([folder / "new.jpg", tmp_path / "out.json"], source, folder, tmp_path / "missing")
    assert source.read_text() == "precious"


def test_a_link_to_itself_is_called_so_wherever_it_stands(tmp_path):
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(UserError, match=r"self/a\.txt: a symbolic link leads to itself"):
        write_atomic(tmp_path / "self" / "a.txt", "")
    with pytest.raises(UserError, match="self: a symbolic link leads to itself"):
        load_whole(tmp_path / "self", "file")


def test_a_folder_that_takes_no_files_is_one_line():
    with pytest.raises(UserError, match="cannot write /proc/x: /proc takes no files"):
        write_atomic("/proc/x", "")
