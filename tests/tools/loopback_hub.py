"""A Hugging Face hub on loopback: enough of its protocol for the hub's own client, and faults on demand.

Small files are answered in place and named by their git hash. Weights are answered as the hub answers
large files: a redirect to another host, with the SHA-256 and the size, and there any range of bytes.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")
#: Error code of the hub, and the status that goes with it.
STATUS = {"RepoNotFound": 401, "GatedRepo": 403, "RevisionNotFound": 404, "EntryNotFound": 404, "Down": 503}


@dataclass(frozen=True)
class Request:
    """What the client asked: a method, a path, and the range of bytes ("" for all)."""

    method: str
    path: str
    range: str


@dataclass
class LoopbackHub:
    """Repositories served at ``endpoint``; ``requests`` is what was asked for.

    Attributes:
        repositories: {owner/name: {file: content}}.
        refused: {owner/name: error code}, a key of ``STATUS``.
        cuts: the next transfers of large files end after so many bytes each.
        damaged: whether one bit of every large file flips on the way.
        silent: whether requests are taken and never answered.
    """

    repositories: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    damaged: bool = False
    silent: bool = False
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> LoopbackHub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._closed = threading.Event()
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening: from now on the hub is out of reach."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def storage(self) -> str:
        """Address of the large storage: another host to the client, which sends no token there."""
        return f"http://localhost:{self._server.server_port}/storage"

    def publish(self, repository: str, files: Mapping[str, bytes]) -> None:
        self.repositories[repository] = dict(files)

    def commit(self, repository: str) -> str:
        content = b"".join(name.encode() + data for name, data in self.repositories[repository].items())
        return hashlib.sha1(content).hexdigest()

    def transfers(self) -> list[Request]:
        """Requests for the content of a file, not only for what is known of it."""
        return [each for each in self.requests if each.method == "GET" and not each.path.startswith("api/")]


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range", "")))
        if self.hub.silent:
            self.hub._closed.wait()
        elif path.startswith("storage/"):
            self._storage(path.removeprefix("storage/"))
        elif path.startswith("api/models/"):
            owner, name, *rest = path.removeprefix("api/models/").split("/")
            self._api(f"{owner}/{name}", rest)
        elif path.count("/") >= 4:
            owner, name, _, revision, file = path.split("/", 4)
            self._resolve(f"{owner}/{name}", revision, file)
        else:
            self._answer(404, {})

    def do_GET(self) -> None:
        self.do_HEAD()

    def _resolve(self, repository: str, revision: str, file: str) -> None:
        if not self._refused(repository, revision):
            commit = {"X-Repo-Commit": self.hub.commit(repository)}
            content = self.hub.repositories[repository].get(file)
            if content is None:
                self._answer(404, {"X-Error-Code": "EntryNotFound", **commit})
            elif file.endswith(LARGE):
                sha, size = hashlib.sha256(content).hexdigest(), str(len(content))
                linked = {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": size}
                self._answer(302, {**linked, **commit, "Location": f"{self.hub.storage}/{sha}"})
            else:
                self._answer(200, {"ETag": f'"{_git_hash(content)}"', **commit}, content)

    def _storage(self, sha: str) -> None:
        files = (data for files in self.hub.repositories.values() for data in files.values())
        content = next(data for data in files if hashlib.sha256(data).hexdigest() == sha)
        if self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        end = self.hub.cuts.pop(0) if self.hub.cuts and self.command == "GET" else len(content)
        self._answer(206 if start else 200, {"ETag": f'"{sha}"', **span}, content[start:], end)

    def _api(self, repository: str, rest: list[str]) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        if self._refused(repository, revision):
            return
        files = self.hub.repositories[repository]
        answer: Any = {
            "id": repository,
            "sha": self.hub.commit(repository),
            "siblings": [{"rfilename": name} for name in files],
        }
        if rest[:1] == ["tree"]:
            answer = [
                {"type": "file", "path": name, "size": len(data), "oid": _git_hash(data)}
                for name, data in files.items()
            ]
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _refused(self, repository: str, revision: str) -> bool:
        code = self.hub.refused.get(repository)
        if code is None and repository not in self.hub.repositories:
            code = "RepoNotFound"
        elif code is None and revision not in ("main", self.hub.commit(repository)):
            code = "RevisionNotFound"
        if code is not None:
            self._answer(STATUS[code], {"X-Error-Code": code})
        return code is not None

    def _answer(
        self, status: int, headers: Mapping[str, str], content: bytes = b"", end: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Connection": "close", "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:end])

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the tests read ``requests``."""


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
