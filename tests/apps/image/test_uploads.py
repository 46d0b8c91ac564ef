"""Whose a file is: a regular one in the visitor's own folder, through no link; and how long it stays."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ttr.apps.image.uploads import Quota, QuotaError, Uploads, content_of
from ttr.errors import ImageError

ME, YOU = "visitor-me", "visitor-you"


def arrived(folder, name="a.png", content=b"pixels", digest="0" * 64):
    """Return the path of a file as the widget library leaves it."""
    path = folder / digest / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return str(path)


def test_a_visitor_owns_what_was_taken_for_it_and_nothing_else(tmp_path):
    uploads = Uploads(tmp_path)
    first = arrived(tmp_path)
    (mine,), (yours,) = uploads.take(ME, [first]), uploads.take(YOU, [first])
    assert uploads.take(ME, [first]) == [mine]
    assert uploads.owns(ME, mine)
    assert uploads.safe(ME, mine) == mine
    for path in (
        first,
        yours,
        f"{mine}x",
        f"{mine}/..",
        "",
        "/",
        "\0",
        str(tmp_path / ME),
        mine + "/x" * 10**6,
    ):
        assert not uploads.owns(ME, path), path
        assert not os.path.lexists(uploads.safe(ME, path))
    os.unlink(mine)
    assert not uploads.owns(ME, mine)
    assert uploads.owns(YOU, yours)
    assert not uploads.owns("", yours)


def test_an_export_is_its_visitors_own(tmp_path):
    uploads = Uploads(tmp_path, Quota(size=10))
    path = uploads.export(ME, "study.zip", b"12345678")
    assert path.name == "study.zip"
    assert uploads.owns(ME, str(path))
    assert not uploads.owns(YOU, str(path))
    with pytest.raises(QuotaError, match="at most together"):
        uploads.export(ME, "study.zip", b"123")


def test_room_is_kept_for_what_is_on_its_way(tmp_path):
    uploads = Uploads(tmp_path, Quota(size=10, all_size=15))
    with uploads.coming(ME, 6):
        with pytest.raises(QuotaError), uploads.coming(ME, 6):
            pass
        with uploads.coming(YOU, 6), pytest.raises(QuotaError), uploads.coming("visitor-other", 6):
            pass
    with uploads.coming(ME, 10):
        pass


def test_what_was_forgotten_or_abandoned_is_swept_and_nothing_of_others(tmp_path):
    uploads = Uploads(tmp_path)
    (mine,) = uploads.take(ME, [arrived(tmp_path)])
    others = tmp_path / "somebody" / "else"
    others.parent.mkdir()
    for path in (tmp_path / "tmpabc", others):  # an upload that broke off, and what is none of ours
        path.write_bytes(b"x")
    now = time.time()
    uploads.sweep(now + 599)
    assert len(list(tmp_path.iterdir())) == 4
    uploads.sweep(now + 601)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["somebody", ME]
    assert uploads.owns(ME, mine)
    uploads.sweep(now + 3601)
    assert [path.name for path in tmp_path.iterdir()] == ["somebody"]


def test_only_a_regular_file_is_read_and_nothing_is_waited_for(tmp_path):
    file, pipe, link = tmp_path / "file", tmp_path / "pipe", tmp_path / "link"
    file.write_bytes(b"content")
    os.mkfifo(pipe)
    link.symlink_to(file)
    assert content_of(file, 7) == b"content"
    said = []

    def refused():
        for path in (pipe, link, tmp_path, tmp_path / "absent", "/dev/zero", "\0"):
            with pytest.raises(ImageError) as error:
                content_of(path, 7)
            said.append(str(error.value))

    waiting = threading.Thread(target=refused, daemon=True)
    waiting.start()
    waiting.join(20)
    assert said == ["this file is not among your uploads, or no more; upload it again"] * 6
    with pytest.raises(ImageError, match=r"this file has 0\.00 MB; needed 0\.00 MB at most"):
        content_of(file, 6)
    file.write_bytes(bytes(2**20 + 90_000))
    with pytest.raises(ImageError, match="this file has 1 MB; needed 1 MB at most"):
        content_of(file, 2**20)
    with pytest.raises(ImageError, match=r"this file has 1 MB; needed 0\.52 MB at most"):
        content_of(file, 2**19)
