"""A bare client of the page: it keeps its cookies as a browser does, and sends what a browser would not."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from ttr.apps.service import streams

#: What the controls of the tab Compare are at when the page opens, ahead of its first answer.
CONTROLS = [11, "mean of heads", "CLS"]


class PageClient:
    """One visitor of an application or of an address, with one page open.

    Args:
        asked: an httpx client, such as ``starlette.testclient.TestClient``.
    """

    def __init__(self, asked: Any) -> None:
        self.asked = asked
        self.session = secrets.token_hex(6)
        self.asked.get("/")
        self.config = self.asked.get("/config").json()

    def upload(self, name: str, content: bytes) -> str:
        """Upload a file and return the path that the page would send with its events."""
        answer = self.asked.post("/gradio_api/upload", files={"files": (name, content)})
        assert answer.status_code == 200, answer.text
        return answer.json()[0]

    def event(self, target: str, trigger: str) -> dict[str, Any]:
        """Return the page's event on the widget of a label or identity that takes most inputs."""
        found = [each for each in self.events() if (target, trigger) in self._targets(each)]
        return max(found, key=lambda each: len(each["inputs"]))

    def after(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return what the page asks for once an event is over."""
        return next(each for each in self.events() if each.get("trigger_after") == event["id"])

    def events(self) -> list[dict[str, Any]]:
        """Return all events of the page."""
        return self.config["dependencies"]

    def takes_a_file(self) -> list[dict[str, Any]]:
        """Return the events that are sent a file."""
        return [each for each in self.events() if any(map(self.is_file, each["inputs"]))]

    def only_reads(self, event: dict[str, Any]) -> bool:
        """Return whether an event changes nothing that is seen: another one shows what it has read."""
        return all(self._widget(each)["type"] == "state" for each in event["outputs"])

    def is_file(self, identity: int) -> bool:
        """Return whether a widget is one for files."""
        return self._widget(identity)["type"] in ("file", "downloadbutton")

    def data(self, event: dict[str, Any], *paths: str) -> list[Any]:
        """Return what a page that was just opened sends with an event, and ``paths`` wherever files go."""
        return [self._value(identity, paths) for identity in event["inputs"]]

    def takes_several(self, event: dict[str, Any]) -> bool:
        """Return whether an event is sent several files at once."""
        return any(isinstance(each, list) for each in self.data(event, ""))

    def ask(self, event: dict[str, Any], data: list[Any], session: str | None = None) -> Any:
        """Let an event happen, by the queue or without it, and return the answer to its request."""
        body = {"data": data, "fn_index": event["id"], "session_hash": session or self.session}
        route = "queue/join" if event["queue"] else "run/predict"
        return self.asked.post(f"/gradio_api/{route}", json=body)

    def call(self, event: dict[str, Any], data: list[Any]) -> list[Any]:
        """Let an event happen and return the new values of its outputs."""
        answer = self.ask(event, data)
        assert answer.status_code == 200, answer.text
        if not event["queue"]:
            return answer.json()["data"]
        said = [each for each in self.listen() if each.get("event_id") == answer.json()["event_id"]]
        last = said[-1]
        assert last["msg"] == "process_completed", said
        assert last["success"], last
        return last["output"]["data"]

    def listen(self, session: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield what is said to a session until all of its events are over."""
        where = "/gradio_api/queue/data"
        with self.asked.stream("GET", where, params={"session_hash": session or self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield message
                    if message["msg"] in ("close_stream", "unexpected_error", "server_stopped"):
                        return

    def _widget(self, identity: int) -> dict[str, Any]:
        return next((each for each in self.config["components"] if each["id"] == identity), {})

    def _targets(self, event: dict[str, Any]) -> list[tuple[str, str]]:
        named = []
        for identity, trigger in event["targets"]:
            props = self._widget(identity).get("props", {})
            named += [(props.get(key), trigger) for key in ("label", "elem_id", "value")]
        return named

    def _value(self, identity: int, paths: Sequence[str]) -> Any:
        widget = self._widget(identity)
        if self.is_file(identity):
            kind = {"_type": "gradio.FileData"}
            files = [{"path": path, "orig_name": Path(path).name, "meta": kind} for path in paths]
            several = widget["props"].get("file_count", "single") != "single"
            return (files if several else files[0]) if files else None
        return widget["props"].get("value")


@contextmanager
def visitors(app: Any, count: int = 1) -> Iterator[list[PageClient]]:
    """Yield visitors of an application that runs until the block is left."""
    from starlette.testclient import TestClient

    def new() -> TestClient:
        return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

    # A client in this process never lets go of a stream.
    with mock.patch.object(streams, "PATIENCE", 0), new() as first:
        others = [new() for _ in range(count - 1)]
        for other in others:
            other.portal = first.portal
        yield [PageClient(each) for each in (first, *others)]
