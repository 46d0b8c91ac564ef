import errno
import json
import os
import time

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from ttr.errors import OutputError
from ttr.files import (
    MANIFEST,
    TensorsError,
    clear_abandoned,
    load_tensors,
    save_tensors,
    whole_file,
    whole_folder,
    write_json,
)


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "out"
    with whole_folder(target) as folder:
        (folder / "a.txt").write_text("a")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "a"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_remains_of_a_failed_run_and_the_earlier_result_stands(tmp_path):
    target = tmp_path / "out"
    with whole_folder(target) as folder:
        write_json(folder / MANIFEST, {"run": 1, "files": []})
    with pytest.raises(KeyboardInterrupt), whole_folder(target) as folder:
        write_json(folder / MANIFEST, {"run": 2})
        raise KeyboardInterrupt
    assert json.loads((target / MANIFEST).read_text())["run"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with whole_folder(target) as folder:
        write_json(folder / MANIFEST, {"run": 3})
    assert json.loads((target / MANIFEST).read_text()) == {"run": 3}


def test_what_is_not_ours_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not a result of ttr"), whole_folder(tmp_path):
        pass
    with pytest.raises(OutputError, match="not a result of ttr"), whole_folder(tmp_path / "thesis.txt"):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_json(tmp_path / "file" / "x.json", {})
    with pytest.raises(OutputError, match="cannot be written"), whole_folder(tmp_path / "file" / "out"):
        pass


def test_a_value_that_is_no_json_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_a_users_file_in_a_result_and_a_relative_place_are_safe(tmp_path, monkeypatch):
    target = tmp_path / "out"
    for _ in range(2):
        with whole_folder(target) as folder:
            write_json(folder / MANIFEST, {"files": []})
    monkeypatch.chdir(target)
    from pathlib import Path

    with whole_folder(Path(".")) as folder:
        write_json(folder / MANIFEST, {"files": []})
    assert (target / MANIFEST).is_file()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not a result of ttr"), whole_folder(target):
        pass
    assert (target / "notes.txt").read_text() == "mine"


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


def test_half_written_files_of_killed_processes_are_cleared_after_a_day(tmp_path):
    names = (".part-0.abandoned.safetensors", ".part-0.at-work.safetensors", "part-0.safetensors")
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (0, time.time() - 25 * 3600))
    clear_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_tensors_are_what_safetensors_writes_of_them_and_come_back(library, tmp_path):
    """Views, scalars and empty tensors too; the header is one JSON entry."""
    values = [np.arange(12, dtype=np.float32).reshape(3, 4).T, np.zeros((0, 2), np.int64), np.array(True)]
    plain = [value.copy(order="C") for value in values]
    if library == "torch":
        values, plain = ([torch.from_numpy(each) for each in list] for list in (values, plain))
    module = {"numpy": safetensors.numpy, "torch": safetensors.torch}[library]
    header = {"schema": "x/1", "names": ("é", "b"), "none": None}
    expected = module.save(dict(zip("abc", plain, strict=True)), metadata={"kind": json.dumps(header)})
    path = tmp_path / "new" / "x.safetensors"
    save_tensors(path, dict(zip("abc", values, strict=True)), "kind", header)
    assert path.read_bytes() == expected
    found, read = load_tensors(path, "kind", "x/1", framework="np" if library == "numpy" else "pt")
    assert read == {"schema": "x/1", "names": ["é", "b"], "none": None}
    for name, value in zip("abc", plain, strict=True):
        assert type(found[name]) is type(value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].tolist() == value.tolist()


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
    for header in ([], "text", None, {}, {"schema": "x/2"}):
        save_tensors(path, {}, "kind", header)
        with pytest.raises(TensorsError):
            load_tensors(path, "kind", "x/1")
    path.write_bytes(safetensors.numpy.save({}, metadata={"kind": "{"}))
    with pytest.raises(TensorsError):
        load_tensors(path, "kind")
