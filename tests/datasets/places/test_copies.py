"""Copies of what was read elsewhere: used while the file is the same, so many bytes of them, checked."""

from __future__ import annotations

import os
import threading
from collections import Counter
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from typer.testing import CliRunner

from tests.datasets.places.test_places import png, tar
from ttr.cli.main import app
from ttr.datasets.places import copies as module
from ttr.datasets.places.copies import DRAWERS, Copies
from ttr.datasets.places.listing import Entry
from ttr.datasets.places.opening import images_at, open_entry
from ttr.errors import OutputError

FILES = {"a.png": png(1), "b.png": png(2), "packed.tar": tar([("c.png", png(3)), ("d.png", png(4))])}


@pytest.fixture
def copies(tmp_path) -> Copies:
    return Copies(tmp_path / "copies")


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.pipe({f"/copied/{name}": content for name, content in FILES.items()})
    yield system
    system.rm("/copied", recursive=True)


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """What is read of the memory file system, by the name of the file."""
    seen: Counter[str] = Counter()

    def counted(method, self, path, *args, **options):
        seen[Path(path).name] += 1
        return method(self, path, *args, **options)

    for name in ("cat_file", "_open"):
        method = getattr(MemoryFileSystem, name)
        monkeypatch.setattr(
            MemoryFileSystem,
            name,
            lambda self, *args, method=method, **options: counted(method, self, *args, **options),
        )
    return seen


def greys(where: str, copies: Copies) -> list[int]:
    listing = images_at(where, copies=copies)
    entries = listing.entries(0, len(listing))
    return [open_entry(each, each.name, copies).getpixel((0, 0))[0] for each in entries]


def lying(copies: Copies) -> list[Path]:
    return [path for path in copies.folder.rglob("*") if path.is_file()]


def test_what_was_read_is_read_again_only_where_it_changed(memory, copies, reads):
    look = partial(greys, "memory://copied", copies)
    assert look() == [1, 2, 3, 4]
    assert reads == {"a.png": 1, "b.png": 1, "packed.tar": 3}, "its list and its two images"
    assert len(lying(copies)) == 5
    reads.clear()
    assert look() == [1, 2, 3, 4]
    assert not reads
    assert len(png(7)) == len(png(2)), "so that the size alone would not tell"
    memory.pipe("/copied/b.png", png(7))
    memory.pipe("/copied/packed.tar", tar([("c.png", png(8)), ("d.png", png(9))]))
    reads.clear()
    assert look() == [1, 7, 8, 9]
    assert reads == {"b.png": 1, "packed.tar": 3}


def test_copies_that_were_damaged_or_exchanged_are_read_again(memory, copies, reads):
    look = partial(greys, "memory://copied", copies)
    look()
    for spoil in ("cut", "exchanged"):
        first, *others = [(path, path.read_bytes()) for path in lying(copies)]
        for path, content in others:
            path.write_bytes(content[:-1] if spoil == "cut" else first[1])
        reads.clear()
        assert look() == [1, 2, 3, 4]
        assert sum(reads.values()) == len(others) == 4


def test_a_file_whose_version_nobody_knows_leaves_no_copy(memory, copies, reads, monkeypatch):
    def unknown(self, path):
        raise NotImplementedError

    monkeypatch.setattr(MemoryFileSystem, "modified", unknown)
    for _ in range(2):
        assert greys("memory://copied/a.png", copies) == [1]
    assert reads["a.png"] == 2
    assert not lying(copies)


def test_a_weak_etag_is_no_version(memory, copies, reads, monkeypatch):
    info, told = MemoryFileSystem.info, {"ETag": 'W/"1"'}
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path, **_: info(self, path) | told)
    look = partial(greys, "memory://copied/a.png", copies)
    assert look() == look() == [1]
    memory.pipe("/copied/a.png", png(5))
    assert look() == [5], "the time told of it"
    told["ETag"] = '"1"'
    assert look() == [5]
    reads.clear()
    memory.pipe("/copied/a.png", png(6))
    told["ETag"] = '"2"'
    assert look() == [6]


def test_what_changed_while_it_was_read_leaves_no_copy(memory, copies):
    def read() -> bytes:
        memory.pipe("/copied/a.png", png(5))
        return png(1)

    assert copies.kept(memory, "/copied/a.png", [], read) == png(1)
    assert not lying(copies)
    assert copies.kept(memory, "/copied/a.png", [], lambda: png(5)) == png(5)
    assert len(lying(copies)) == 1


def test_no_more_bytes_are_kept_than_asked_for_and_those_that_were_used_last(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "DRAWERS", 1)
    one = 65 + 100  # with its seal
    copies = Copies(tmp_path / "copies", 3 * one)
    memory.pipe({f"/copied/{n}": bytes([n]) * 100 for n in range(6)})
    clock = iter(range(1, 100))

    def use(number: int) -> bool:
        """Return whether it was read; a copy's time is a count, no clock."""
        read = []
        name = f"/copied/{number}"
        found = copies.kept(memory, name, [], lambda: read.append(number) or memory.cat_file(name))
        assert found == bytes([number]) * 100
        newest = max(lying(copies), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (next(clock),) * 2)
        assert sum(path.stat().st_size for path in lying(copies)) <= copies.most
        return bool(read)

    assert [use(n) for n in (0, 1, 2, 0, 3)] == [True, True, True, False, True]
    assert [use(n) for n in (0, 2, 3)] == [False] * 3, "1 had not been used for longest, and went"
    assert use(1)
    whole = Copies(tmp_path / "none", one - 1)
    assert whole.kept(memory, "/copied/1", [], lambda: bytes([1]) * 100) == bytes([1]) * 100
    assert not lying(whole), "one that is larger than its drawer is not kept"


def test_drawers_share_the_bytes_and_another_process_is_not_waited_for(memory, copies, monkeypatch):
    copies.kept(memory, "/copied/a.png", [], lambda: FILES["a.png"])
    (path,) = lying(copies)
    assert int(path.parent.name) < DRAWERS
    assert oct(path.parent.stat().st_mode & 0o777) == "0o700"
    path.unlink()
    with module.held(path.parent / ".lock"):
        assert copies.kept(memory, "/copied/a.png", [], lambda: FILES["a.png"]) == FILES["a.png"]
    assert not lying(copies)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another"):
        Copies(tmp_path / "file" / "copies").ready()


# -- a server, and the command -----------------------------------------------------------------------------


@pytest.fixture
def server():
    """Files over HTTP on loopback: (address, {path: (content, ETag)}, the paths whose content was sent)."""
    files = {f"/set/{name}": (content, f'"{name}"') for name, content in FILES.items()}
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            links = "".join(f'<a href="{name}">{name}</a>' for name in FILES)
            content, etag = files.get(self.path, (links.encode(), ""))
            if body and etag:
                sent.append(self.path)
            start, _, end = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            part = content[int(start) : int(end) + 1] if end else content
            self.send_response(206 if end else 200)
            headers = {"Content-Length": len(part), "Accept-Ranges": "bytes", "ETag": etag}
            if end:
                headers["Content-Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}"
            if not etag:
                headers["Content-Type"] = "text/html"
            for name, value in headers.items():
                if value != "":
                    self.send_header(name, str(value))
            self.end_headers()
            if body:
                self.wfile.write(part)

        def log_message(self, *args):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}/set/", files, sent
    served.shutdown()
    thread.join()
    served.server_close()


def test_over_http_the_etag_decides(server, copies):
    pytest.importorskip("aiohttp", reason="fsspec reads HTTP with aiohttp")
    address, files, sent = server
    assert greys(address, copies) == [1, 2, 3, 4]
    assert {*sent} == {*files}
    sent.clear()
    assert greys(address, copies) == [1, 2, 3, 4]
    assert not sent
    files["/set/a.png"] = (png(6), '"another"')
    assert greys(address, copies) == [6, 2, 3, 4]
    assert {*sent} == {"/set/a.png"}


def test_the_command_reads_copies_until_a_file_changes(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    draw = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(place / f"{name}.bmp")

    def embedded(out: str) -> list[list[float]]:
        words = "embed --backbone phantom --image-size 64 --batch-size 2 --workers 1 --quiet --shard-size 2"
        copies = ["--copies", str(tmp_path / "copies"), "--copies-gb", "1"]
        where = ["--images", f"file://{place}", "--out", str(tmp_path / out)]
        done = CliRunner().invoke(app, [*words.split(), *where, *copies])
        assert done.exit_code == 0, done.output
        return pyarrow.parquet.read_table(next((tmp_path / out).glob("*.parquet")))["embedding"].to_pylist()

    first = embedded("one")
    times = (place / "a.bmp").stat()
    (place / "a.bmp").write_bytes((place / "b.bmp").read_bytes())
    os.utime(place / "a.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert embedded("two") == first, (
        "the same time and size: nothing tells of the change, and copies are read"
    )
    os.utime(place / "a.bmp", ns=(times.st_atime_ns, times.st_mtime_ns + 10**9))
    assert embedded("three") == [first[1], first[1]]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--images", "here/", "--copies", "c"], "got --copies with here/, which is read where it lies"),
        (["--images", "s3://b", "--copies-gb", "2"], "got --copies-gb 2 without --copies"),
    ],
)
def test_copies_where_they_mean_nothing_are_refused(words, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["embed", "--backbone", "phantom", "--out", "out", *words])
    assert complaint in " ".join(str(done.exception).split()) or complaint in " ".join(done.output.split())
    assert done.exit_code
    assert Entry("a", "a").address == ""
