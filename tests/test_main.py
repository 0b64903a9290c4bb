"""The command line: help, bad input, exit codes."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from posedistill import __main__ as main
from posedistill.errors import UserError
from posedistill.models import build_rtmpose, save_checkpoint

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "posedistill", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src")},
    )


def test_help_lists_the_commands_and_is_quick(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in main.COMMANDS)


@pytest.mark.parametrize("command", main.COMMANDS)
def test_each_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main([command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_no_command_or_an_unknown_one_is_refused():
    for arguments in ((), ("fly",)):
        done = run(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr


def test_bad_input_is_one_line(monkeypatch, capsys):
    class Room:
        @staticmethod
        def add_arguments(parser):
            parser.add_argument("file")

        @staticmethod
        def run(arguments):
            raise UserError(f"{arguments.file}: no such file")

    monkeypatch.setattr(main.importlib, "import_module", lambda name: Room)
    assert main.main(["evaluate", "a.json"]) == 2
    assert capsys.readouterr().err == "posedistill evaluate: a.json: no such file\n"


def test_a_full_disk_is_one_line_wherever_it_is_met(monkeypatch, capsys):
    class Room:
        @staticmethod
        def add_arguments(parser):
            pass

        @staticmethod
        def run(arguments):
            raise OSError(errno.ENOSPC, "No space left on device", "/out/model.onnx")

    monkeypatch.setattr(main.importlib, "import_module", lambda name: Room)
    assert main.main(["export"]) == 2
    assert capsys.readouterr().err == "posedistill export: /out/model.onnx: no space left on the device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_behind_stdout_is_one_line(tmp_path):
    save_checkpoint(build_rtmpose("n", (32, 32)), tmp_path / "a.pth", "mmpose")
    command = [sys.executable, "-m", "posedistill", "convert", tmp_path / "a.pth", tmp_path / "b.pth"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "posedistill convert: output: no space left on the device\n"
