"""Files are written whole, and read as if anybody could have written them."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from ttr.errors import OutputError
from ttr.files import (
    JSONError,
    TensorsError,
    load_tensors,
    read_json,
    save_tensors,
    whole_file,
    write_json,
    write_table,
)
from ttr.locks import take


def test_a_value_that_is_no_json_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_whole_or_as_it_was(tmp_path):
    target = tmp_path / "new" / "model.bin"
    with whole_file(target) as temporary:
        temporary.write_bytes(b"one")
        assert temporary.suffix == ".bin"
        assert not target.exists()
    assert target.read_bytes() == b"one"
    assert target.stat().st_mode & 0o777 == 0o644
    with pytest.raises(RuntimeError, match="on purpose"), whole_file(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("on purpose")
    with pytest.raises(OutputError, match="No space left"), whole_file(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_bytes() == b"one"
    assert [path.name for path in target.parent.iterdir()] == ["model.bin"]
    with pytest.raises(OutputError, match="Is a directory"), whole_file(target.parent):
        pass


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "file" / "x.json", tmp_path / "pipe", tmp_path):
        with pytest.raises(OutputError, match="cannot be written"):
            write_json(place, {})
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


def test_what_a_killed_process_left_half_written_is_used_again_or_removed(tmp_path):
    """What a living one is writing is not, and what only looks alike is nobody's."""
    (tmp_path / ".x.ttr-partial.json").write_text("half a file, longer than what follows")
    (tmp_path / ".y.ttr-partial3.csv").write_text("half")
    (tmp_path / ".z.json").write_text("mine")
    at_work = take(tmp_path / ".w.ttr-partial.json")
    write_json(tmp_path / "x.json", 1)
    assert sorted(os.listdir(tmp_path)) == [".w.ttr-partial.json", ".z.json", "x.json"]
    write_json(tmp_path / "w.json", 2)
    os.close(at_work)
    (tmp_path / ".w.ttr-partial.json").write_text("half a file, longer than what follows")
    write_json(tmp_path / "w.json", 3)
    assert (tmp_path / "w.json").read_text() == "3\n"
    assert sorted(os.listdir(tmp_path)) == [".z.json", "w.json", "x.json"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with whole_file(tmp_path / "x") as first, whole_file(tmp_path / "x") as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
    assert (tmp_path / "x").read_text() == "first"
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("ttr.files.sync", lambda path: synced.append((path.name, os.listdir(tmp_path))))
    write_json(tmp_path / "x.json", 1)
    half = ".x.ttr-partial.json"
    assert synced == [(half, [half]), (tmp_path.name, ["x.json"])]
    write_json(tmp_path / ".out.ttr-partial-x" / "sub" / "x.json", 1)
    assert len(synced) == 2, "the folder is synced whole"


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_a_table_is_whole_or_absent(name, tmp_path):
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    write_table(tmp_path / name, table)
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    pd.testing.assert_frame_equal(read(tmp_path / name), table)
    assert os.listdir(tmp_path) == [name]


HOSTILE_JSON = {
    b"": "no JSON",
    b"{": "no JSON",
    b"\xff\xfe\x00": "no JSON",
    b"[" * 100_000: "nested too deeply",
    b'{"a":' * 100_000: "nested too deeply",
    b'{"a": NaN}': "NaN is no number",
    b"[-Infinity]": "-Infinity is no number",
    b"[1e999]": "1e999 is no number",
    b"[" + b"9" * 5000 + b"]": "too large a number",
    b"[-18446744073709551616]": "-1844674407370955161 is too large a number",
    b'{"a": 1, "b": {"c": 1, "c": 2}}': "'c' stands in it twice",
}


@pytest.mark.parametrize("text", HOSTILE_JSON, ids=range(len(HOSTILE_JSON)))
def test_hostile_json_is_one_sentence(text, tmp_path):
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(JSONError, match=HOSTILE_JSON[text]):
        read_json(tmp_path / "x.json")


def test_json_of_a_pipe_a_folder_or_too_many_bytes_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    for name, says in (
        ("pipe", "no regular file"),
        ("huge", "1,048,576 MiB, and at most 64"),
        ("none", "No such file"),
        (".", "directory"),
    ):
        with pytest.raises(JSONError, match=says):
            read_json(tmp_path / name)
    with pytest.raises(TensorsError, match="1,048,576 MiB, and at most 8,192"):
        load_tensors(tmp_path / "huge")


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_tensors_are_what_safetensors_writes_of_them_and_come_back(library, tmp_path):
    """Views, scalars and empty tensors too; the header is one JSON entry."""
    values = [np.arange(12, dtype=np.float32).reshape(3, 4).T, np.zeros((0, 2), np.int64), np.array(True)]
    plain = [value.copy(order="C") for value in values]
    if library == "torch":
        values, plain = ([torch.from_numpy(each) for each in list] for list in (values, plain))
    module = {"numpy": safetensors.numpy, "torch": safetensors.torch}[library]
    header = {"schema": "x/1", "names": ("é", "b"), "none": None}
    path = tmp_path / "new" / "x.safetensors"
    save_tensors(path, dict(zip("abc", values, strict=True)), "kind", header)
    with safetensors.safe_open(path, "np") as file:
        said = file.metadata()
    assert path.read_bytes() == module.save(dict(zip("abc", plain, strict=True)), metadata=said)
    assert json.loads(said["kind"]).keys() == {*header, "seal"}
    found, read = load_tensors(path, "kind", "x/1", framework="np" if library == "numpy" else "pt")
    assert read == {"schema": "x/1", "names": ["é", "b"], "none": None}
    for name, value in zip("abc", plain, strict=True):
        assert type(found[name]) is type(value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].tolist() == value.tolist()


def test_what_was_sealed_is_read_whole_in_its_place_or_not_at_all(tmp_path):
    """Every byte of the file counts, and so does what it was sealed as."""
    path, changed = tmp_path / "x", tmp_path / "changed"
    tensors = {"a": np.arange(4, dtype=np.float32), "b": np.ones(2, np.float32)}
    save_tensors(path, tensors, "kind", {"schema": "x/1"}, place="shelf/x")
    for place in (None, "shelf/x"):
        assert load_tensors(path, "kind", "x/1", "np", place)[1] == {"schema": "x/1"}
    with pytest.raises(TensorsError, match="sealed as something else"):
        load_tensors(path, "kind", "x/1", "np", "shelf/y")
    whole = path.read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        changed.write_bytes(content)
        try:
            found, _ = load_tensors(changed, "kind", "x/1", "np", "shelf/x")
        except TensorsError:
            continue
        # A space of the header, or the case of a letter in an escape, may be another one.
        assert all(np.array_equal(found[name], x) for name, x in tensors.items()), place
    for length in range(0, len(whole), 7):
        changed.write_bytes(whole[:length])
        with pytest.raises(TensorsError):
            load_tensors(changed, "kind", "x/1", "np")


def test_what_an_earlier_version_wrote_has_no_seal(tmp_path):
    header = {"kind": json.dumps({"schema": "x/1"})}
    (tmp_path / "x").write_bytes(safetensors.numpy.save({"a": np.ones(2)}, metadata=header))
    assert load_tensors(tmp_path / "x", "kind", "x/1")[1] == {"schema": "x/1"}
    with pytest.raises(TensorsError, match="no seal"):
        load_tensors(tmp_path / "x", "kind", "x/1", place="")


def test_tensors_without_a_header(tmp_path):
    save_tensors(tmp_path / "x", {"a": np.ones(2)})
    assert (tmp_path / "x").read_bytes() == safetensors.numpy.save({"a": np.ones(2)})
    assert load_tensors(tmp_path / "x", "kind", framework="np")[1] == {}


def test_other_files_are_no_tensors(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(TensorsError, match="No such file"):
        load_tensors(path)
    for content in (b"", b"hello", b"\x08" + bytes(7) + b"notjson!"):
        path.write_bytes(content)
        with pytest.raises(TensorsError):
            load_tensors(path)
    for header in ([], "text", None, {}, {"schema": "x/2"}, {"schema": "x/1", "seal": 5}):
        path.write_bytes(safetensors.numpy.save({}, metadata={"kind": json.dumps(header)}))
        with pytest.raises(TensorsError):
            load_tensors(path, "kind", "x/1")
    path.write_bytes(safetensors.numpy.save({}, metadata={"kind": "{"}))
    with pytest.raises(TensorsError):
        load_tensors(path, "kind")
