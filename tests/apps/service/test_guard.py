"""What stands before the widget library: pages elsewhere read nothing and do nothing; links may come."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from ttr.apps.service.address import Address
from ttr.apps.service.guard import OPEN, Guard

HOST = "127.0.0.1:7860"
PUBLIC = Address.of("127.0.0.1", "https://ttr.example.org/page")
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
COOKIES = (
    ("access-token-a", "t; HttpOnly; Path=/; SameSite=none; Secure"),
    ("access-token-unsecure-a", "t; HttpOnly; Path=/; SameSite=lax"),
    ("bare", "t"),
)


class Careless:
    """An application that answers anybody, allows any origin and tells what it was asked."""

    def __init__(self):
        self.asked = []

    async def __call__(self, scope, receive, send):
        assert scope["type"] == "http"
        request = Request(scope)
        self.asked.append(request)
        leave = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"}
        if scope["path"] == "/gradio_api/queue/data":
            answer = StreamingResponse(iter([b"data: 1\n\n"]), media_type="text/event-stream", headers=leave)
        else:
            answer = JSONResponse({"path": scope["path"], "url": str(request.url)}, headers=leave)
        for name, value in COOKIES:
            answer.raw_headers.append((b"set-cookie", f"{name}={value}".encode()))
        await answer(scope, receive, send)


@pytest.fixture
def careless():
    return Careless()


def asks(careless, address=None, host=HOST, scheme="http"):
    return TestClient(Guard(careless, address or Address()), base_url=f"{scheme}://{host}")


PATHS = ("/", "/config", "/gradio_api/queue/data", "/gradio_api/file=/tmp/x.png", "/logout", "/healthz")


@pytest.mark.parametrize(
    "source",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:8000",
        "http://localhost:7860",
        "https://127.0.0.1:7860",
    ],
)
def test_another_origin_is_refused_before_the_library_sees_it(careless, source):
    asked = asks(careless)
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answers = [asked.get(path, headers={"Origin": source}) for path in PATHS]
    answers += [
        asked.post(f"/gradio_api/{path}", headers={"Origin": source}) for path in ("upload", "queue/join")
    ]
    answers.append(asked.options("/gradio_api/queue/join", headers={"Origin": source, **preflight}))
    answers.append(asked.get("/", headers={"Origin": source, **LINK}))
    for answer in answers:
        assert answer.status_code == 403
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert careless.asked == []


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything-new"])
def test_another_site_may_link_to_the_page_and_do_nothing_else(careless, site):
    asked, said = asks(careless), {"Sec-Fetch-Site": site}
    for path in PATHS:
        assert asked.get(path, headers={**said, "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    for path in PATHS[1:]:
        assert asked.get(path, headers={**said, **LINK}).status_code == 403
    assert asked.post("/login", headers={**said, **LINK}).status_code == 403
    frame = {**said, **LINK, "Sec-Fetch-Dest": "iframe"}
    assert asked.get("/", headers=frame).status_code == 403
    assert careless.asked == []
    assert asked.get("/", headers={**said, **LINK}).status_code == 200


def test_the_page_itself_and_programs_are_answered(careless):
    asked = asks(careless)
    own = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
    assert asked.post("/gradio_api/queue/join", headers=own).status_code == 200
    assert asked.get("/config", headers={"Sec-Fetch-Site": "none"}).status_code == 200
    assert asked.get("/config").status_code == 200


def test_nobody_opens_a_socket(careless):
    with pytest.raises(WebSocketDisconnect), asks(careless).websocket_connect("/gradio_api/queue/join"):
        pass


def test_what_the_page_does_not_ask_for_is_not_there(careless):
    asked = asks(careless)
    closed = (
        "/docs",
        "/openapi.json",
        "/monitoring",
        "/login/",
        "/gradio_api/info",
        "/gradio_api/call/x",
        "/x",
    )
    closed += (
        "/gradio_api/proxy=https://example.org",
        "/gradio_api/file=https://example.org/x",
        "/gradio_api/token",
    )
    closed += (
        "/gradio_api/component_server/",
        "/gradio_api/file=HTTP://example.org/x",
        "/gradio_api/api/predict",
    )
    for path in closed:
        assert asked.get(path).status_code == 404, path
    assert asked.delete("/config").status_code == 405
    assert careless.asked == []
    for path in OPEN:
        assert asked.get(path).status_code == 200


def test_every_answer_carries_the_pages_own_headers_and_leave_for_nobody(careless):
    asked = asks(careless)
    for path in (*PATHS, "/nothing", "/assets/a.js"):
        found = asked.get(path).headers
        assert not any(name.startswith("access-control") for name in found)
        assert "default-src 'self'" in found["content-security-policy"]
        assert "frame-ancestors 'none'" in found["content-security-policy"]
        wanted = ("DENY", "nosniff", "no-referrer", "same-origin")
        names = (
            "x-frame-options",
            "x-content-type-options",
            "referrer-policy",
            "cross-origin-resource-policy",
        )
        assert tuple(found[name] for name in names) == wanted
        assert found.get("cache-control") == (None if path.startswith("/assets/") else "no-store")
    assert asked.get("/gradio_api/queue/data").headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_cookie_goes_to_this_site_alone(careless, scheme):
    cookies = asks(careless, scheme=scheme).get("/").headers.get_list("set-cookie")
    assert [cookie.partition("=")[0] for cookie in cookies] == [name for name, _ in COOKIES]
    for cookie in cookies:
        parts = cookie.split("; ")
        assert parts.count("SameSite=Lax") == parts.count("HttpOnly") == 1
        assert ("Secure" in parts) == (scheme == "https")
        assert "none" not in cookie


def test_what_a_proxy_says_is_believed_only_where_there_is_one(careless):
    said = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "6.6.6.6, 7.7.7.7",
    }
    said |= {
        "Forwarded": "host=evil.example",
        "X-Gradio-Server": "https://evil.example",
        "X-Real-IP": "6.6.6.6",
    }
    assert asks(careless).get("/", headers=said).json()["url"] == f"http://{HOST}/"
    behind = asks(careless, PUBLIC, "ttr.example.org")
    assert behind.get("/page/config", headers=said).json() == {
        "path": "/config",
        "url": "https://ttr.example.org/config",
    }
    behind.get("/config", headers=said | {"X-Forwarded-For": "not an address"})
    direct, proxied, unclear = (request.client.host for request in careless.asked)
    assert proxied == "7.7.7.7"
    assert direct == unclear == "testclient"
    for request in careless.asked:
        assert not any(name.startswith(("x-", "forwarded")) for name in request.headers)


def test_behind_a_proxy_the_public_origin_is_the_only_one(careless):
    for host in ("ttr.example.org", HOST):
        asked = asks(careless, PUBLIC, host)
        for source, status in (
            ("https://ttr.example.org", 200),
            (f"http://{HOST}", 403),
            ("https://evil.example", 403),
        ):
            assert asked.post("/gradio_api/queue/join", headers={"Origin": source}).status_code == status
    assert asks(careless, PUBLIC, HOST).get("/healthz").status_code == 200
    assert asks(careless, PUBLIC, "evil.example").get("/healthz").status_code == 421


def test_a_path_ahead_is_taken_off_whether_the_proxy_leaves_it_or_not(careless):
    asked = asks(careless, Address.of("127.0.0.1", "", "/ttr"))
    assert asked.get("/ttr/config").json()["path"] == asked.get("/config").json()["path"] == "/config"
    assert asked.get("/ttr/").json()["path"] == "/"
    sent = asked.get("/ttr", follow_redirects=False)
    assert (sent.status_code, sent.headers["location"]) == (308, "/ttr/")
    assert asked.get("/ttrx/config").status_code == 404
    assert careless.asked[0].scope["raw_path"] == b"/config"


def test_other_kinds_of_scopes_pass():
    with TestClient(Guard(Starlette(), Address()), base_url=f"http://{HOST}") as asked:
        assert asked.get("/nothing").status_code == 404
