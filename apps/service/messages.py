"""What the gates share: the routes that the page's script asks, bodies read whole, and refusals in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive, Scope, Send

API = "/gradio_api"
UPLOAD, FILE, HEARTBEAT = f"{API}/upload", f"{API}/file", f"{API}/heartbeat/"
JOIN, PREDICT, CANCEL, RESET = (f"{API}/{name}" for name in ("queue/join", "run/predict", "cancel", "reset"))
DATA = f"{API}/queue/data"


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    why: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with a sentence; the page's script shows it as it is."""
    from starlette.responses import JSONResponse

    await JSONResponse({"detail": why}, status, headers)(scope, receive, send)


async def whole_body(receive: Receive) -> bytes | None:
    """Return the body of a request; None: who sent it left."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def with_json(scope: Scope, receive: Receive, body: bytes) -> tuple[Scope, Receive]:
    """Return a request as it is, but with this JSON for its body."""
    replaced = (b"content-type", b"content-length", b"transfer-encoding")
    headers = [each for each in scope["headers"] if each[0].lower() not in replaced]
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return left.pop() if left else await receive()

    return {**scope, "headers": headers + own}, replayed
