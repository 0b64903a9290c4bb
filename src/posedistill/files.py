"""Atomic files, outputs that spare the inputs, checksums and JSON."""

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from posedistill.errors import UserError

# What the user's machine refuses; anything else is a programming error and stays an OSError.
_REFUSALS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "disk quota exceeded",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EROFS: "read-only file system",
    errno.EISDIR: "it is a folder, expected a file",
    errno.ENOTDIR: "a part of the path is a file, expected a folder",
    errno.EEXIST: "a part of the path is a file, expected a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "a symbolic link leads to itself",
}


def refusal(error: OSError) -> str | None:
    """What the machine refuses, such as a full disk, in words; None for other errors, which are the program's."""
    code = error.errno or 0
    if code == errno.EEXIST and error.filename and _loops(Path(os.fsdecode(error.filename))):
        code = errno.ELOOP
    return _REFUSALS.get(code)


def _loops(path: Path) -> bool:
    """Whether `path` is a symbolic link that leads to itself."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes its place when the block ends well.

    Missing parent folders are made. If the block fails, `path` stays as it was and the temporary file is removed. A
    full disk, an unwritable folder or a `path` that is a device becomes a UserError naming it. The temporary name keeps
    the suffix, since some writers choose the format by it, and is short, so that any name that the disk takes can be
    written.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # a device would become a file, a pipe unread
        raise UserError(f"cannot write {printable(path)}: it is a device, pipe or socket, expected a file")
    digest = hashlib.blake2s(os.fsencode(path.name), digest_size=4).hexdigest()
    temporary = path.with_name(f".{digest}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        _remove(temporary)
        if reason := refusal(error) or _unmakeable(path, error):
            raise UserError(f"cannot write {printable(path)}: {reason}") from error
        raise
    except BaseException:
        _remove(temporary)
        raise


def _unmakeable(path: Path, error: OSError) -> str | None:
    """Why no file can be made in a folder that exists, such as /proc."""
    missing = error.errno == errno.ENOENT and error.filename2 is None and path.parent.is_dir()
    return f"{printable(path.parent)} takes no files" if missing else None


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`: afterwards the file is whole, or as it was before."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def writable_folder(path: str | Path) -> Path:
    """Create the folder `path` if it does not exist and return it; raises UserError if it is not writable."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        reason = "it is a file, expected a folder" if path.is_file() else error.strerror
        raise UserError(f"cannot write into {printable(path)}: {reason}") from error


def refuse_overwrite(output: str | Path | Iterable[Path], *inputs: str | Path | None) -> None:
    """UserError if writing `output` (one file or several) would replace one of `inputs`.

    Symbolic and hard links to an input count as the input. An input folder stands for the files below it. None, an
    option that was not given, is skipped.
    """
    read = [Path(path) for path in inputs if path is not None]
    names = {_real(path) for path in read}
    files = {_identity(path) for path in read} - {None}
    folders = {_real(path) for path in read if path.is_dir()}
    for target in map(Path, [output] if isinstance(output, str | Path) else output):
        real = _real(target)
        below = target.is_file() and not folders.isdisjoint(real.parents)
        if real in names or _identity(target) in files or below:
            raise UserError(
                f"{printable(target)}: is read by this command, which would overwrite it; choose another output"
            )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve fails on a link to itself before Python 3.13


def _identity(path: Path) -> tuple[int, int] | None:
    """What all hard links of a file have in common; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def files_below(folder: str | Path) -> list[Path]:
    """All files below a folder, sorted; follows linked folders, each real folder once."""
    found, visited = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        found += [Path(place, name) for name in names]
    return sorted(found)


def printable(name: str | Path) -> str:
    """A file name as one line of valid UTF-8: control characters and undecodable bytes become \\x… ."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def loads_json(content: bytes) -> Any:
    """Parse JSON by orjson, or the standard library without it; raises ValueError (JSONDecodeError) if invalid."""
    try:
        import orjson
    except ImportError:
        return json.loads(content)
    return orjson.loads(content)


def dumps_json(content: Any, *, pretty: bool = True) -> bytes:
    """Plain values as JSON, indented by 2 if `pretty`, with a final newline; without orjson the same text,
    but 1e-07 for 1e-7."""
    try:
        import orjson
    except ImportError:
        layout: dict[str, Any] = {"indent": 2} if pretty else {"separators": (",", ":")}
        return (json.dumps(content, ensure_ascii=False, **layout) + "\n").encode()
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if pretty else 0))


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
