"""Torch files whose sizes and checksums lie: refused before memory is taken, and by name."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ttr.backbones.torch_files import read_torch_file
from ttr.errors import ModelError

#: 100,000,000,000 as a pickle writes it.
HUGE = b"\x8a\x05" + (10**11).to_bytes(5, "little")
STATE = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}


def rewritten(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """Save a small head and change the part of the archive that says what is in it."""
    saved = io.BytesIO()
    torch.save(STATE, saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            changed = change(content) if item.filename.endswith("data.pkl") else content
            assert not item.filename.endswith("data.pkl") or change is bytes or changed != content
            new.writestr(item, changed)
    return path


def storage(numbers: bytes) -> Callable[[bytes], bytes]:
    """Change how many numbers the first storage claims."""
    return lambda content: content.replace(b"q\x06K\x06t", b"q\x06" + numbers + b"t", 1)


def shape(content: bytes) -> bytes:
    """Change the first tensor's shape to [1, 10^11]."""
    return content.replace(b"K\x00K\x02K\x03\x86", b"K\x00K\x01" + HUGE + b"\x86", 1)


@pytest.mark.parametrize("archive", [True, False])
def test_what_is_whole_is_read_and_tied_tensors_count_once(tmp_path, archive):
    path, shared = tmp_path / "a.pth", torch.randn(4000)
    state = {"a": shared, "b": shared, "c": [shared[5:9], {"d": shared.view(40, 100)}], "e": torch.zeros(0)}
    torch.save(state, path, _use_new_zipfile_serialization=archive)
    read = read_torch_file(path)
    assert torch.equal(read["b"], shared)
    assert torch.equal(read["c"][1]["d"], shared.view(40, 100))
    assert torch.equal(read_torch_file(rewritten(tmp_path / "b.pth", bytes))["fc.weight"], torch.ones(2, 3))


@pytest.mark.parametrize(
    "change",
    [storage(HUGE), lambda content: shape(storage(HUGE)(content)), storage(b"M\xa0\x0f")],
    ids=["storage", "storage and shape", "a little"],
)
def test_an_archive_that_claims_more_than_it_holds_is_refused(tmp_path, change):
    path = rewritten(tmp_path / "head.pth", change)
    with pytest.raises(
        ModelError, match=r"head\.pth holds \d+ bytes, but its tensors claim (400,000,000,0|16,0)"
    ):
        read_torch_file(path)


@pytest.mark.parametrize("archive", [True, False])
def test_one_number_that_stands_for_400_gigabytes_is_refused(tmp_path, archive):
    torch.save(
        {"fc.weight": torch.zeros(1).expand(1000, 10**8)},
        tmp_path / "head.pth",
        _use_new_zipfile_serialization=archive,
    )
    with pytest.raises(ModelError, match=r"its tensors claim 400,000,000,000"):
        read_torch_file(tmp_path / "head.pth")


def test_an_older_file_that_claims_more_than_it_holds_is_refused(tmp_path):
    path = tmp_path / "old.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"K\x06N", b"M\xa0\x0fN", 1))
    with pytest.raises(RuntimeError, match="wrong byte size"):
        read_torch_file(path)


def test_a_flipped_bit_among_the_weights_is_noticed(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(STATE, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(6).numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.pth is damaged \(.*data/0 fails its checksum\)"):
        read_torch_file(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "neurons.pt")
    with pytest.raises(ModelError, match=r"neurons\.pt is no regular file"):
        read_torch_file(tmp_path / "neurons.pt")


def test_an_archive_that_inflates_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a/data.pkl", b"\x80\x02}.")
        bomb.writestr("a/data/0", bytes(10**7))
    with pytest.raises(ModelError, match=r"bomb\.pth is no archive as torch writes it"):
        read_torch_file(tmp_path / "bomb.pth")
