"""Shards written by the workers of a cluster: what they refuse, how work is dealt out, and equal bytes.

In Ray's place stands a cluster of this process, whose workers can be killed; the real one is in
``test_at_scale``.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

import ttr
from tests.tools.tiny_models import tiny_vit
from ttr.datasets.places.opening import images_at
from ttr.errors import ImageError, OptionError, OutputError, TTRError
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.embed import actors, machines
from ttr.studies.embed.actors import ShardWriter, default_actors
from ttr.studies.embed.machines import Machines
from ttr.studies.embed.plan import begin, plan_of
from ttr.studies.embed.rows import Rows
from ttr.studies.embed.settings import EmbedSettings
from ttr.studies.embed.work import Named, Work

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


class DeathError(Exception):
    """What Ray raises for an actor that is gone for good."""


class Cluster(ModuleType):
    """What of Ray is used, in this process; a call runs when it is waited for, the last one first."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.exceptions = SimpleNamespace(RayActorError=DeathError, OutOfMemoryError=DeathError)
        self.asked, self.joined, self.left = {}, [], 0
        self.written: list[tuple[int, int]] = []
        self.deadly: dict[int, int] = {}

    def is_initialized(self):
        return False

    def init(self, address, **how):
        self.joined.append((address, how))

    def shutdown(self):
        self.left += 1

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 3.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def put(self, value):
        return value

    def remote(self, cls):
        cluster, made = self, iter(range(99))

        def options(**asked):
            cluster.asked = asked

            def start(*given):
                number, worker = next(made), cls(*given)

                def write(shard, images):
                    return lambda: (
                        cluster.written.append((number, shard.index)),
                        worker.write(shard, images),
                    )[1]

                return SimpleNamespace(write=SimpleNamespace(remote=write))

            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def wait(self, calls, num_returns):
        return calls[-1:], calls[:-1]

    def get(self, call):
        result = call()
        shard = self.written[-1][1]
        if self.deadly.get(shard):
            self.deadly[shard] -= 1
            raise DeathError("the actor died\nkilled by the system")
        return result


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(machines, "find_spec", lambda name: ModuleSpec(name, None))
    found = Cluster()
    monkeypatch.setitem(sys.modules, "ray", found)
    return found


@pytest.mark.parametrize("neurons", [None, NEURONS], ids=["bare", "wrapped"])
def test_a_clusters_workers_write_what_one_process_writes(
    cluster, backbone, pictures, tmp_path, monkeypatch, neurons
):
    ttr.embed_images(backbone, pictures, tmp_path / "one", neurons=neurons, settings=SETTINGS, run=RUN)
    monkeypatch.chdir(tmp_path)
    done = ttr.embed_images(
        backbone, pictures, "several", neurons=neurons, settings=SETTINGS, run=RUN, machines=Machines()
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
    words = {"settings": SETTINGS, "run": RUN, "machines": Machines(actors=1)}
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
            backbone, folder, tmp_path / "out", settings=SETTINGS, run=RUN, machines=Machines(actors=1)
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
            backbone, pictures, tmp_path / "out", settings=SETTINGS, run=RUN, machines=Machines(actors=1)
        )
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert cluster.left == 1


def test_a_killed_workers_shard_is_written_by_another_one(cluster, backbone, pictures, tmp_path):
    cluster.deadly = {1: 3, 3: 1}
    words = {"settings": SETTINGS, "run": RUN, "machines": Machines(actors=2)}
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
    writer, shard = ShardWriter(work, "cpu"), work.plan.shards[1]
    assert writer.write(shard, named[2:4]) is None
    (tmp_path / "out" / "plan.json").unlink()
    refusal = writer.write(shard, named[2:4])
    assert isinstance(refusal, OutputError)
    assert "does not see what was begun" in str(refusal)


def test_a_machine_with_another_version_refuses(begun, monkeypatch):
    work, named = begun
    monkeypatch.setattr(actors, "__version__", "0.0.1")
    assert "has ttr 0.0.1, and the run was begun with" in str(
        ShardWriter(work, "cpu").write(work.plan.shards[0], named[:2])
    )


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
    Machines().check(Run(device="cuda"), backbone)  # which this process need not have
    with pytest.raises(OptionError, match="got device cuda:1; needed cpu, or cuda"):
        Machines().check(Run(device="cuda:1"), backbone)
    with pytest.raises(OptionError, match="dtype bfloat16"):
        Machines().check(Run(dtype="bf16"), backbone)


def test_the_address_is_the_given_one_else_the_environments(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert Machines().address == "10.0.0.1:6379"
    assert Machines("auto").address == "auto"
