"""Connections: who dawdles is left, who brings too many is not served, and a signal ends everything soon."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from ttr.apps.service import listening
from ttr.apps.service.listening import Connection


async def late(scope, receive, send):
    """Answer at once, but take a second where a second is asked for."""
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/later":
        await asyncio.sleep(0.8)
    size = b"0" * (20_000_000 if scope["path"] == "/much" else 2)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(size))]}
    )
    await send({"type": "http.response.body", "body": size})


@contextmanager
def served(**changes):
    kind = type("Connection", (Connection,), changes)
    server = uvicorn.Server(
        uvicorn.Config(
            late, http=kind, ws="none", lifespan="off", log_level="critical", timeout_keep_alive=30
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        yield bound.getsockname()
        server.should_exit = True
        thread.join(30)


def until_closed(connection):
    """Return all that comes until the server closes."""
    connection.settimeout(30)
    found = b""
    with connection:
        while part := connection.recv(65536):
            found += part
    return found


def test_a_head_that_trickles_in_wins_no_time():
    with served(head=0.3) as place:
        connection = socket.create_connection(place)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        stopped = threading.Event()

        def drip():
            while not stopped.wait(0.05):
                try:
                    connection.sendall(b"X-A: b\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            found = until_closed(connection)
        except ConnectionError:  # what dripped in after the end
            found = b"HTTP/1.1 408 "
        stopped.set()
        thread.join()
        assert found.startswith(b"HTTP/1.1 408 ")
        assert until_closed(socket.create_connection(place)) == b""  # who says nothing at all is told nothing


def test_an_answer_may_take_longer_than_a_head_and_the_next_head_is_waited_for_anew():
    ask = b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n"
    with served(head=0.4) as place:
        connection = socket.create_connection(place)
        connection.sendall(ask)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert b"HTTP/1.1 408 " in until_closed(connection)


def test_a_body_that_nobody_reads_is_not_waited_for():
    with served(head=0.3) as place:
        connection = socket.create_connection(place)
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
        time.sleep(0.1)
        connection.sendall(b"x")
        found = until_closed(connection)
        assert found.startswith(b"HTTP/1.1 200")


def test_one_address_has_so_many_connections_and_no_more(monkeypatch):
    with served(each=3) as place:
        some = [socket.create_connection(place) for _ in range(3)]
        for each in some:  # answered: the server has met it
            each.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert each.recv(1000).startswith(b"HTTP/1.1 200")
        assert until_closed(socket.create_connection(place)).startswith(b"HTTP/1.1 503 ")
        some[0].close()
        for each in some[1:]:
            each.close()


def test_an_answer_that_is_not_taken_is_dropped(monkeypatch):
    monkeypatch.setattr(listening, "TAKEN", 0.3)
    with served() as place:
        connection = socket.create_connection(place)
        connection.sendall(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1)
        with pytest.raises((ConnectionError, AssertionError)):
            assert len(until_closed(connection)) > 20_000_000


BUSY = """
import signal, socket, sys, threading, time
from ttr.apps.service import listening
from ttr.apps.service.private_folder import private_folder
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as the command does
listening.LAST = 0.5
async def app(scope, receive, send):
    if scope["type"] == "http":
        threading.Thread(target=time.sleep, args=(600,)).start()  # nothing that could be cancelled
        print("busy", flush=True)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
with socket.create_server(("127.0.0.1", 0)) as bound, private_folder() as folder:
    (folder / "upload.png").write_bytes(b"x")
    visitor = socket.create_connection(bound.getsockname())
    visitor.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 9\\r\\n\\r\\n")
    listening.listen(app, bound, folder, proxied=False)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_seconds_though_a_thread_computes(tmp_path, number):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "busy\n"
            assert [each.name for each in tmp_path.glob("*/upload.png")] == ["upload.png"]
            process.send_signal(number)
            began = time.monotonic()
            process.wait(60)
            assert time.monotonic() - began < 20  # not 600; a loaded machine may be late
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == []
