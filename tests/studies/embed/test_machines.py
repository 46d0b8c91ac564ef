"""Shards written by the workers of a cluster: what they refuse, how work is dealt out, and equal bytes.

In Ray's place stands a cluster of this process (:mod:`tests.tools.cluster`); the real one is in
``test_at_scale``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

import ttr
from tests.tools.cluster import joined
from tests.tools.tiny_models import tiny_vit
from ttr.datasets.places.opening import images_at
from ttr.errors import ImageError, OptionError, OutputError, TTRError
from ttr.machines import actors
from ttr.machines.actors import Worker, default_actors
from ttr.machines.cluster import Machines
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.embed.job import ShardJob
from ttr.studies.embed.plan import begin, plan_of
from ttr.studies.embed.rows import Rows
from ttr.studies.embed.settings import EmbedSettings
from ttr.studies.embed.work import Named, Work
from ttr.version import __version__

COUNT, SHARD = 7, 2
SETTINGS = EmbedSettings(shard_size=SHARD)
NEURONS = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 7)])
RUN = Run(batch_size=2, workers=1)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    steps = [transforms.Resize((32, 32)), transforms.ToTensor()]
    return ttr.adapt(tiny_vit(), preprocess=transforms.Compose(steps))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(COUNT):
        pixels = draw.integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def on(**given):
    """A run by machines."""
    return replace(RUN, machines=Machines(**given))


@pytest.fixture
def cluster(monkeypatch):
    return joined(monkeypatch)


@pytest.mark.parametrize("neurons", [None, NEURONS], ids=["bare", "wrapped"])
def test_a_clusters_workers_write_what_one_process_writes(
    cluster, backbone, pictures, tmp_path, monkeypatch, neurons
):
    ttr.embed_images(backbone, pictures, tmp_path / "one", neurons=neurons, settings=SETTINGS, run=RUN)
    monkeypatch.chdir(tmp_path)
    done = ttr.embed_images(
        backbone,
        pictures,
        "several",
        neurons=neurons,
        settings=SETTINGS,
        run=on(),
    )
    assert (done.missing, done.shards) == (0, 4)
    assert contents(tmp_path / "several") == contents(tmp_path / "one")
    assert sorted(shard for _, shard in cluster.written) == [0, 1, 2, 3]
    assert {worker for worker, _ in cluster.written} == {0, 1}  # one CPU of three is left alone
    assert (cluster.asked["num_cpus"], cluster.asked["num_gpus"]) == (1, 0)
    ((address, how),) = cluster.joined
    assert (address, how["include_dashboard"], how["log_to_driver"], cluster.left) == (
        "local",
        False,
        False,
        1,
    )


def test_what_is_there_is_not_written_again(cluster, backbone, pictures, tmp_path):
    words = {"settings": SETTINGS, "run": on(actors=1)}
    ttr.embed_images(backbone, pictures, tmp_path / "out", **words)
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "shard-00002-of-00004.parquet").unlink()
    ttr.embed_images(backbone, pictures, tmp_path / "out", **words)
    assert [shard for _, shard in cluster.written] == [0, 1, 2, 3, 2]
    assert contents(tmp_path / "out") == whole
    ttr.embed_images(backbone, pictures, tmp_path / "out", **words)
    assert len(cluster.joined) == 2  # a whole folder needs no cluster


def test_what_a_worker_refuses_ends_the_run_with_its_sentence(cluster, backbone, pictures, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in pictures.iterdir():
        (folder / path.name).write_bytes(path.read_bytes() if path.stem != "3" else b"no picture")
    with pytest.raises(ImageError, match=r"3\.png is not an image.*--on-error skip"):
        ttr.embed_images(
            backbone,
            folder,
            tmp_path / "out",
            settings=SETTINGS,
            run=on(actors=1),
        )
    assert [path.name for path in sorted((tmp_path / "out").glob("shard-*"))] == [
        "shard-00000-of-00004.parquet"
    ]
    assert cluster.left == 1


def test_a_shard_whose_worker_is_killed_again_and_again_is_named(cluster, backbone, pictures, tmp_path):
    cluster.deadly = {1: 4}
    with pytest.raises(
        TTRError, match=r"the worker for shard-00001-of-00004\.parquet .*killed 4 times \(killed by the"
    ):
        ttr.embed_images(
            backbone,
            pictures,
            tmp_path / "out",
            settings=SETTINGS,
            run=on(actors=1),
        )
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert cluster.left == 1


def test_a_killed_workers_shard_is_written_by_another_one(cluster, backbone, pictures, tmp_path):
    cluster.deadly = {1: 3, 3: 1}
    words = {"settings": SETTINGS, "run": on(actors=2)}
    done = ttr.embed_images(backbone, pictures, tmp_path / "out", **words)
    assert (done.errors, done.missing) == (0, 0)
    tried = [shard for _, shard in cluster.written]
    assert [tried.count(shard) for shard in range(4)] == [1, 4, 1, 2]
    assert len({worker for worker, shard in cluster.written if shard == 1}) == 4
    assert ttr.verify_embeddings(tmp_path / "out").faults == ()


@pytest.fixture
def begun(backbone, pictures, tmp_path):
    """Work whose folder was begun, and its images."""
    listing = images_at(pictures)
    named = [Named(each, each.name) for each in listing.entries(0, COUNT)]
    plan = plan_of(backbone, PLAIN, listing, (each.name for each in named), SETTINGS, RUN)
    begin(tmp_path / "out", plan)
    return Work(tmp_path / "out", plan, PLAIN, Rows.of(backbone, PLAIN.neurons, SETTINGS), RUN), named


def test_a_machine_that_does_not_see_the_folder_refuses(begun, tmp_path):
    work, named = begun
    worker, shard = Worker(ShardJob(work), "cpu", ".", __version__), work.plan.shards[1]
    assert worker.do((shard, named[2:4])) is None
    (tmp_path / "out" / "plan.json").unlink()
    refusal = worker.do((shard, named[2:4]))
    assert isinstance(refusal, OutputError)
    assert "does not see what was begun" in str(refusal)


def test_a_machine_with_another_version_refuses(begun, monkeypatch):
    work, named = begun
    monkeypatch.setattr(actors, "__version__", "0.0.1")
    worker = Worker(ShardJob(work), "cpu", ".", __version__)
    assert "has ttr 0.0.1, and the run was begun with" in str(worker.do((work.plan.shards[0], named[:2])))


@pytest.mark.parametrize(
    ("resources", "device", "count"),
    [
        ([{"CPU": 2.0}, {"CPU": 8.0}], "cpu", 8),
        ([{"CPU": 1.0}, {"CPU": 0.0}, {}], "cpu", 1),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0}], "cuda", 4),
    ],
)
def test_each_machine_keeps_a_cpu_and_each_gpu_has_an_actor(resources, device, count):
    assert default_actors(resources, device) == count


def test_a_cluster_without_a_gpu_is_refused_where_one_is_asked_for():
    with pytest.raises(OptionError, match="no machine with a GPU"):
        default_actors([{"CPU": 8.0}], "cuda")


def test_where_machines_compute_is_asked_for_without_a_number(cluster, backbone):
    Run(device="cuda", machines=Machines()).check(backbone)  # which this process need not have
    with pytest.raises(OptionError, match="got device cuda:1; needed cpu, or cuda"):
        Run(device="cuda:1", machines=Machines()).check(backbone)
    with pytest.raises(OptionError, match="dtype bfloat16"):
        Run(dtype="bf16", machines=Machines()).check(backbone)


def test_the_address_is_the_given_one_else_the_environments(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert Machines().address == "10.0.0.1:6379"
    assert Machines("auto").address == "auto"
