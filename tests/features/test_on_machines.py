"""What the workers of a cluster find and extract is what one process does, also where some are killed.

In Ray's place stands a cluster of this process (:mod:`tests.tools.cluster`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import ttr
from tests.tools.cluster import joined
from tests.tools.tiny_models import scramble, tiny_vit
from tests.tools.turns import in_turns
from ttr.cli.main import app
from ttr.datasets.base import Item, make_dataset
from ttr.datasets.phantom_set import CARD
from ttr.datasets.registry import in_memory
from ttr.errors import ImageError, OutputError, TTRError
from ttr.features import extract as features
from ttr.features import sharing
from ttr.features.extract import extract
from ttr.features.prepared import found_neurons
from ttr.features.shared_detection import SharedDetection
from ttr.forward.record import record
from ttr.machines.cluster import Machines
from ttr.registers.arms import arms
from ttr.registers.detection import DetectionRule
from ttr.run import Run

PART, COUNT = 16, 40


def to_tensor(image):
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return ttr.adapt(scramble(tiny_vit()), preprocess=to_tensor)


@pytest.fixture(scope="module")
def images():
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
    return in_memory({f"{n:02}.png": Image.fromarray(each) for n, each in enumerate(pixels)})


@pytest.fixture(scope="module")
def rule(backbone, images):
    """So that half of the images have outliers."""
    highest = record(backbone, torch.stack(list(map(to_tensor, images)))).norms[-2][:, 1:].amax(dim=1)
    return DetectionRule(threshold=float(highest.median()), top_k=5)


@pytest.fixture
def dataset(images, tmp_path):
    items = []
    for name in images.closed:
        images.opener(name).save(tmp_path / name)
        items.append(Item(name, "ab"[int(name[:2]) % 2], "train", tmp_path / name))
    return make_dataset("made", items, CARD)


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr("ttr.features.chunks.PART", PART)
    monkeypatch.setattr(sharing, "DELAY", 0.0)
    return joined(monkeypatch)


def treatments(backbone):
    neurons = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5)])
    return arms(("plain", "ttr"), backbone, neurons, num_registers=2)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("part-*")}


def test_a_detection_by_machines_is_one_processs(cluster, backbone, images, rule, tmp_path):
    run = Run(batch_size=4, cache=tmp_path / "one")
    expected = found_neurons(backbone, images, run, rule).value
    assert expected.pairs
    cluster.deadly = {1: 2}
    told: list[str] = []
    run = replace(run, cache=tmp_path / "several", machines=Machines(actors=2), say=told.append)
    found = found_neurons(backbone, images, run, rule).value
    assert (found.pairs, found.message) == (expected.pairs, expected.message)
    assert [row[:2] for row in found.ranked] == [row[:2] for row in expected.ranked]
    scores = [[row[2] for row in each.ranked] for each in (found, expected)]
    np.testing.assert_allclose(*scores, rtol=1e-12, atol=1e-15)
    assert sorted(piece for _, piece in cluster.written) == [0, 1, 1, 1], "two died of it"
    assert told == []
    found_neurons(backbone, images, run, rule)
    assert told == ["neurons: taken from the cache, as an earlier run found them"]
    assert len(cluster.joined) == 1


def test_features_by_machines_are_one_processs_to_the_byte(cluster, backbone, dataset, tmp_path):
    run = Run(batch_size=5, cache=tmp_path / "one")
    expected = extract(backbone, dataset, treatments(backbone), run)
    cluster.deadly = {2: 1}
    told: list[str] = []
    run = replace(run, cache=tmp_path / "several", machines=Machines(actors=2), say=told.append)
    found = extract(backbone, dataset, treatments(backbone), run)
    assert sorted(piece for _, piece in cluster.written) == [0, 1, 2, 2]
    assert files(tmp_path / "several") == files(tmp_path / "one")
    for mine, other in zip(found, expected, strict=True):
        assert (mine.items, mine.key, mine.contents) == (other.items, other.key, other.contents)
        assert all(np.array_equal(mine.arrays[name], other.arrays[name]) for name in other.arrays)
    next((tmp_path / "several").rglob("part-00001-*")).unlink()
    extract(backbone, dataset, treatments(backbone), run)
    assert [piece for _, piece in cluster.written[4:]] == [1]
    assert told == ["features: resuming, 2 of 3 chunks are there"]


def test_features_by_ranks_are_one_processs_and_each_chunk_is_computed_once(
    cluster, backbone, dataset, tmp_path, monkeypatch
):
    run = Run(batch_size=5, cache=tmp_path / "one")
    expected = extract(backbone, dataset, treatments(backbone), run)
    computed: list[int] = []
    compute = features._compute
    monkeypatch.setattr(
        features, "_compute", lambda *given: computed.append(given[2].index) or compute(*given)
    )
    run = replace(run, cache=tmp_path / "several")

    def extracted(rank):
        return extract(backbone, dataset, treatments(backbone), replace(run, rank=rank))

    for found in in_turns(monkeypatch, extracted, (1, 2, 0)):
        assert [each.contents for each in found] == [each.contents for each in expected]
    assert sorted(computed) == [0, 0, 1, 1, 2, 2], "under two arms"
    assert files(tmp_path / "several") == files(tmp_path / "one")


def test_where_others_compute_decides_the_key(cluster, backbone, dataset, tmp_path):
    """What a GPU computed must not be found by a run on the CPU."""
    run = Run(cache=tmp_path, device="cuda", machines=Machines(actors=1))
    assert (run.computes_on(backbone), Run(device="cpu").computes_on(backbone)) == ("cuda", "cpu")
    with pytest.raises(TTRError, match="no machine with a GPU"):
        extract(backbone, dataset, treatments(backbone), replace(run, machines=Machines()))
    keys = [path.read_text() for path in tmp_path.rglob("key.json")]
    assert len(keys) == 2
    assert all('"device": "cuda"' in key for key in keys)


@pytest.mark.parametrize("what", ["features", "neurons"])
def test_a_worker_that_sees_another_cache_is_told_of(
    cluster, backbone, dataset, images, rule, tmp_path, monkeypatch, what
):
    run = Run(batch_size=5, cache=tmp_path / "cache", machines=Machines(actors=1))
    get = cluster.get

    def elsewhere(call):
        result = get(call)
        for path in (tmp_path / "cache").rglob("part-*"):
            path.unlink()
        return result

    monkeypatch.setattr(cluster, "get", elsewhere)
    with pytest.raises(OutputError, match="worker computed did not come .*--cache that all machines share"):
        if what == "features":
            extract(backbone, dataset, treatments(backbone), run)
        else:
            found_neurons(backbone, images, run, rule)


def test_what_a_worker_refuses_is_said_by_name(cluster, backbone, dataset, tmp_path):
    (tmp_path / "17.png").write_bytes(b"no picture")
    run = Run(batch_size=5, cache=tmp_path / "cache", machines=Machines(actors=1))
    with pytest.raises(ImageError, match=r"17\.png .*--on-error skip"):
        extract(backbone, dataset, treatments(backbone), run)
    found = extract(backbone, dataset, treatments(backbone), replace(run, on_error="skip"))
    assert [len(each.items) for each in found] == [COUNT - 1] * 2
    assert cluster.left == 2


def test_a_worker_is_sent_neither_words_nor_others(cluster, backbone, images, rule, tmp_path):
    sent = []
    cluster.put = lambda job: sent.append(job) or job
    run = Run(batch_size=4, cache=tmp_path, machines=Machines(actors=1), say=print, progress=False)
    found_neurons(backbone, images, run, rule)
    (job,) = sent
    assert isinstance(job, SharedDetection)
    assert (job.run.say, job.run.machines, job.run.batch_size) == (None, None, 4)


def test_the_command_has_machines_detect(cluster, tmp_path):
    words = (
        "detect --backbone phantom --image-size 64 --dataset phantom --num-images 40 --batch-size 4 --quiet"
    )
    where = ("--cache", tmp_path / "cache", "--out", tmp_path / "neurons.json", "--engine", "ray")
    done = CliRunner().invoke(app, [*words.split(), *map(str, where)])
    assert done.exit_code == 0, done.output
    assert sorted(piece for _, piece in cluster.written) == [0, 1]
    assert ttr.RegisterNeurons.load(tmp_path / "neurons.json").provenance.images == 40
