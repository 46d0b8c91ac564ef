"""The real thing: processes that are killed, torchrun, Ray, and memory that does not grow with the images."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import ttr
from tests.tools.two_nodes import ENVIRONMENT, kill_a_worker, two_nodes
from ttr.run import Run
from ttr.studies.embed.settings import EmbedSettings

pytestmark = pytest.mark.slow
COUNT, SHARD = 240, 8


def pictures(folder: Path, count: int, side: int) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.png")
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Pictures, the words of a command over them, and what it writes undisturbed."""
    root = tmp_path_factory.mktemp("scale")
    small = ("--backbone", "phantom", "--image-size", 64, "--shard-size", SHARD, "--batch-size", 4, "--quiet")
    words = ["embed", *small, "--images", pictures(root / "pictures", COUNT, 64), "--patch-tokens", "--out"]
    command = [sys.executable, "-m", "ttr", *map(str, words)]
    subprocess.run([*command, str(root / "out")], check=True, env=ENVIRONMENT, capture_output=True)
    return command, root / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed(command: list[str], out: Path, shards: int) -> None:
    """Start a command and kill it, children too, once it has written some shards more than are there."""
    before = len(list(out.glob("*.parquet")))
    process = subprocess.Popen(
        command,
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(list(out.glob("*.parquet"))) < before + shards:
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_three_times_it_goes_on_to_the_same_bytes(given, tmp_path):
    command, whole = given
    command, out = [*command, str(tmp_path / "out")], tmp_path / "out"
    for shards in (3, 1, 5):
        killed(command, out, shards)
        assert not (out / "manifest.json").exists()
    done = subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert "resuming" in done.stdout
    assert contents(out) == contents(whole)
    assert ttr.verify_embeddings(out).faults == ()


def test_torchrun_writes_what_one_process_writes_also_after_a_kill(given, tmp_path):
    command, whole = given
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    command, out = [*torchrun, *command[1:], str(tmp_path / "out")], tmp_path / "out"
    killed(command, out, 4)
    done = subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert "embedded in 30 shards" in done.stdout
    assert contents(out) == contents(whole)


@pytest.fixture
def cluster():
    with two_nodes() as found:
        yield found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
def test_two_machines_write_what_one_process_writes_also_after_a_worker_was_killed(
    given,
    tmp_path,
    cluster,
):
    command, whole = given
    address, environment, nodes = cluster
    out = tmp_path / "out"
    command = [*command, str(out), "--engine", "ray", "--address", address]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(list(out.glob("*.parquet"))) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    kill_a_worker(nodes)
    assert len(list(out.glob("*.parquet"))) < 30
    said, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert b"240 images embedded in 30 shards" in said
    assert contents(out) == contents(whole)
    assert ttr.verify_embeddings(out).faults == ()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_rows_are_those_of_a_plain_loop(tmp_path):
    """Copies that run ahead of the model must not overtake it."""
    folder = pictures(tmp_path / "pictures", 64, 64)
    backbone = ttr.load("phantom", image_size=64, device="cuda")
    settings = EmbedSettings(shard_size=24, patch_tokens=True, outlier_share=True)
    run = Run(batch_size=4, workers=2)
    ttr.embed_images(backbone, folder, tmp_path / "out", settings=settings, run=run)
    images = [backbone.preprocess(Image.open(path)) for path in sorted(folder.iterdir())]
    plain = torch.cat([backbone.embed(batch).cpu() for batch in torch.stack(images).split(4)])
    files = sorted((tmp_path / "out").glob("*.parquet"))
    rows = [row for path in files for row in pyarrow.parquet.read_table(path).to_pylist()]
    assert torch.allclose(torch.tensor([row["embedding"] for row in rows]), plain, atol=1e-5)


MEASURE = """
import resource, sys, torch, ttr
from torchvision import transforms
from tests.tools.tiny_models import tiny_vit
torch.manual_seed(0)
steps = transforms.Compose([transforms.Resize(32), transforms.ToTensor()])
backbone = ttr.adapt(tiny_vit(), preprocess=steps)
settings = ttr.studies.embed.settings.EmbedSettings(shard_size=256, patch_tokens=True)
ttr.embed_images(backbone, sys.argv[1], sys.argv[2], settings=settings)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    code = MEASURE.replace("import resource", "import ttr.studies.embed.settings, resource")
    peaks = []
    for count in (1_000, 10_000):
        folder = pictures(tmp_path / f"{count}", count, 16)
        words = [sys.executable, "-c", code, str(folder), str(tmp_path / f"out-{count}")]
        done = subprocess.run(words, check=True, env=ENVIRONMENT, capture_output=True, text=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] <= 1.05 * peaks[0], peaks
