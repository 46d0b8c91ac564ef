"""Where images lie: the same order whoever asks, names that are unique, nothing missed in silence."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.tools.dicom_files import dicom
from ttr.datasets.places import tars
from ttr.datasets.places.listing import Listing, names_digest, printable
from ttr.datasets.places.local import is_named_as_image
from ttr.datasets.places.opening import images_at, open_entry
from ttr.errors import DataError, ImageError, OptionError, TTRError


def png(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 3), grey).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def tar(members: list[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def names(listing: Listing) -> list[str]:
    return [each.name for each in listing.entries(0, len(listing))]


def greys(listing: Listing, start: int = 0) -> list[int]:
    """Open images from what a worker is sent."""
    entries = pickle.loads(pickle.dumps(listing.entries(start, len(listing))))
    return [open_entry(each, each.name).getpixel((0, 0))[0] for each in entries]


SAMPLES = [("0001.png", png(1)), ("0001.json", b"{}"), ("./0002.png", png(2)), ("._0003.png", b"mac")]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, **{"b.png": png(11), "a/x.png": png(12), "notes.txt": b"-", ".hidden/y.png": b"-"})
    write(tmp_path, **{"shards/00.tar": tar(SAMPLES), "shards/01.tar": tar([("0003.png", png(3))])})
    write(tmp_path, **{"z.dcm": dicom(np.zeros((3, 8, 8), np.uint16))})
    return tmp_path


INSIDE = ["b.png", "z.dcm#1", "z.dcm#2", "z.dcm#3", "a/x.png"]
PACKED = ["shards/00.tar/0001.png", "shards/00.tar/0002.png", "shards/01.tar/0003.png"]


def test_a_folder_lists_its_files_the_frames_of_its_films_and_what_its_tar_files_hold(folder):
    found = images_at(folder)
    assert names(found) == INSIDE + PACKED
    assert greys(found)[:1] + greys(found)[4:] == [11, 12, 1, 2, 3]
    assert found.entry(0).size == (folder / "b.png").stat().st_size
    again = images_at(str(folder))
    assert (again.names_digest, again.sizes_digest) == (found.names_digest, found.sizes_digest)


@pytest.mark.parametrize("change", ["renamed", "longer", "added"])
def test_whatever_changes_at_a_place_changes_a_digest(folder, change):
    before = images_at(folder)
    if change == "renamed":
        (folder / "b.png").rename(folder / "c.png")
    elif change == "longer":
        (folder / "b.png").write_bytes(png(11) + b"\0")
    else:
        write(folder, **{"a/y.png": png(0)})
    after = images_at(folder)
    assert (after.names_digest != before.names_digest) == (change != "longer")
    assert (after.sizes_digest != before.sizes_digest) == (change != "renamed")


def test_names_cannot_run_into_each_other_in_a_digest():
    assert names_digest(["ab", "c"]) != names_digest(["a", "bc"])
    assert names_digest(iter([])) == names_digest([])
    assert printable("k\udcff.png") == "k\\xff.png"


def test_a_folder_that_cannot_be_read_whole_is_refused(folder, monkeypatch):
    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", str(folder / "a")))

    monkeypatch.setattr("ttr.datasets.places.local.os.walk", walk)
    with pytest.raises(ImageError, match="no image may be missed"):
        images_at(folder)


def test_a_single_file_is_a_place_too(folder):
    assert names(images_at(folder / "b.png")) == ["b.png"]
    assert names(images_at(folder / "z.dcm")) == INSIDE[1:4]
    assert names(images_at(folder / "shards" / "00.tar")) == ["00.tar/0001.png", "00.tar/0002.png"]
    with pytest.raises(ImageError, match="holds no image"):
        images_at(Path(__file__))
    with pytest.raises(ImageError, match="does not exist"):
        images_at(folder / "nothing")


# -- tar files ---------------------------------------------------------------------------------------------


def listed(content: bytes) -> list[tuple[str, int, int]]:
    return list(tars.members(io.BytesIO(content), "s.tar", is_named_as_image))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_is_where_it_is_said_to_be_in_every_format(format):
    long = "d" * 90 + "/" + "f" * 60 + ".png"
    content = tar([("a.txt", b"-" * 700), (long, png(7)), ("b.png", png(8))], format)
    found = listed(content)
    assert [name for name, _, _ in found] == [f"s.tar/{long}", "s.tar/b.png"]
    assert [content[start : start + size] for _, start, size in found] == [png(7), png(8)]


def test_a_name_that_stands_twice_is_numbered():
    found = listed(tar([("a.png", png(1)), ("a.png", png(2)), ("a (2).png", png(3)), ("a.png", png(4))]))
    expected = ["a.png", "a (2).png", "a (2) (2).png", "a (3).png"]
    assert [name for name, _, _ in found] == [f"s.tar/{name}" for name in expected]


def link(kind: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return buffer.getvalue()


WHOLE = tar([("a.png", png(1)), ("b.png", png(2))])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (link(tarfile.SYMTYPE), "as a link"),
        (link(tarfile.LNKTYPE), "as a link"),
        (b"", "no tar file"),
        (b"no tar at all" * 100, "no tar file"),
        (WHOLE[:700], "end of data|cut off"),
        (WHOLE[:1024], "the mark of its end is missing"),
        (WHOLE[:1024] + b"\xff" * 512 + WHOLE[1536:], "a damaged header"),
        (WHOLE + WHOLE, "more behind its end"),
    ],
    ids=["symlink", "hard-link", "empty", "text", "in-a-member", "between", "header", "two-in-one"],
)
def test_an_archive_that_would_give_less_than_it_holds_is_refused(content, complaint):
    with pytest.raises(ImageError, match=complaint):
        listed(content)


def test_no_more_than_a_header_is_read_whatever_it_claims():
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.PAX_FORMAT))
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    header[:] = info.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(ImageError, match="a header is too long"):
        listed(bytes(header) + b"\0" * 4096)


def test_a_tar_file_that_changed_behind_its_listing_is_noticed(tmp_path):
    write(tmp_path, **{"s.tar": WHOLE})
    entry = images_at(tmp_path / "s.tar").entry(1)
    (tmp_path / "s.tar").write_bytes(WHOLE[: entry.start + 3])
    with pytest.raises(ImageError, match=r"s\.tar/b\.png is cut off"):
        open_entry(entry, entry.name)


# -- tables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_lists_each_image_once_in_its_order(folder, suffix):
    table = pd.DataFrame({"Image Path": ["a/x.png", "b.png", "a/x.png", "b"], "n": [1, 2, 3, 4]})
    path = folder / f"t.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    found = images_at(path, column="Image Path")
    assert names(found) == ["a/x.png", "b.png", "b.png"]
    assert "1 row of the table name an image" in found.notes[0]


def test_a_table_knows_usual_names_for_its_paths_and_another_root(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("tables")
    pd.DataFrame({"id": [1], "filename": ["b.png"]}).to_csv(elsewhere / "t.csv", index=False)
    assert greys(images_at(elsewhere / "t.csv", root=str(folder))) == [11]
    found = images_at(elsewhere / "t.csv", root=folder.as_uri())
    assert (names(found), greys(found)) == (["b.png"], [11])


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        (["../b.png"], "leads out of|not allowed"),
        (["b.png", ""], "no path in row 2"),
        (["/etc/passwd"], "absolute|not allowed"),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_a_path_that_leads_out_of_the_folder_is_refused(folder, paths, complaint, remote):
    pd.DataFrame({"path": paths}).to_parquet(folder / "t.parquet")
    with pytest.raises(DataError, match=complaint):
        images_at(folder / "t.parquet", root=folder.as_uri() if remote else None)


def test_what_is_no_table_of_paths_is_refused_by_name(folder):
    (folder / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no Parquet table"):
        images_at(folder / "t.parquet")
    pd.DataFrame({"path": [1]}).to_parquet(folder / "t.parquet")
    with pytest.raises(DataError, match="column path holds int64"):
        images_at(folder / "t.parquet")
    pd.DataFrame({"where": ["b.png"]}).to_parquet(folder / "t.parquet")
    with pytest.raises(DataError, match="--path-column"):
        images_at(folder / "t.parquet")
    with pytest.raises(OptionError, match="got --root with"):
        images_at(folder, root="x")


# -- other file systems ------------------------------------------------------------------------------------


@pytest.fixture
def memory(folder):
    """The same folder in a file system that is none of this machine's."""
    system = fsspec.filesystem("memory")
    system.put(f"{folder}/", "/place/", recursive=True)
    yield "memory://place"
    system.rm("/place", recursive=True)


def test_another_file_system_lists_and_opens_the_same_but_for_the_frames_of_films(folder, memory):
    here, there = images_at(folder), images_at(memory)
    assert names(there) == ["b.png", "z.dcm", "a/x.png", *PACKED]
    assert greys(there, 2) == greys(here, 4) == [12, 1, 2, 3]
    kept = [name for name in names(here) if "#" not in name]
    sizes = {each.name: each.size for each in here.entries(0, 99)}
    assert [each.size for each in there.entries(0, 99) if each.name in kept] == [sizes[name] for name in kept]
    with pytest.raises(ImageError, match=r"z\.dcm holds 3 frames"):
        open_entry(there.entry(1), "z.dcm")
    assert names(images_at(f"{memory}/shards/01.tar")) == ["01.tar/0003.png"]


def test_what_cannot_be_reached_is_said_in_one_sentence(memory):
    for address, complaint in (
        ("memory://nowhere", "does not exist"),
        ("nosuchprotocol://x", "no address that can be read"),
        (f"{memory}/notes.txt", "no images found"),
    ):
        with pytest.raises(ImageError, match=complaint):
            images_at(address)
    entry = images_at(memory).entry(0)
    fsspec.filesystem("memory").rm("/place/b.png")
    with pytest.raises(TTRError, match=r"b\.png does not exist"):
        open_entry(entry, "b.png")
