"""``ttr watch``: as a process that is ended and killed, and what it refuses to begin."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

import ttr
from tests.tools.arrived import EACH, SECRETS, SERIES, SIDE, make_few, radiograph, results
from tests.tools.small_archive import SmallArchive

pytest.importorskip("highdicom", reason="writing DICOM needs the extra [dicom]")
pytest.importorskip("prometheus_client", reason="metrics need the extra [dicom]")

#: Seconds until something happens, at most.
PATIENCE = 120


@pytest.fixture
def command(tmp_path):
    file, folder = tmp_path / "n.json", tmp_path / "incoming"
    folder.mkdir()
    (folder / "Muster-Erika.dcm").write_bytes(radiograph(1))
    ttr.RegisterNeurons.from_pairs(ttr.load("phantom", image_size=SIDE).planted).save(file)
    model = ("--backbone", "phantom", "--image-size", SIDE, "--neurons", file)
    return ("watch", "--folder", folder, *model, "--ledger", tmp_path / "ledger.db", "--interval", 0.1)


def until(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sigterm_ends_it_cleanly_once_what_arrived_is_done(command, run, monkeypatch, tmp_path):
    make_few(monkeypatch)
    kept, before = tmp_path / "kept", signal.getsignal(signal.SIGTERM)

    def end():
        until(lambda: list(kept.glob("*/manifest.json")))
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()
    status, out, err = run(*command, "--out", kept, "--health-port", 0)
    signal.signal(signal.SIGTERM, before)
    assert (status, err) == (0, "")
    assert re.search(r"^health: http://127\.0\.0\.1:\d+/healthz and /metrics$", out, re.MULTILINE)
    assert "watching, every 0.1 s" in out
    assert f"series {SERIES}: 1 image with results\n" in out
    assert out.endswith("ended; in the ledger: 1 done\n")
    assert not [secret for secret in (*SECRETS, str(tmp_path / "incoming")) if secret in out]
    held = (tmp_path / "ledger.db").read_bytes()
    assert not [secret for secret in SECRETS if secret.encode() in held]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda words: words, "results would go nowhere"),
        (lambda words: (*words, "--query", "Modality=DX"), "one thing is watched"),
        (lambda words: (words[0], *words[3:], "--query", "Modality=DX"), "name it with --url"),
        (lambda words: (words[0], *words[3:]), "give --folder, or --url with --query"),
        (lambda words: (*words, "--url", "http://pacs.example.org"), "without TLS"),
        (lambda words: (words[0], "--folder", "nowhere", *words[3:], "--out", "o"), "is no folder"),
        (lambda words: (*words, "--out", "o", "--ledger", words[2]), "--ledger"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(change, says, command, run):
    status, out, err = run(*change(command))
    assert (status, out) == (2, "")
    assert says in " ".join(err.split())


@pytest.mark.slow
def test_a_service_that_is_killed_again_and_again_does_each_image_once(command, tmp_path):
    folder, log = tmp_path / "incoming", tmp_path / "log"
    for number in range(2, 5):
        (folder / f"Muster-{number}.dcm").write_bytes(radiograph(number, series=f"1.2.{number}.1"))
    with SmallArchive() as served:
        words = [sys.executable, "-m", "ttr", *map(str, command), "--url", served.url, "--health-port", "0"]
        for _ in range(2):
            process, port = _started(words, log)
            before = sum(served.stored.values())
            until(lambda: sum(served.stored.values()) >= min(before + 7, 4 * EACH))  # noqa: B023
            process.kill()
            process.wait(PATIENCE)
        process, port = _started(words, log)
        health = f"http://127.0.0.1:{port}/healthz"
        # While libraries are loaded, no other thread of the process has a turn.
        until(lambda: httpx.get(health, trust_env=False, timeout=PATIENCE).status_code == 200)
        until(lambda: len(results(served)) == 4 * EACH)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert set(served.stored.values()) == {1}
    assert not [secret for secret in SECRETS if secret in log.read_text()]


def _started(words, log):
    """Return a service and the port of its health once it says it."""
    with log.open("ab") as file:
        begun = log.stat().st_size
        process = subprocess.Popen(words, stdout=file, stderr=file)
    port = []

    def told():
        port[:] = re.findall(r"^health: http://127\.0\.0\.1:(\d+)/", log.read_text()[begun:], re.MULTILINE)
        assert process.poll() is None, log.read_text()
        return port

    until(told)
    return process, int(port[0])
