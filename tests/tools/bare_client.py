"""A bare client of the page: it sends what a browser never would, and returns the answers as they came."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx

API = "/gradio_api"


@dataclass
class BareClient:
    """One visitor.

    Attributes:
        http: where the page is; its base URL ends before ``/gradio_api``.
        session: what the page's script calls itself.
    """

    http: httpx.Client
    session: str = field(default_factory=lambda: secrets.token_hex(5))

    def login(self, password: str, user: str = "ttr") -> httpx.Response:
        """Send a password."""
        return self.http.post("/login", data={"username": user, "password": password})

    def functions(self) -> list[dict[str, Any]]:
        """Return what the page says of its functions, without those that run in the browser."""
        return [each for each in self.http.get("/config").json()["dependencies"] if each["backend_fn"]]

    def openings(self) -> list[dict[str, Any]]:
        """Return the functions with which the page opens: the sample image is read, then analysed."""
        functions = self.functions()
        loads = [each for each in functions if any(event == "load" for _, event in each["targets"])]
        return next(
            [load, after] for after in functions for load in loads if after.get("trigger_after") == load["id"]
        )

    def opening(self) -> dict[str, Any]:
        """Return the function that analyses an image."""
        return self.openings()[-1]

    def values(self, function: dict[str, Any]) -> list[Any]:
        """Return what the widgets hold at first of which a function takes the values."""
        widgets = {each["id"]: each["props"] for each in self.http.get("/config").json()["components"]}
        return [widgets[each].get("value") for each in function["inputs"]]

    def upload(self, name: str, content: bytes) -> httpx.Response:
        """Upload one file."""
        return self.http.post(f"{API}/upload", files={"files": (name, content)})

    def join(self, function: Any, data: Any, **more: Any) -> httpx.Response:
        """Ask for an event in the queue."""
        body = {"fn_index": function, "data": data, "session_hash": self.session, **more}
        return self.http.post(f"{API}/queue/join", json=body)

    def wait(self, event: str) -> dict[str, Any]:
        """Return how an event ended, as the stream of the session tells it."""
        with self.http.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as stream:
            stream.raise_for_status()
            for line in stream.iter_lines():
                said = json.loads(line[5:]) if line.startswith("data:") else {}
                if said.get("event_id") == event and said.get("msg") == "process_completed":
                    return said
        raise AssertionError("the stream ended before the event")

    def open(self) -> list[Any]:
        """Open the page: return the values that its first events show."""
        for function in self.openings():
            joined = self.join(function["id"], self.values(function))
            joined.raise_for_status()
            ended = self.wait(joined.json()["event_id"])
            assert ended["success"], ended
        return ended["output"]["data"]
