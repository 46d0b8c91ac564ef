"""A lock on a file: one holder at a time, in threads and processes, and none once a process is killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from ttr import locks
from ttr.locks import held, take

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
HOLD = (
    "import sys; from pathlib import Path; from ttr.locks import take; "
    "take(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


def test_one_holds_it_and_nothing_remains(tmp_path):
    place = tmp_path / "lock"
    with held(place) as first, held(place) as second:
        assert (first, second) == (True, False)
        assert place.exists()
    assert not place.exists()
    with held(place) as again:
        assert again


def test_a_killed_process_holds_nothing(tmp_path):
    place = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, place]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert take(place) is None
        process.send_signal(signal.SIGKILL)
    assert place.exists()
    with held(place) as alone:
        assert alone
    assert not place.exists()


def test_a_file_that_its_holder_removed_meanwhile_is_not_the_lock(tmp_path, monkeypatch):
    """Whoever opened it before that holds a file without a name, and must look again."""
    place, first, lock = tmp_path / "lock", [], locks._lock

    def remove_and_lock(handle, new):
        if not first:
            first.append(handle)
            place.unlink()
        return lock(handle, new)

    monkeypatch.setattr(locks, "_lock", remove_and_lock)
    handle = take(place)
    assert os.path.samestat(os.fstat(handle), place.stat())
    os.close(handle)


def test_where_there_are_no_locks_the_maker_holds_it(tmp_path, monkeypatch):
    def refuse(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    place = tmp_path / "lock"
    with held(place) as first, held(place) as second:
        assert (first, second) == (True, False)
    with held(place) as again:
        assert again
    place.touch()
    with held(place) as left_by_a_kill:
        assert not left_by_a_kill


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        take(tmp_path / "lock")
    assert (tmp_path / "mine").read_text() == "mine"
