"""Every command with all sockets but loopback closed: nothing is asked of anybody, not even when imported."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import tests.tools.no_way_out
from tests.tools.patients import patients

CLOSED = Path(tests.tools.no_way_out.__file__).parent


def environment(record: Path) -> dict[str, str]:
    """Return an environment in which a process, and whatever it starts, may reach loopback alone."""
    paths = [str(CLOSED), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    # What switches questions off elsewhere must not be what switches them off here.
    told = ("NO_ALBUMENTATIONS_UPDATE", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    kept = {name: value for name, value in os.environ.items() if name not in told and "GRADIO" not in name}
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TTR_TEST_REACHED": str(record)}
    return {
        **kept,
        **own,
        "XDG_CACHE_HOME": str(record.parent / "cache"),
        "HF_HOME": str(record.parent / "hub"),
    }


def python(record: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env=environment(record), capture_output=True, text=True, timeout=1500)


def reached(record: Path) -> str:
    return record.read_text() if record.exists() else ""


def test_the_watch_sees_who_calls_out(tmp_path):
    record = tmp_path / "reached"
    code = "import socket\ntry: socket.create_connection(('example.org', 80))\nexcept OSError: pass"
    python(record, "-c", code)
    assert reached(record).startswith("socket.getaddrinfo example.org")


#: Imports after ttr what has to come after it, and tells whether a finder behind ours was asked too.
AFTER_TTR = """
import sys, time, ttr
asked = []
class Watch:
    def find_spec(self, name, path, target=None): asked.append(name)
sys.meta_path.insert(1, Watch())
import albumentations, timm, open_clip, torchvision, numpy
from ttr.forward.preprocessing import STEPS
print('torchvision' in asked, STEPS['clahe']()(image=numpy.zeros((64, 64, 3), numpy.uint8))['image'].shape)
time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A process that imported the libraries after ttr, and whom it asked: to import them takes seconds."""
    record = tmp_path_factory.mktemp("imported") / "reached"
    return python(record, "-W", "error::UserWarning", "-c", AFTER_TTR), reached(record)


def test_importing_what_asks_for_newer_versions_of_itself_asks_nobody(imported):
    """Nor does a step of preprocessing that is made of it."""
    done, asked = imported
    assert (done.returncode, done.stderr, asked) == (0, "", "")
    assert done.stdout.endswith("(64, 64, 3)\n")


def test_timm_and_open_clip_import_after_ttr_whatever_torchvision_was_built_for(imported):
    """And the finder right behind ours is asked for torchvision too: nothing leaves the list meanwhile."""
    assert imported[0].stdout.split()[0] == "True"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return patients(tmp_path_factory.mktemp("given"))


def commands(root: Path, out: Path) -> list[tuple[object, ...]]:
    """Return every command but ``app``, and those that are there to ask an archive, as a user types it."""
    small = ("--backbone", "phantom", "--image-size", 64, "--quiet", "--on-error", "skip")
    table, one = ("--dataset", "csv", "--root", root / "table.csv"), root / "train" / "a"
    neurons = ("--neurons", out / "neurons.json")
    rehearsal = ("--backbone", "phantom", "--on-error", "skip", "--quiet")
    return [
        ("--version",),
        ("backbones",),
        ("backbones", "dinov2-vit-l-14"),
        ("data", "info"),
        ("data", "check", *table, "--quiet"),
        ("doctor", "--quiet"),
        ("demo", "--phantom", "--quiet", "--phantoms", 8, "--out", out / "demo"),
        ("scan", *small, "--images", one, "--out", out / "scan"),
        ("detect", *small, "--images", one, "--out", out / "neurons.json"),
        ("tune", *small, "--images", one, "--top-k", 1, "--num-registers", 1, "--out", out / "tune"),
        ("compare", *small, *neurons, "--out", out / "compare", one),
        ("embed", *small, *neurons, "--images", one, "--out", out / "shards"),
        ("bench", *small, *table, "--arms", "plain,ttr", "--seeds", 42, "--out", out / "bench"),
        ("bench", *small, *table, "--preprocess", "clahe", "--arms", "plain", "--out", out / "clahe"),
        (
            *("ablate", "--backbone", "phantom-reg4", *small[2:], *table, "--analysis-images", 4),
            *("--conditions", "full,registers:zero", "--layers", 2, "--out", out / "ablation"),
        ),
        ("report", out / "ablation", "--out", out / "page.html"),
        ("readers", "prepare", *small, *neurons, "--readers", 2, "--out", out / "study", one),
        ("readers", "analyse", out / "study", "--simulate", "left", "--out", out / "readers"),
        ("integrate", *small, *table, "--num-registers", "0,1", "--out", out / "integration"),
        (
            "localize",
            *small,
            "--dataset",
            "phantom-lesions",
            "--num-images",
            2,
            "--out",
            out / "localisation",
        ),
        ("export", "--backbone", "phantom", "--image-size", 64, *neurons, "--quiet", "--out", out / "a.onnx"),
        (
            *("zero-shot", "--backbone", "phantom-clip", *small[2:], "--classes", "a,b"),
            *("--neurons", out / "clip.json", "--out", out / "scores.json", one),
        ),
        ("reproduce", "medical", *rehearsal, "--roots", f"aptos={root}", "--out", out / "medical"),
        ("reproduce", "decoupling", *rehearsal, *table, "--num-images", 6, "--out", out / "decoupling"),
        (
            "reproduce",
            "zero-ablation",
            "--backbone",
            "phantom-reg4",
            *rehearsal[2:],
            *table,
            "--analysis-images",
            8,
            "--out",
            out / "zero",
        ),
        # Weights that are not there are not looked for elsewhere.
        (
            "detect",
            "--backbone",
            "timm:vit_tiny_patch16_224",
            *small[2:],
            "--images",
            one,
            "--out",
            out / "r",
        ),
    ]


ONE_BY_ONE = """
import json, sys
from ttr.cli import main
for words in json.load(open(sys.argv[1])):
    sys.argv = ["ttr", *words]
    try:
        main()
    except SystemExit:
        pass
"""


@pytest.mark.slow
def test_no_command_reaches_out(root, tmp_path):
    from ttr.backbones.loading import load
    from ttr.registers.neurons import RegisterNeurons

    record, plan = tmp_path / "reached", tmp_path / "plan.json"
    RegisterNeurons.from_pairs(load("phantom-clip", image_size=64).planted).save(tmp_path / "clip.json")
    plan.write_text(json.dumps([list(map(str, words)) for words in commands(root, tmp_path)]))
    done = python(record, "-c", ONE_BY_ONE, plan)
    assert "this should not happen" not in done.stderr
    assert reached(record) == ""
    made = {path.name for path in tmp_path.iterdir()}
    wanted = {"demo", "tune", "compare", "bench", "clahe", "ablation", "integration", "decoupling", "zero"}
    wanted |= {"localisation", "scan", "study", "readers"}
    assert {*wanted, "shards", "page.html", "neurons.json", "a.onnx", "scores.json", "r"} <= made
    assert "nothing is off" in done.stdout  # the doctor imported every library


@pytest.mark.slow
def test_the_page_reaches_out_to_nobody(tmp_path):
    record = tmp_path / "reached"
    command = [sys.executable, "-m", "ttr", "app", "--backbone", "phantom", "--no-browser", "--port", "0"]
    command += ["--image-size", "64"]
    page = subprocess.Popen(command, env=environment(record), stdout=subprocess.PIPE, text=True)
    try:
        assert page.stdout is not None
        address = next(word for line in page.stdout for word in line.split() if word.startswith("http://"))
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(urllib.error.HTTPError):  # 503 until it is ready
                urllib.request.urlopen(f"{address.rstrip('/')}/healthz").close()
                break
            time.sleep(0.5)
        with urllib.request.urlopen(address) as answer:
            assert b"gradio" in answer.read()
    finally:
        page.send_signal(signal.SIGTERM)
        page.wait(60)
    assert reached(record) == ""
