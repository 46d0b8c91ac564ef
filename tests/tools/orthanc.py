"""A real archive: Orthanc with its DICOMweb plugin, on loopback, with a folder of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.tools.reverse_proxy import free_port

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
PLUGIN = next(
    (
        path
        for folder in ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")
        for path in sorted(Path(folder).glob("libOrthancDicomWeb.so*"))
    ),
    None,
)
WITHOUT = "no Orthanc with DICOMweb here: apt-get install --no-install-recommends orthanc orthanc-dicomweb"
LOGIN = ("tester", "wort-4711")
#: Seconds that it may take to start.
PATIENCE = 60


@contextmanager
def orthanc(folder: Path) -> Iterator[str]:
    """Run Orthanc until the block is left; yield its DICOMweb root."""
    port = free_port()
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": dict([LOGIN]),
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    folder.mkdir(parents=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [ORTHANC, folder / "orthanc.json"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    root = f"http://127.0.0.1:{port}/dicom-web"
    try:
        _wait(root, process, folder / "log")
        yield root
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait(root: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{root}/studies", auth=LOGIN, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())
