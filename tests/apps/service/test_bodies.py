"""Bodies: none too long, none too late, whatever the application makes of one that breaks off."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from ttr.apps.service.bodies import LARGEST, UPLOAD, Bodies

JOIN = "/gradio_api/queue/join"


def run_apart(awaited):
    """Run to the end in a thread of its own: in this one a browser's loop may be running."""

    async def whole():
        return await awaited

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, whole()).result()


async def reads(scope, receive, send):
    await JSONResponse(len(await Request(scope, receive).body()))(scope, receive, send)


async def reads_and_fails(scope, receive, send):
    try:
        await reads(scope, receive, send)
    except Exception:  # as a library does that answers every failure
        await JSONResponse({"error": "inside"}, 500)(scope, receive, send)
        raise


def answer(parts, path=JOIN, app=reads, folder=Path("nowhere"), **limits):
    """Return status and JSON of a request whose body comes in parts; None is a part that never comes."""
    sent, left = [], list(parts)

    async def receive():
        part = left.pop(0)
        if part is None:
            await asyncio.Event().wait()
        if part == "gone":
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}

    async def asked():
        await Bodies(app, folder, **limits)(scope, receive, send)
        await asyncio.sleep(3 * limits.get("patience", 0))

    run_apart(asked())
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1
    return starts[0], json.loads(b"".join(message.get("body", b"") for message in sent))


def test_a_body_within_the_limits_comes_whole():
    start, body = answer([b"a" * 10, b"b" * 5])
    assert (start["status"], body) == (200, 15)
    assert answer([b"x" * LARGEST] * 3, UPLOAD)[1] == 3 * LARGEST


@pytest.mark.parametrize("app", [reads, reads_and_fails])
def test_a_body_too_long_is_refused(app):
    start, body = answer([b"x" * (LARGEST // 2)] * 3, app=app)
    assert start["status"] == 413
    assert "send less" in body["detail"]
    assert (b"connection", b"close") in start["headers"]


@pytest.mark.parametrize("app", [reads, reads_and_fails])
def test_a_body_that_stops_coming_is_given_up(app):
    start, body = answer([b"x" * 1000, None], UPLOAD, app, patience=0.05)
    assert start["status"] == 408
    assert "too slowly" in body["detail"]
    assert (b"connection", b"close") in start["headers"]


def test_a_body_that_trickles_is_given_up_though_it_never_stops():
    async def drip(scope, receive, send):
        async def slowly():
            await asyncio.sleep(0.02)
            return {"type": "http.request", "body": b"x", "more_body": True}

        await Bodies(reads, Path("nowhere"), patience=0.1, slowest=1000)(scope, slowly, send)

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": UPLOAD, "headers": [], "query_string": b""}
    run_apart(asyncio.wait_for(drip(scope, None, send), 60))
    assert sent[0]["status"] == 408


@pytest.mark.parametrize("last", [None, "gone"])
def test_of_an_upload_that_breaks_off_nothing_stays(tmp_path, last):
    whole = tmp_path / "0a1b" / "tmp.png"
    whole.parent.mkdir()
    whole.write_bytes(b"x")
    os.utime(whole, (0, 0))

    async def keeps(scope, receive, send):
        with suppress(ClientDisconnect), tempfile.NamedTemporaryFile(dir=tmp_path, delete=False) as half:
            async for part in Request(scope, receive).stream():
                half.write(part)
        await JSONResponse(sorted(each.name for each in tmp_path.glob("tmp*")))(scope, receive, send)

    answer([b"x" * 9, last], UPLOAD, keeps, tmp_path, patience=0.2)
    assert sorted(tmp_path.rglob("*")) == [whole.parent, whole]


def test_a_failure_of_the_application_stays_one():
    async def fails(scope, receive, send):
        raise RuntimeError("its own")

    with pytest.raises(RuntimeError, match="its own"):
        answer([b"x"], app=fails)
