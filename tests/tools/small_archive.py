"""A DICOMweb archive in this process: what clients ask of one, and faults on demand."""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom

from tests.tools.dicom_files import PATIENT

#: A fault: takes the handler and the number of the request, and returns whether it answered.
Fault = Callable[["_Handler", int], bool]


@dataclass
class SmallArchive:
    """Instances by UID, served at ``url``; a context manager.

    Attributes:
        instances: {(study, series, instance): file}.
        login: user and password that it asks for, or None.
        token: that it asks for, or "".
        fault: what happens instead of an answer, sometimes.
        pages: whether it knows pages; some archives send everything again and again.
        most: entries of a page at most, whatever is asked for.
        refused: UIDs that it does not store.
        certificate: PEM file with key and certificate: it speaks TLS.
        requests: (method, path) of what was asked.
        queries: what was asked for in each query.
        stored: how often each instance was stored.
    """

    instances: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    token: str = ""
    fault: Fault | None = None
    pages: bool = True
    most: int = 1 << 30
    refused: set[str] = field(default_factory=set)
    certificate: Path | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    stored: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> SmallArchive:
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"archive": self}))
        self._server.daemon_threads = True
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        run = {"target": self._server.serve_forever, "kwargs": {"poll_interval": 0.01}}
        threading.Thread(daemon=True, **run).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_port}/dicom-web"

    def put(self, content: bytes) -> pydicom.Dataset:
        """Take an instance in; return it."""
        data = pydicom.dcmread(BytesIO(content))
        key = str(data.StudyInstanceUID), str(data.SeriesInstanceUID), str(data.SOPInstanceUID)
        self.instances[key] = content
        return data

    def read(self) -> list[pydicom.Dataset]:
        """Return all instances."""
        return [pydicom.dcmread(BytesIO(content)) for content in list(self.instances.values())]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    archive: SmallArchive
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # heads and bodies in one packet: a client waits for none

    def do_GET(self) -> None:
        self._handle(self._found)

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self._handle(self._store)

    def _handle(self, answer: Callable[[list[str], dict[str, str]], None]) -> None:
        archive, parts = self.archive, urlsplit(self.path)
        archive.requests.append((self.command, parts.path))
        if archive.fault is not None and archive.fault(self, len(archive.requests)):
            return
        if not self._let_in():
            return self.say(401)
        words = [word for word in parts.path.removeprefix("/dicom-web").split("/") if word]
        answer(words, {key: value[0] for key, value in parse_qs(parts.query).items()})

    def _let_in(self) -> bool:
        archive = self.archive
        wanted = f"Bearer {archive.token}" if archive.token else None
        if archive.login is not None:
            wanted = "Basic " + base64.b64encode(":".join(archive.login).encode()).decode()
        return wanted is None or self.headers["Authorization"] == wanted

    def _found(self, words: list[str], query: dict[str, str]) -> None:
        if words == ["series"] or (len(words) == 3 and words[2] == "series"):
            self.archive.queries.append(query)
            return self._list(self._series(words[1] if words[0] == "studies" else None, query), query)
        if words[0::2] == ["studies", "series", "instances"] and len(words) == 5:
            of = [key for key in self.archive.instances if key[:2] == (words[1], words[3])]
            return self._list([self._said(key, "instance") for key in sorted(of)], query)
        if words[0::2] == ["studies", "series", "instances"] and len(words) == 6:
            content = self.archive.instances.get((words[1], words[3], words[5]))
            if content is not None:
                return self.send_parts([content])
        self.say(404)

    def _series(self, study: str | None, query: dict[str, str]) -> list[dict[str, Any]]:
        found = {}
        for key in sorted(self.archive.instances):
            said = self._said(key, "series")
            wanted = [(study, "0020000D"), (query.get("SeriesInstanceUID"), "0020000E")]
            wanted.append((query.get("Modality"), "00080060"))
            if all(value is None or said[tag]["Value"] == [value] for value, tag in wanted):
                found[key[:2]] = said
        return list(found.values())

    def _said(self, key: tuple[str, str, str], level: str) -> dict[str, Any]:
        data = pydicom.dcmread(BytesIO(self.archive.instances[key]), stop_before_pixels=True)
        said = {
            "0020000D": {"vr": "UI", "Value": [key[0]]},
            "0020000E": {"vr": "UI", "Value": [key[1]]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": PATIENT["PatientName"]}]},
            "00080060": {"vr": "CS", "Value": [data.get("Modality") or "OT"]},
        }
        if level == "instance":
            said["00080018"] = {"vr": "UI", "Value": [key[2]]}
            if "NumberOfFrames" in data:
                said["00280008"] = {"vr": "IS", "Value": [int(data.NumberOfFrames)]}
        return said

    def _list(self, found: list[dict[str, Any]], query: dict[str, str]) -> None:
        if self.archive.pages:
            start = int(query.get("offset", 0))
            found = found[start : start + min(self.archive.most, int(query.get("limit", 1 << 30)))]
        self.say(200 if found else 204, json.dumps(found).encode() if found else b"")

    def _store(self, words: list[str], query: dict[str, str]) -> None:
        boundary = re.search(r"boundary=([^;\s]+)", self.headers["Content-Type"])[1].encode()
        assert self.body.endswith(b"\r\n--" + boundary + b"--\r\n")
        content = self.body.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n--" + boundary + b"--\r\n")
        data = pydicom.dcmread(BytesIO(content))
        uid = str(data.SOPInstanceUID)
        assert words == ["studies", str(data.StudyInstanceUID)]
        named = {"00081155": {"vr": "UI", "Value": [uid]}}
        if uid in self.archive.refused:
            failed = {**named, "00081197": {"vr": "US", "Value": [0xC000]}}
            return self.say(409, json.dumps({"00081198": {"vr": "SQ", "Value": [failed]}}).encode())
        self.archive.put(content)
        self.archive.stored[uid] += 1
        self.say(200, json.dumps({"00081199": {"vr": "SQ", "Value": [named]}}).encode())

    def send_parts(self, parts: list[bytes]) -> None:
        """Answer with instances."""
        body = b"".join(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts)
        self.say(200, body + b"\r\n--b--\r\n", 'multipart/related; type="application/dicom"; boundary=b')

    def say(
        self, status: int, content: bytes = b"", kind: str = "application/dicom+json", **head: str
    ) -> None:
        """Answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in head.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass
