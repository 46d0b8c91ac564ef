"""Features against the backbone's own, and the cache against everything that could make it lie."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.datasets.base import Item, make_dataset
from ttr.datasets.phantom_set import CARD, phantom_set
from ttr.errors import ImageError, ModelError, OptionError, OutputError
from ttr.features.chunks import Chunk
from ttr.features.extract import extract
from ttr.features.shelf import Part, Shelf, cache_key
from ttr.forward.preprocessing import Preprocessing
from ttr.registers.arms import arms
from ttr.run import Run

SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5)])


PART = 16


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr("ttr.features.chunks.PART", PART)


def to_tensor(image):
    pixels = np.asarray(image.resize((32, 32)), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


def made_backbone():
    torch.manual_seed(0)
    return ttr.adapt(scramble(tiny_vit(reg_tokens=2)), preprocess=to_tensor)


@pytest.fixture
def backbone():
    return made_backbone()


@pytest.fixture
def one_thread():
    """Sums of several threads need not have the bits of another process's sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_set(folder, count=40):
    folder.mkdir(exist_ok=True)
    items = []
    for number in range(count):
        path = folder / f"{number:03d}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        items.append(Item(path.name, "ab"[number % 2], "train", path))
    return make_dataset("made", items, CARD)


@pytest.fixture
def dataset(tmp_path):
    return write_set(tmp_path / "images")


def all_arms(backbone):
    return arms(("plain", "token", "neurons", "ttr"), backbone, SOME, num_registers=3)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_features_are_those_of_the_backbone_under_each_arm(backbone, dataset, tmp_path):
    found = extract(backbone, dataset, all_arms(backbone), Run(cache=tmp_path / "cache", batch_size=10))
    images = torch.stack([backbone.preprocess(dataset.open(item)) for item in dataset.items])
    for features in found:
        with features.arm.applied(backbone):
            tokens = backbone.tokens(images)
            expected = {
                "embedding": backbone.embed(images),
                "cls": tokens.cls,
                "patches": tokens.patches.mean(dim=1),
                "registers": tokens.registers.mean(dim=1),
            }
        if features.arm.num_registers:
            expected["test_time"] = tokens.test_time[:, 0]
            torch.testing.assert_close(tokens.test_time[:, 2], tokens.test_time[:, 0])
        assert set(features.arrays) == set(expected)
        for name, values in expected.items():
            assert features.arrays[name].dtype == np.float32
            np.testing.assert_allclose(features.arrays[name], values, rtol=1e-4, atol=1e-5)
        assert features.items == dataset.items
    assert not any(module._forward_pre_hooks for module in backbone.model.modules())


def test_features_that_were_kept_of_another_pooling_are_never_read_as_the_models_own(
    backbone, dataset, tmp_path
):
    run, plain = Run(cache=tmp_path / "cache"), [arms(("plain",), backbone, SOME)[0]]
    cls = extract(backbone, dataset, plain, run)[0]
    backbone.model.global_pool = "avg"
    pooled = ttr.adapt(backbone.model, preprocess=to_tensor)
    own = extract(pooled, dataset, plain, run)[0]
    images = torch.stack([backbone.preprocess(dataset.open(item)) for item in dataset.items])
    np.testing.assert_allclose(own.arrays["embedding"], pooled.embed(images), rtol=1e-4, atol=1e-5)
    assert np.abs(own.arrays["embedding"] - cls.arrays["embedding"]).max() > 0.1
    np.testing.assert_array_equal(own.arrays["cls"], cls.arrays["cls"])
    asked = extract(pooled.with_pooling("cls"), dataset, plain, run)[0]
    np.testing.assert_allclose(asked.arrays["embedding"], cls.arrays["cls"], rtol=1e-5, atol=1e-6)
    assert [each.key["pooling"] for each in (cls, own, asked)] == ["cls", "avg", "cls"]


def count_reads(dataset):
    opened = []

    def decode(item, content):
        opened.append(item.name)
        return type(dataset).__dataclass_fields__["decode"].default(item, content)

    return replace(dataset, decode=decode), opened


def test_each_image_is_decoded_once_for_all_arms_and_never_again(backbone, dataset, tmp_path):
    watched, opened = count_reads(dataset)
    first = extract(backbone, watched, all_arms(backbone)[:3], Run(cache=tmp_path / "cache"))
    assert sorted(opened) == sorted(item.name for item in dataset.items)
    opened.clear()
    again = extract(backbone, watched, all_arms(backbone)[:3], Run(cache=tmp_path / "cache"))
    assert opened == []
    for before, after in zip(first, again, strict=True):
        assert all(np.array_equal(before.arrays[name], after.arrays[name]) for name in before.arrays)
    extract(backbone, watched, all_arms(backbone), Run(cache=tmp_path / "cache"))
    assert len(opened) == len(dataset.items), "a new arm alone is computed"


def test_a_run_that_takes_up_an_earlier_one_says_so_and_how_much(backbone, dataset, tmp_path):
    said: list[str] = []
    run = Run(cache=tmp_path, say=said.append)
    some = dataset.items[:PART]
    extract(backbone, dataset, arms(["plain"], backbone, SOME), run, items=some)
    assert said == []
    extract(backbone, dataset, arms(["plain", "ttr"], backbone, SOME), run, items=some)
    assert said == [
        "features: resuming, from what an earlier run left in the cache",
        f"features: {PART} of 2 × {PART} images were in the cache",
    ]


def test_a_changed_image_is_never_served_and_the_others_are(backbone, dataset, tmp_path):
    plain = all_arms(backbone)[:1]
    before = extract(backbone, dataset, plain, Run(cache=tmp_path / "cache"))[0].arrays["cls"]
    Image.new("RGB", (20, 24), "white").save(dataset.items[20].path)
    watched, opened = count_reads(dataset)
    after = extract(backbone, watched, plain, Run(cache=tmp_path / "cache"))[0].arrays["cls"]
    changed = np.flatnonzero((before != after).any(axis=1))
    assert changed.tolist() == [20]
    assert len(opened) == PART, "its part alone"


@pytest.mark.parametrize(
    "what", ["weights", "neurons", "registers", "steps", "structure", "pooling", "autocast", "order"]
)
def test_whatever_decides_the_features_is_in_the_key(backbone, dataset, tmp_path, what):
    arm = arms(("ttr",), backbone, SOME)[0]
    steps = Preprocessing(backbone)
    key = cache_key(backbone, arm, steps)
    assert key == cache_key(ttr.adapt(backbone.model, preprocess=to_tensor), arm, steps)
    if what == "order":
        watched, opened = count_reads(dataset)
        extract(backbone, dataset, [arm], Run(cache=tmp_path / "cache"))
        found = extract(backbone, watched, [arm], Run(cache=tmp_path / "cache"), items=dataset.items[::-1])[0]
        assert found.items == dataset.items[::-1]
        assert len(opened) == len(dataset.items)
        return
    if what == "weights":
        with torch.no_grad():
            backbone.model.norm.bias.add_(1e-3)
        backbone = ttr.adapt(backbone.model, preprocess=to_tensor)
    elif what == "structure":
        backbone.model.blocks[0].mlp.act = torch.nn.ReLU()
        backbone = ttr.adapt(backbone.model, preprocess=to_tensor)
    elif what == "neurons":
        arm = arms(("ttr",), backbone, ttr.RegisterNeurons.from_pairs([(0, 3), (1, 6)]))[0]
    elif what == "pooling":  # the same weights in the same modules
        backbone.model.global_pool = "avg"
        backbone = ttr.adapt(backbone.model, preprocess=to_tensor)
    elif what == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert cache_key(backbone, arm, steps) != key
        return
    elif what == "registers":
        arm = arms(("ttr",), backbone, SOME, num_registers=2)[0]
    else:
        steps = Preprocessing(backbone, ("clahe",))
    assert cache_key(backbone, arm, steps) != key


def test_a_bad_image_ends_the_run_by_name_or_is_left_out_and_said(backbone, dataset, tmp_path):
    plain = all_arms(backbone)[:1]
    whole = extract(backbone, dataset, plain, Run(cache=tmp_path / "cache"))[0].arrays["cls"]
    dataset.items[3].path.write_bytes(dataset.items[3].path.read_bytes()[:60])
    dataset.items[30].path.unlink()
    for _ in range(2):
        with pytest.raises(ImageError, match=r"003.png is damaged .* with --on-error skip"):
            extract(backbone, dataset, plain, Run(cache=tmp_path / "cache"))
    found = extract(backbone, dataset, plain, Run(cache=tmp_path / "cache", on_error="skip"))[0]
    assert list(found.skipped) == ["003.png", "030.png"]
    assert "cannot be read" in found.skipped["030.png"]
    kept = [n for n in range(40) if n not in (3, 30)]
    assert found.items == tuple(dataset.items[n] for n in kept)
    np.testing.assert_allclose(found.arrays["cls"], whole[kept], atol=1e-5)
    for item in dataset.items:
        item.path.unlink(missing_ok=True)
    with pytest.raises(ImageError, match="not one image could be read"):
        extract(backbone, dataset, plain, Run(cache=tmp_path / "cache", on_error="skip"))


def test_a_damaged_part_is_computed_again(backbone, dataset, tmp_path):
    plain = all_arms(backbone)[:1]
    extract(backbone, dataset, plain, Run(cache=tmp_path / "cache"))
    before = files(tmp_path / "cache")
    part = sorted((tmp_path / "cache").rglob("part-*"))[1]
    part.write_bytes(part.read_bytes()[:100])
    extract(backbone, dataset, plain, Run(cache=tmp_path / "cache"))
    assert files(tmp_path / "cache") == before


def flipped(path):
    """One bit of one number, which no reader of safetensors minds."""
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x40
    return bytes(content)


def with_rows_swapped(path):
    """The same numbers and names; the first two images have each other's."""
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "np") as file:
        header = file.metadata()
    swapped = {name: x[[1, 0, *range(2, len(x))]] for name, x in arrays.items()}
    return safetensors.numpy.save(swapped, metadata=header)


def with_names_swapped(path):
    """Of parts, which know their images by their places."""
    first, second = b'[\\"0\\", \\"1\\"', b'[\\"1\\", \\"0\\"'
    return path.read_bytes().replace(first, second)


def without_a_seal(path):
    """As earlier versions wrote it."""
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "np") as file:
        header = json.loads(file.metadata()["part"])
    del header["seal"]
    return safetensors.numpy.save(arrays, metadata={"part": json.dumps(header)})


HARM = {
    "bit flipped": flipped,
    "rows swapped": with_rows_swapped,
    "names swapped": with_names_swapped,
    "earlier version": without_a_seal,
    "cut": lambda path: path.read_bytes()[:100],
    "empty": lambda path: b"",
    "deep header": lambda path: safetensors.numpy.save({}, metadata={"part": "[" * 100_000}),
    "no header": lambda path: safetensors.numpy.save(safetensors.numpy.load_file(path)),
    "another arm": lambda path: sorted(path.parent.parent.glob(f"*/{path.name}"))[0].read_bytes(),
    "another part": lambda path: sorted(path.parent.glob("part-*"))[1].read_bytes(),
}


def test_what_is_not_as_it_was_sealed_is_computed_again(backbone, dataset, tmp_path):
    """And never used: the numbers are those of an untouched cache."""
    run, both = Run(cache=tmp_path / "cache"), all_arms(backbone)[:2]
    clean = extract(backbone, dataset, both, run)
    whole = files(tmp_path / "cache")
    # The shelf that is harmed is the one whose name sorts last, so that the first is another arm's.
    harmed = sorted((tmp_path / "cache").glob("*/part-00000-*"))[-1]
    for what, harm in HARM.items():
        content = harm(harmed)
        assert content != harmed.read_bytes(), what
        harmed.write_bytes(content)
        found = extract(backbone, dataset, both, run)
        for after, before in zip(found, clean, strict=True):
            assert all(np.array_equal(after.arrays[name], x) for name, x in before.arrays.items()), what
        assert files(tmp_path / "cache") == whole, what


def test_a_part_that_was_read_ahead_is_not_looked_for_again(backbone, dataset, tmp_path, monkeypatch):
    """It may be gone by then; what was read of it counts, and the next run computes it anew."""
    plain = all_arms(backbone)[:1]
    before = extract(backbone, dataset, plain, Run(cache=tmp_path / "cache"))[0]
    whole = files(tmp_path / "cache")
    gone, original = [], Shelf.read

    def read(shelf, path):
        part = original(shelf, path)
        if not gone and "part-00001" in path.name:
            gone.append(path)
            path.unlink()
        return part

    monkeypatch.setattr(Shelf, "read", read)
    for _ in range(2):
        after = extract(backbone, dataset, plain, Run(cache=tmp_path / "cache"))[0]
        assert np.array_equal(after.arrays["cls"], before.arrays["cls"])
    assert gone
    assert files(tmp_path / "cache") == whole


WORK = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.features.test_extract import all_arms, made_backbone, write_set
from ttr.run import Run
from ttr.features import chunks, extract as features
chunks.PART = {part}
original = features.vectors
def vectors(*arguments):
    if len(list(Path({cache!r}).rglob("part-*.safetensors"))) >= 4:
        time.sleep(60)  # killed here
    return original(*arguments)
features.vectors = vectors
backbone = made_backbone()
run = Run(cache=Path({cache!r}), batch_size=8)
features.extract(backbone, write_set(Path({folder!r})), all_arms(backbone), run)
"""


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(tmp_path, one_thread):
    def extracted(cache):
        backbone = made_backbone()
        run = Run(cache=tmp_path / cache, batch_size=8)
        extract(backbone, write_set(tmp_path / "images"), all_arms(backbone), run)
        return files(tmp_path / cache)

    whole = extracted("whole")
    names = {"root": str(Path(__file__).parents[2]), "part": PART}
    names |= {"folder": str(tmp_path / "images"), "cache": str(tmp_path / "killed")}
    process = subprocess.Popen([sys.executable, "-c", WORK.format(**names)])
    while len(list((tmp_path / "killed").rglob("part-*.safetensors"))) < 4 and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    partly = files(tmp_path / "killed")
    finished = {name for name in partly if name.endswith(".safetensors")}
    assert 4 <= len(finished) < len([name for name in whole if name.endswith(".safetensors")])
    written = {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in finished}
    assert extracted("killed") == whole
    assert all((tmp_path / "killed" / name).stat().st_mtime_ns == t for name, t in written.items())


RACE = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.features.test_extract import write_parts
print("ready", flush=True)
sys.stdin.readline()
write_parts(Path({cache!r}))
"""


def write_parts(cache):
    numbers = np.arange(1_000_000, dtype=np.float32).reshape(4, -1)
    for index in range(12):
        shelf = Shelf.of(cache, {"key": index})
        path = shelf.path(0, "same")
        shelf.write(path, Part({"cls": numbers + index}, tuple("abcd"), {}))
        assert np.array_equal(shelf.read(path).arrays["cls"], numbers + index)


@pytest.mark.slow  # one writer at a time is held by tests/test_files.py and tests/test_locks.py
def test_two_processes_write_the_same_parts_at_the_same_time(tmp_path):
    """Under one name for both, one would rename what the other has half written, or find it gone."""
    code = RACE.format(root=str(Path(__file__).parents[2]), cache=str(tmp_path / "cache"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    other = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert other.stdout.readline() == "ready\n"
    other.stdin.write("go\n")
    other.stdin.flush()
    write_parts(tmp_path / "cache")
    errors = other.communicate()[1]
    assert other.returncode == 0, errors
    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {
        *(".json", ".safetensors"),
    }
    assert not list((tmp_path / "cache").rglob(".*"))


def test_a_run_is_one_piece_of_memory_and_so_is_what_is_returned(backbone, dataset, tmp_path):
    """What the model sees are views of it; many pieces leave holes, and memory then grows with the set."""
    seen, original = [], backbone.features

    def features(images):
        seen.append(images)
        return original(images)

    spied = replace(backbone, features=features)
    dataset.items[20].path.write_bytes(b"no image")
    plain = all_arms(backbone)[:1]
    found = extract(spied, dataset, plain, Run(cache=tmp_path / "cache", on_error="skip", batch_size=6))[0]
    pieces = {images.untyped_storage().data_ptr() for images in seen}
    assert [len(images) for images in seen] == [6, 6, 4, 6, 6, 3, 6, 2]
    assert len(pieces) == 3
    assert all(array.base is not None and len(array.base) == 40 for array in found.arrays.values())
    assert len(found.arrays["cls"]) == len(found.items) == 39
    assert set(found.contents) == {item.name for item in found.items}


def test_images_of_several_sizes_or_types_are_refused_by_name(backbone, dataset, tmp_path):
    plain = all_arms(backbone)[:1]
    for change in (lambda x: x[:, 1:], lambda x: x.double()):
        calls = iter(range(1000))

        def uneven(image, change=change, calls=calls):
            x = to_tensor(image)
            return change(x) if next(calls) == 5 + 2 else x  # the fingerprint sees two images first

        strange = replace(backbone, preprocess_image=uneven)
        with pytest.raises(ModelError, match="of 005.png and .* needed the same size and type"):
            extract(strange, dataset, plain, Run(cache=tmp_path / "cache", workers=1))


def test_memory_holds_a_few_runs_and_not_the_set(backbone, dataset, tmp_path):
    """Reading never runs further ahead of the model than its threads allow."""
    watched, opened = count_reads(dataset)
    seen, original = [], backbone.features

    def features(images):
        seen.append(len(opened))
        return original(images)

    spied = replace(backbone, features=features)
    extract(spied, watched, all_arms(backbone)[:1], Run(cache=tmp_path / "cache", workers=1, batch_size=PART))
    assert seen[0] <= 2 * PART + PART
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"workers": 0}, "workers=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_options_outside_their_range_are_refused(backbone, dataset, tmp_path, options, complaint):
    with pytest.raises(OptionError, match=complaint):
        extract(backbone, dataset, all_arms(backbone), Run(cache=tmp_path, **options))


def test_a_cache_that_cannot_be_written_is_refused(backbone, dataset, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        extract(backbone, dataset, all_arms(backbone), Run(cache=tmp_path / "file"))


def test_a_part_that_knows_its_images_otherwise_than_by_their_places_is_no_part_of_a_chunk():
    items = tuple(phantom_set(counts={"train": 3}).items)
    chunk = Chunk(0, items, "digest")
    rows = {"cls": np.zeros((2, 1))}
    named = chunk.named(Part(rows, ("0", "2"), {"1": "<image> is damaged"}))
    assert named.names == (items[0].name, items[2].name)
    assert named.skipped == {items[1].name: f"{items[1].name} is damaged"}
    for names, skipped in (((items[0].name, "2"), {"1": ""}), (("0", "3"), {"1": ""}), (("0", "2"), {})):
        assert chunk.named(Part(rows, names, skipped)) is None
