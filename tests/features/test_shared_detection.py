"""Processes that share a detection find what one finds: the same neurons, scores to float64 rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor
from typer.testing import CliRunner

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.cli.main import app
from ttr.datasets.registry import OpenedImages, in_memory
from ttr.errors import ImageError, OutputError
from ttr.features import prepared, shared_detection
from ttr.features.prepared import StillToCome, found_neurons, shared_neurons
from ttr.features.shared import MOST_PARTS, stretches
from ttr.forward.record import record
from ttr.ranks import Rank
from ttr.registers.detection import DetectionRule
from ttr.registers.evidence import IMAGES_AT_ONCE, Evidence
from ttr.registers.split_halves import PARTS
from ttr.run import Run

#: Three stretches, the last one not whole; of the doubles one has its other within, one in another stretch.
COUNT, BATCH, DOUBLES = 75, 4, {40: 36, 50: 3, 70: 3}
FIRST, SECOND = Rank(0, 2), Rank(1, 2)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return ttr.adapt(scramble(tiny_vit()), preprocess=to_tensor)


@pytest.fixture(scope="module")
def images() -> OpenedImages:
    draw = np.random.default_rng(0)
    pictures = {
        f"{n:02}.png": Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        for n in range(COUNT)
    }
    for double, other in DOUBLES.items():
        pictures[f"{double:02}.png"] = pictures[f"{other:02}.png"]
    return in_memory(pictures)


@pytest.fixture(scope="module")
def rule(backbone, images) -> DetectionRule:
    """So that 29 of the first 32 images have outliers, an odd number, and all that have doubles."""
    pixels = torch.stack([backbone.preprocess(image) for image in images])
    highest = record(backbone, pixels).norms[-2][:, 1:].amax(dim=1)
    threshold = float(highest[:32].sort().values[2:4].mean())
    assert highest[list(DOUBLES.values())].min() > threshold
    return DetectionRule(threshold=threshold, top_k=5)


@pytest.fixture
def looks(monkeypatch) -> list[int]:
    """How many images there are in each stretch that is looked at."""
    seen: list[int] = []
    look = shared_detection.look

    def counted(backbone, images, *rest):
        seen.append(len(kept := list(images)))
        look(backbone, kept, *rest)

    monkeypatch.setattr(shared_detection, "look", counted)
    return seen


@pytest.fixture
def settled(monkeypatch) -> list[Evidence]:
    """The evidence of each detection that ends, and of each part."""
    seen: list[Evidence] = []
    settle = Evidence.settle
    monkeypatch.setattr(Evidence, "settle", lambda self: seen.append(self) or settle(self))
    return seen


def assert_same(found, expected) -> None:
    assert found.pairs == expected.pairs
    assert found.message == expected.message
    assert found.provenance == expected.provenance
    rows, others = (sorted(each.ranked) for each in (found, expected))
    assert [row[:2] for row in rows] == [row[:2] for row in others]
    np.testing.assert_allclose([row[2] for row in rows], [row[2] for row in others], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("halves", [0, 20])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (2, 1, 0), (3, 4, 2, 0, 1)])
def test_ranks_in_any_order_find_what_one_process_finds(
    backbone, images, rule, tmp_path, looks, settled, order, halves
):
    rule = replace(rule, halves=halves)
    run = Run(batch_size=BATCH, cache=tmp_path / "shared")
    expected = found_neurons(backbone, images, Run(batch_size=BATCH, cache=tmp_path / "one"), rule).value
    assert "of which 3 are doubles" in expected.message
    *others, last = (shared_neurons(backbone, images, run, rule, Rank(index, len(order))) for index in order)
    assert all(isinstance(each, StillToCome) for each in others[:1])
    assert_same(last.value, expected)
    one, parts, merged = settled[0], settled[1:-1], settled[-1]
    assert 29 in [part.with_outliers for part in parts], "so that halves are to be exchanged"
    assert len(merged.parts) == (PARTS if halves else 2)
    for mine, other in zip(merged.parts, one.parts, strict=True):
        assert mine.images == other.images
        for name, sums in mine.tensors().items():
            np.testing.assert_allclose(sums, other.tensors()[name], rtol=1e-12, atol=0)
    again = {(0, 1): 0, (1, 0): 1, (2, 1, 0): 2, (3, 4, 2, 0, 1): 1}[order]
    assert len(looks) == 3 + again, "a stretch is looked at twice only where it took doubles for new pictures"


def test_what_is_cut_is_whole_batches_and_whole_groups():
    for count, size in ((0, 4), (1, 4), (75, 4), (75, 24), (75, 100), (40_000, 16)):
        cut = stretches(count, size)
        assert [place for stretch in cut for place in stretch] == list(range(count))
        assert all(len(stretch) % size == 0 for stretch in cut[:-1])
        assert len({len(stretch) for stretch in cut[:-1]}) <= 1
        assert len(cut) <= MOST_PARTS
    assert [len(stretch) for stretch in stretches(75, 4)] == [IMAGES_AT_ONCE, IMAGES_AT_ONCE, 11]


def test_a_restart_makes_only_the_parts_that_are_missing_or_damaged(backbone, images, rule, tmp_path, looks):
    run = Run(batch_size=BATCH, cache=tmp_path)
    waits = shared_neurons(backbone, images, run, rule, FIRST)
    assert (waits.missing, waits.parts, looks) == (1, 3, [32, 11])
    first, last = sorted(waits.folder.iterdir())
    last.write_bytes(first.read_bytes())  # another part under its name
    told: list[str] = []
    again = shared_neurons(
        backbone, images, Run(batch_size=BATCH, cache=tmp_path, say=told.append), rule, FIRST
    )
    assert (again, looks) == (waits, [32, 11, 11])
    assert told == ["detecting: resuming, 1 of 2 parts are there"]
    done = shared_neurons(backbone, images, run, rule, SECOND)
    assert len(done.value.pairs) == 5
    looks.clear()
    assert_same(shared_neurons(backbone, images, run, rule, FIRST).value, done.value)
    assert looks == [], "the finding itself is in the cache"


def test_a_part_that_is_missing_when_they_are_merged_is_refused(
    backbone, images, rule, tmp_path, monkeypatch
):
    run = Run(batch_size=BATCH, cache=tmp_path)
    folder = shared_neurons(backbone, images, run, rule, FIRST).folder
    part = min(folder.iterdir())
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(
        OutputError, match=r"part-000-of-003\S* is missing or damaged, one of 3 .*run the same"
    ):
        shared_neurons(backbone, images, run, rule, SECOND)
    monkeypatch.setattr(prepared.SharedDetection, "missing", lambda self: 0)
    part.unlink()
    with pytest.raises(OutputError, match=r"part-000-of-003\S* is missing or damaged"):
        shared_neurons(backbone, images, run, rule, SECOND)


def test_bad_images_are_left_out_by_name_or_end_it_also_where_they_lie_in_a_part(
    backbone, images, rule, tmp_path
):
    bad = {f"{n:02}.png" for n in (5, *range(64, COUNT))}  # the last stretch holds nothing else

    def opened(name):
        if name in bad:
            raise ImageError(f"{name} is damaged")
        return images.opener(name)

    broken = OpenedImages(images.closed, opened, images.hashed)
    skip = Run(batch_size=BATCH, cache=tmp_path / "shared", on_error="skip")
    for rank in (FIRST, SECOND):
        found = shared_neurons(backbone, broken, skip, rule, rank)
    expected = found_neurons(
        backbone, broken, Run(batch_size=BATCH, cache=tmp_path / "one", on_error="skip"), rule
    )
    assert found.skipped == expected.skipped == {name: f"{name} is damaged" for name in sorted(bad)}
    assert found.value.message == expected.value.message
    assert found.value.provenance.images == COUNT - len(bad)
    scores = [sorted(each.value.ranked) for each in (found, expected)]
    np.testing.assert_allclose(*([row[2] for row in rows] for rows in scores), rtol=1e-5, atol=1e-7)
    with pytest.raises(ImageError, match="05.png is damaged; leave bad images out"):
        shared_neurons(backbone, broken, Run(batch_size=BATCH, cache=tmp_path / "new"), rule, FIRST)


COMMAND = "detect --backbone phantom --image-size 64 --dataset phantom --num-images 40 --batch-size 4 --quiet"


def test_the_command_says_what_is_to_come_and_the_last_writes_the_file(tmp_path, monkeypatch):
    words = [*COMMAND.split(), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "neurons.json")]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    said = " ".join(first.output.split())
    assert "1 of 2 is still to come from other processes, the last of which writes" in said
    assert not (tmp_path / "neurons.json").exists()
    monkeypatch.setenv("RANK", "0")
    assert CliRunner().invoke(app, words).exit_code == 0
    assert ttr.RegisterNeurons.load(tmp_path / "neurons.json").provenance.images == 40


@pytest.mark.slow
def test_torchrun_finds_what_one_process_finds(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def detected(name: str, *by: str) -> tuple[ttr.RegisterNeurons, str]:
        out: Path = tmp_path / f"{name}.json"
        words = [*COMMAND.split(), "--cache", str(tmp_path / name), "--out", str(out)]
        done = subprocess.run(
            [sys.executable, *by, "-m", "ttr", *words],
            check=True,
            env=environment,
            capture_output=True,
            text=True,
        )
        return ttr.RegisterNeurons.load(out), done.stdout

    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0")
    (expected, _), (found, said) = detected("one"), detected("two", *torchrun)
    assert_same(found, expected)
    assert str(tmp_path / "two.json") in said.replace("\n", "")
