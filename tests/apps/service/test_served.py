"""The page in a process of its own, ended in every way and visited by those who never finish."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import suppress

import httpx
import pytest

from tests.tools.app_page import serve_page
from tests.tools.bare_client import BareClient
from ttr.apps.service.listening import EACH, HEAD, LAST

pytestmark = pytest.mark.slow


def _listen(url):
    with suppress(httpx.HTTPError):
        httpx.get(url, timeout=None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_page_that_computes_is_gone_within_seconds_of_a_signal(tmp_path, number):
    with serve_page(tmp_path) as served, httpx.Client(base_url=served.address, timeout=120) as http:
        visitor = BareClient(http)
        opening = visitor.opening()
        values = visitor.values(opening)
        assert visitor.upload("a.png", b"x").status_code == 200
        for _ in range(16):
            assert visitor.join(opening["id"], values).status_code == 200
        endless = f"{served.address}/gradio_api/heartbeat/x"
        threading.Thread(target=_listen, args=(endless,), daemon=True).start()
        time.sleep(0.5)
        began = time.monotonic()
        served.process.send_signal(number)
        served.process.wait(60)
        assert time.monotonic() - began < 5 * LAST  # on a machine that does little else, LAST and a bit
        assert list(tmp_path.glob("*ttr-*")) == []
        assert "Traceback" not in served.log.read_text()


def test_the_next_start_forgets_what_a_killed_page_left(tmp_path):
    with serve_page(tmp_path) as served, httpx.Client(base_url=served.address, timeout=120) as http:
        assert BareClient(http).upload("patient.png", b"x").status_code == 200
        served.process.kill()
        served.process.wait(60)
    assert list(tmp_path.rglob("patient.png")) != []
    with serve_page(tmp_path) as one, serve_page(tmp_path) as other:
        assert list(tmp_path.rglob("patient.png")) == []
        assert len(list(tmp_path.glob("ttr-app-*"))) == 2
        assert one.health() == other.health() == 200


def test_visitors_who_never_finish_keep_nobody_out(tmp_path):
    begun = b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
    begun += b"Content-Type: multipart/form-data; boundary=b\r\n"
    part = b'\r\n--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nxx'
    with serve_page(tmp_path) as served:
        place = ("127.0.0.1", int(served.address.rpartition(":")[2]))
        heads = [socket.create_connection(place) for _ in range(EACH - 40)]
        bodies = [socket.create_connection(place) for _ in range(20)]
        for each in heads:
            each.sendall(begun)
        for each in bodies:
            each.sendall(begun + part)
        began = time.monotonic()
        assert served.health() == 200
        assert time.monotonic() - began < 5
        for each in heads:
            each.settimeout(HEAD + 20)
            assert each.recv(100).startswith(b"HTTP/1.1 408 ")
        for each in bodies:
            each.settimeout(60)
            assert each.recv(100).startswith(b"HTTP/1.1 408 ")
        assert served.health() == 200
        assert "Traceback" not in served.log.read_text()
