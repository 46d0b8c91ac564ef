"""What is asked while a stream of answers ends is heard of only after that end, so that no answer is lost."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from gradio.server_messages import CloseStreamMessage

from ttr.apps.service import streams
from ttr.apps.service.messages import DATA, JOIN
from ttr.apps.service.streams import END, Streams

#: Words within an answer, and no end.
QUOTED = b'data: {"msg":"process_completed","output":"data: {\\"msg\\":\\"close_stream\\"}"}'
CLOSE = b"data: " + orjson.dumps(CloseStreamMessage().model_dump(), default=str) + b"\n\n"


async def library(scope, receive, send):
    """A stream says ``says`` and ends; a question is taken."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == DATA:
        assert not any(name == b"accept-encoding" for name, _ in scope["headers"])
        await send({"type": "http.response.body", "body": scope["says"], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    else:
        assert json.loads((await receive())["body"])["session_hash"]
        await send({"type": "http.response.body", "body": b"taken", "more_body": False})


class Page:
    """What a page's script sends and hears."""

    def __init__(self):
        self.gate, self.lets_go, self.heard = Streams(library), asyncio.Event(), []

    async def listens(self, session, says=CLOSE):
        async def receive():
            await self.lets_go.wait()
            return {"type": "http.disconnect"}

        query = f"session_hash={session}".encode()
        headers = [(b"accept-encoding", b"br")]
        scope = {"type": "http", "path": DATA, "query_string": query, "headers": headers, "says": says}
        await self.gate(scope, receive, self._hears("stream"))

    async def asks(self, session):
        body = json.dumps({"session_hash": session}).encode()

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        await self.gate({"type": "http", "path": JOIN, "headers": []}, receive, self._hears(session))

    def _hears(self, what):
        async def send(message):
            if message.get("body"):
                self.heard.append((what, message["body"]))

        return send


def run(visit):
    """Run a visit in a thread: beside a browser's own loop no other may run."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, visit()).result()


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_question_that_meets_the_end_of_a_stream_is_taken_aloud_after_it_was_heard():
    async def visit():
        page = Page()
        tasks = [asyncio.create_task(page.listens("mine"))]
        await settled()
        tasks += [asyncio.create_task(page.asks(each)) for each in ("mine", "another")]
        await settled()
        assert page.heard == [("stream", CLOSE), ("another", b"taken")]
        page.lets_go.set()
        await asyncio.gather(*tasks)
        assert page.heard[2:] == [("mine", b"taken")]
        await page.asks("mine")
        assert page.heard[3:] == [("mine", b"taken")]

    run(visit)


@pytest.mark.parametrize(("says", "patience"), [(CLOSE, 0.0), (QUOTED, 1e6)])
def test_nobody_waits_for_a_page_that_is_gone_or_for_words_like_an_end(monkeypatch, says, patience):
    monkeypatch.setattr(streams, "PATIENCE", patience)

    async def visit():
        page = Page()
        await asyncio.gather(page.listens("mine", says), page.asks("mine"))
        assert ("mine", b"taken") in page.heard
        assert page.gate._ending == {}

    run(visit)


def test_the_library_says_the_end_of_a_stream_as_the_gate_knows_it():
    assert CLOSE.startswith(END)
