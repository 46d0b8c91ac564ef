"""A folder is whole or absent, whatever kills its writer and whoever writes at the same time."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from ttr import folders
from ttr.errors import OutputError
from ttr.files import MANIFEST, write_json
from ttr.folders import restore, restore_all, whole_folder


def ours(folder):
    return {path.name for path in folder.iterdir()} <= {"a.txt", "b.txt"}


def write(target, text):
    with whole_folder(target, ours) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "b.txt").write_text(text)


def content(target):
    return {path.name: path.read_text() for path in target.iterdir()}


def whole(text):
    return {"a.txt": text, "b.txt": text}


@pytest.fixture(params=["exchange", "two renames"])
def way(request, monkeypatch):
    """Both ways of changing names, whatever this system has."""
    if request.param == "two renames":
        monkeypatch.setattr(folders, "exchange", lambda a, b: False)
    return request.param


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "new" / "out"
    with whole_folder(target) as folder:
        (folder / "a.txt").write_text("a")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "a"
    assert target.stat().st_mode & 0o777 == 0o755
    assert os.listdir(target.parent) == ["out"]


def test_nothing_remains_of_a_failed_run_and_the_earlier_result_stands(tmp_path, way):
    target = tmp_path / "out"
    write(target, "1")
    with pytest.raises(KeyboardInterrupt), whole_folder(target, ours) as folder:
        (folder / "a.txt").write_text("2")
        raise KeyboardInterrupt
    assert content(target) == whole("1")
    write(target, "3")
    assert content(target) == whole("3")
    assert os.listdir(tmp_path) == ["out"]


def test_what_is_not_ours_is_never_replaced(tmp_path, way):
    (tmp_path / "thesis.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(OutputError, match="not a result of ttr"), whole_folder(place, ours):
            pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_what_somebody_puts_there_meanwhile_stays(tmp_path, way):
    write(tmp_path / "out", "1")
    with pytest.raises(OutputError, match="not a result of ttr"), whole_folder(tmp_path / "out", ours):
        (tmp_path / "out" / "notes.txt").write_text("mine")
    assert content(tmp_path / "out") == {**whole("1"), "notes.txt": "mine"}
    with pytest.raises(OutputError, match="not a result of ttr"), whole_folder(tmp_path / "new", ours):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "notes.txt").write_text("mine")
    assert content(tmp_path / "new") == {"notes.txt": "mine"}
    assert sorted(os.listdir(tmp_path)) == ["new", "out"]


def test_an_empty_folder_and_a_relative_place_are_replaced(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "1")
    monkeypatch.chdir(tmp_path)
    write(Path("out"), "2")
    assert content(tmp_path / "out") == whole("2")


def test_the_working_directory_is_not_taken_away(tmp_path, monkeypatch):
    """Whoever stands in it would go on in a folder that has no name any more."""
    write(tmp_path / "out", "1")
    monkeypatch.chdir(tmp_path / "out")
    for place in (".", "", "../out"):
        with pytest.raises(OutputError, match="is the working directory or holds it"):
            write(Path(place), "2")
    assert content(tmp_path / "out") == whole("1")


def test_names_that_no_folder_can_have_are_refused(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place in (tmp_path / "loop", tmp_path / "loop" / "x", tmp_path / ("a" * 300)):
        with pytest.raises(OutputError, match=r"cannot be written \((Too many levels|File name too long)"):
            write(place, "1")


def test_a_folder_of_somebody_elses_under_the_name_of_an_earlier_result_stays(tmp_path):
    write(tmp_path / "out", "1")
    (tmp_path / ".out.ttr-earlier").mkdir()
    (tmp_path / ".out.ttr-earlier" / "thesis.txt").write_text("mine")
    write(tmp_path / "out", "2")
    assert content(tmp_path / ".out.ttr-earlier") == {"thesis.txt": "mine"}
    assert content(tmp_path / "out") == whole("2")


def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), whole_folder(tmp_path / "file" / "out"):
        pass
    where = "/full cannot be written .No space left"
    with pytest.raises(OutputError, match=where), whole_folder(tmp_path / "full"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OutputError, match="File too large"), whole_folder(tmp_path / "full"):
        raise OSError(errno.EFBIG, "File too large")
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out"):
        (tmp_path / "picture.png").read_bytes()  # which is no fault of the place
    where = "/out/sub/x.json cannot be written"
    with pytest.raises(OutputError, match=where), whole_folder(tmp_path / "out") as folder:
        (folder / "sub").touch()
        write_json(folder / "sub" / "x.json", {})
    monkeypatch.setattr("os.path.ismount", lambda path: True)
    with pytest.raises(OutputError, match="where a drive is mounted"), whole_folder(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == ["file"]


def killed_at(step, target, two_renames):
    """Write to ``target`` in a child that is killed before its ``step``th change of a name; was it?"""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    try:
        if two_renames:
            folders.exchange = lambda a, b: False
        left = [step]

        def dying(do):
            def act(*arguments, **options):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return do(*arguments, **options)

            return act

        for owner, name in (
            (folders, "exchange"),
            (Path, "rename"),
            (folders, "sync"),
            (folders.tempfile, "mkdtemp"),
            (folders.shutil, "rmtree"),
            (Path, "unlink"),
        ):
            setattr(owner, name, dying(getattr(owner, name)))
        write(target, "killed")
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process of its own")
def test_a_kill_at_any_step_loses_nothing_and_leaves_nothing(tmp_path, way):
    """The earlier result or the new one, whole and under its name, and after the next run nothing else."""
    target, step = tmp_path / "out", 0
    write(target, "earlier")
    while killed_at(step, target, way == "two renames"):
        if way == "two renames":
            restore_all(tmp_path) if step % 2 else restore(target)
        assert content(target) in (whole("earlier"), whole("killed")), step
        write(target, "earlier")
        assert content(target) == whole("earlier")
        assert os.listdir(tmp_path) == ["out"], step
        step += 1
    assert step >= 8
    assert content(target) == whole("killed")


def test_one_writes_and_the_others_are_refused(tmp_path):
    """Whoever gets through leaves a result that is whole and one writer's own."""
    refused, target = [], tmp_path / "out"

    def try_to(text, start):
        start.wait()
        try:
            write(target, text)
        except OutputError as error:
            refused.append(str(error))

    for round in range(25):
        start = threading.Barrier(3)
        writers = [threading.Thread(target=try_to, args=(f"{round} {each}", start)) for each in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert len(set(content(target).values())) == 1
        assert content(target)["a.txt"].startswith(f"{round} ")
    assert os.listdir(tmp_path) == ["out"]
    assert {each.partition(" is being written by another ttr command; wait")[0] for each in refused} <= {
        str(target)
    }
    with whole_folder(target, ours), pytest.raises(OutputError, match="another ttr command"):
        write(target, "late")


def test_a_partial_folder_of_another_result_is_left_alone(tmp_path):
    for name in (".out.ttr-partial-old", ".other.ttr-partial-new", ".out.mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    write(tmp_path / "out", "1")
    assert sorted(os.listdir(tmp_path)) == [".other.ttr-partial-new", ".out.mine", "out"]


def test_a_reader_does_not_disturb_a_writer(tmp_path):
    """A result that is between two names is given back only where nobody is at work."""
    (tmp_path / ".out.ttr-earlier").mkdir()
    with folders.held(tmp_path / ".out.ttr-lock"):
        restore(tmp_path / "out")
        assert not (tmp_path / "out").exists()
    restore(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


def test_all_is_on_the_disk_before_it_has_a_name(tmp_path, monkeypatch):
    target, synced = tmp_path / "out", []

    def sync(path):
        synced.append((Path(path).name.partition(".ttr-partial")[0], target.exists()))

    monkeypatch.setattr(folders, "sync", sync)
    with whole_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").touch()
        (folder / "y").touch()
    assert sorted(synced[:-1]) == [(name, False) for name in (".out", "sub", "x", "y")]
    assert synced[-1] == (tmp_path.name, True)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux exchanges names")
def test_names_are_exchanged_in_one_step_where_that_is_possible(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not folders.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert os.listdir(tmp_path / "a") == ["b"]
    with pytest.raises(FileNotFoundError):
        folders.exchange(tmp_path / "a", tmp_path / "none")
    monkeypatch.setattr(folders, "_renameat2", lambda: None)
    assert not folders.exchange(tmp_path / "a", tmp_path / "b")


def test_a_manifest_alone_does_not_make_a_folder_ours(tmp_path):
    (tmp_path / "thesis.docx").write_text("mine")
    (tmp_path / MANIFEST).write_text(json.dumps({"files": ["thesis.docx"]}))
    with pytest.raises(OutputError, match="not a result of ttr"), whole_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.docx").read_text() == "mine"
