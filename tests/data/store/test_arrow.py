"""Reading prepared stores: what is the file's fault, and what the machine's."""

import errno

import pyarrow as pa
import pytest

from posedistill.data.store.arrow import ValStore, image_batch, part_name, write_batch, write_meta
from posedistill.errors import UserError


@pytest.fixture
def store(tmp_path):
    write_batch(tmp_path / part_name(0), image_batch([]))
    write_meta(tmp_path, kind="val", rows=[0])
    return ValStore(tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (pa.ArrowException("Unknown error: Failed to launch worker thread"), "may be whole: .*Failed to launch"),
        (pa.lib.ArrowMemoryError("malloc of size 1 failed"), "may be whole: malloc"),
        (OSError(errno.EMFILE, "Too many open files"), "may be whole: .*Too many open files"),
        (pa.ArrowInvalid("Not an Arrow file"), r"is damaged or missing \(Not an Arrow file\): run prepare again"),
        (OSError("Expected to read 8 bytes"), "is damaged or missing"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "is damaged or missing"),
    ],
)
def test_only_damage_sends_the_user_to_prepare(store, monkeypatch, error, message):
    def fail(_):
        raise error

    monkeypatch.setattr(pa.ipc, "open_file", fail)
    with pytest.raises(UserError, match=message):
        len(store.sizes)
