"""The real thing: detect and bench by a Ray cluster whose workers are killed, and bench by torchrun."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ttr
from tests.tools.two_nodes import ENVIRONMENT, kill_a_worker, two_nodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc"),
]
COMMON = "--backbone phantom --image-size 64 --dataset phantom --quiet"
DETECT = f"detect {COMMON} --num-images 160 --batch-size 4 --out"
BENCH = f"bench {COMMON} --arms plain,neurons,ttr --heads logistic --out"
TABLES = ("results.csv", "comparisons.csv", "predictions.parquet")


def command(words: str, out: Path, cache: Path, *more: object, by: tuple[str, ...] = ()) -> list[str]:
    given = map(str, (out, "--cache", cache, *more))
    return [sys.executable, *by, "-m", "ttr", *words.split(), *given]


def done(words: list[str]) -> None:
    ended = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process finds, and what it measures with that."""
    root = tmp_path_factory.mktemp("one")
    done(command(DETECT, root / "neurons.json", root / "cache"))
    done(command(BENCH, root / "bench", root / "cache", "--neurons", root / "neurons.json"))
    return root


def parts(cache: Path) -> dict[str, bytes]:
    """The features: parts of the arms' shelves."""
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.glob("*/part-*")}


def assert_same(found: ttr.RegisterNeurons, expected: ttr.RegisterNeurons) -> None:
    assert found.pairs == expected.pairs
    assert [row[:2] for row in found.ranked] == [row[:2] for row in expected.ranked]
    scores = [[row[2] for row in each.ranked] for each in (found, expected)]
    np.testing.assert_allclose(*scores, rtol=1e-12, atol=1e-15)


def assert_same_bench(found: Path, expected: Path) -> None:
    for table in TABLES:
        assert (found / table).read_bytes() == (expected / table).read_bytes(), table
    assert len(pd.read_csv(found / "results.csv")) > 10


@pytest.fixture
def cluster():
    with two_nodes() as found:
        yield found


def test_two_machines_find_and_measure_what_one_process_does_also_after_workers_were_killed(
    one,
    tmp_path,
    cluster,
):
    address, environment, nodes = cluster
    engine = ("--engine", "ray", "--address", address)
    cache, out = tmp_path / "cache", tmp_path / "neurons.json"
    for words, kept in (
        (command(DETECT, out, cache, *engine), "neurons/*/part-*"),
        (command(BENCH, tmp_path / "bench", cache, "--neurons", one / "neurons.json", *engine), "*/part-*"),
    ):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not list(cache.glob(kept)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        kill_a_worker(nodes)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert_same(ttr.RegisterNeurons.load(out), ttr.RegisterNeurons.load(one / "neurons.json"))
    assert_same_bench(tmp_path / "bench", one / "bench")
    assert parts(cache) == parts(one / "cache")


def test_torchrun_measures_what_one_process_measures(one, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0")
    given = ("--neurons", one / "neurons.json")
    done(command(BENCH, tmp_path / "bench", tmp_path / "cache", *given, by=torchrun))
    assert_same_bench(tmp_path / "bench", one / "bench")
    assert parts(tmp_path / "cache") == parts(one / "cache")
