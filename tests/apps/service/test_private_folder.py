"""The folder of uploads: this process's alone while it lives, and nobody's uploads stay after it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from ttr.apps.service.private_folder import UPLOADS, private_folder

KEPT_OPEN = (
    "import sys, time; from ttr.apps.service.private_folder import private_folder\n"
    "with private_folder() as folder:\n"
    "    (folder / 'upload.png').write_bytes(b'x'); print(folder, flush=True); time.sleep(600)"
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def holder(place):
    process = subprocess.Popen(
        [sys.executable, "-c", KEPT_OPEN],
        env={**os.environ, "TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, place / process.stdout.readline().strip().rpartition("/")[2]


def test_a_full_disk_leaves_no_folder_that_nobody_sweeps(place, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ttr.private_folders.os.write", full)
    with pytest.raises(OSError, match="No space"), private_folder():
        pass
    assert list(place.iterdir()) == []


def test_uploads_lie_in_a_private_folder_that_goes_at_exit(place):
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "upload.png").write_bytes(b"x")
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
    assert list(place.iterdir()) == []


def test_the_next_start_removes_what_a_killed_page_left_and_nothing_of_a_living_one(place):
    dead, left = holder(place)
    alive, kept = holder(place)
    try:
        dead.send_signal(signal.SIGKILL)
        dead.wait(30)
        assert (left / "upload.png").exists()
        with private_folder() as own:
            assert not left.exists()
            assert (kept / "upload.png").exists()
            assert UPLOADS.sweep(place) == []
            assert own.exists()
    finally:
        alive.kill()
        alive.wait(30)
    assert UPLOADS.sweep(place) == [kept]


def test_what_cannot_be_removed_yet_is_left_to_the_next_start(place, monkeypatch):
    with private_folder() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "upload.png").write_bytes(b"x")
        (folder / ".hidden").write_bytes(b"x")
        monkeypatch.setattr("ttr.private_folders.shutil.rmtree", lambda *_, **__: None)
    monkeypatch.undo()
    assert {each.name for each in folder.iterdir()} == {"sub", UPLOADS.lock}
    assert UPLOADS.sweep(place) == [folder]
    assert list(place.iterdir()) == []


def test_what_is_not_ours_stays(place, monkeypatch):
    def folder(name, lock=None):
        made = place / name
        made.mkdir()
        (made / "precious").write_text("x")
        if lock is not None:
            (made / UPLOADS.lock).write_bytes(lock)
        return made

    without, foreign, larger = folder("ttr-app-a"), folder("ttr-app-b", b"other"), folder("ttr-app-c", b"")
    larger.joinpath(UPLOADS.lock).write_bytes(UPLOADS.mark + b"and more")
    named = folder("elsewhere", UPLOADS.mark)
    (place / "ttr-app-link").symlink_to(named)
    pipe = folder("ttr-app-pipe")
    os.mkfifo(pipe / UPLOADS.lock)
    linked = folder("ttr-app-linked-lock")
    (linked / UPLOADS.lock).symlink_to(named / UPLOADS.lock)
    (place / "ttr-app-file").write_text("x")
    assert UPLOADS.sweep(place) == []
    for each in (without, foreign, larger, named, pipe, linked):
        assert (each / "precious").exists()
    ours = folder("ttr-app-ours", UPLOADS.mark)
    monkeypatch.setattr(os, "getuid", lambda: ours.stat().st_uid + 1)
    assert UPLOADS.sweep(place) == []
    monkeypatch.undo()
    assert UPLOADS.sweep(place) == [ours]
