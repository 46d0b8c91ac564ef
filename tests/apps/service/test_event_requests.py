"""Events: one of the page's functions with its values, or 400 and a sentence; never a failure."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from ttr.apps.service.event_requests import CANCEL, DEEPEST, FULL, JOIN, PREDICT, RESET, Events


def widget(name):
    return SimpleNamespace(get_block_name=lambda: name)


WIDGETS = ("checkbox", "dropdown", "number", "radio", "slider", "textbox")
FUNCTIONS = {
    3: SimpleNamespace(fn=print, queue=True, inputs=[widget("state"), widget("file")]),
    4: SimpleNamespace(fn=print, queue=False, inputs=[widget("textbox")]),
    5: SimpleNamespace(fn=print, queue=False, inputs=[widget(name) for name in WIDGETS]),
    6: SimpleNamespace(fn=None, queue=False, inputs=[widget("textbox")]),
}
GOOD = {"session_hash": "abc", "fn_index": 3, "data": [1, None]}


async def echo(scope, receive, send):
    request = Request(scope, receive)
    if failure := request.headers.get("x-fails"):
        await JSONResponse({"error": json.loads(failure)}, 500)(scope, receive, send)
        return
    if request.headers.get("x-full"):
        await JSONResponse({"detail": "Queue is full. Max size is 16"}, 503)(scope, receive, send)
        return
    body = await request.body()
    assert int(request.headers["content-length"]) == len(body)
    await JSONResponse(json.loads(body))(scope, receive, send)


@pytest.fixture
def asked():
    return TestClient(Events(echo, FUNCTIONS))


def test_an_event_of_the_page_is_handed_on_with_nothing_but_its_own_fields(asked):
    extra = {"batched": True, "simple_format": True, "oauth_token": "x", "request": {}, "event_id": "z"}
    found = asked.post(JOIN, json={**GOOD, **extra, "trigger_id": 7, "event_data": {"a": [1]}})
    assert found.json() == {**GOOD, "trigger_id": 7, "event_data": {"a": [1]}}
    assert asked.post(PREDICT, json={**GOOD, "fn_index": 4, "data": ["é"]}).json()["data"] == ["é"]
    stop = {"session_hash": "abc", "fn_index": 3, "event_id": "e1"}
    assert asked.post(CANCEL, json={**stop, "more": 1}).json() == stop


@pytest.mark.parametrize("number", [99, -1, 10**30, 3.0, 3.5, "3", True, None, [3], {}])
@pytest.mark.parametrize("path", [JOIN, PREDICT, CANCEL])
def test_a_function_that_is_none_is_refused(asked, path, number):
    found = asked.post(path, json={**GOOD, "event_id": "e", "fn_index": number})
    assert found.status_code == 400
    assert found.json()["detail"].endswith("reload this page and try again.")


def test_a_function_of_the_browser_alone_is_none_of_the_server(asked):
    for path in (PREDICT, CANCEL):
        found = asked.post(path, json={**GOOD, "fn_index": 6, "data": ["a"], "event_id": "e"})
        assert found.status_code == 400
        assert "no such function" in found.json()["detail"]


def test_who_has_stopped_an_event_names_it(asked):
    assert asked.post(RESET, json={"event_id": "e1", "more": 1}).json() == {"event_id": "e1"}
    for body in ({}, {"event_id": 1}, {"event_id": "a/b"}, {"event_id": "e1", "more": "\ud800"}, []):
        assert asked.post(RESET, content=json.dumps(body)).status_code == 400


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb", ["\ud800"], {"\ud800": 1}, {"a": ["\udc00"]}])
def test_half_of_a_letter_is_refused_and_a_whole_one_is_not(asked, value):
    for path in (JOIN, CANCEL):
        body = json.dumps({**GOOD, "event_id": "e", "data": [1, value]})
        assert asked.post(path, content=body).status_code == 400
    assert asked.post(JOIN, content=json.dumps({**GOOD, "data": [1, "\U0001f9e0"]})).status_code == 200


def test_an_event_that_waits_and_one_that_does_not_have_a_door_each(asked):
    assert asked.post(JOIN, json={**GOOD, "fn_index": 4, "data": [1]}).status_code == 400
    assert asked.post(PREDICT, json=GOOD).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"data":' * 100_000),
        *(b'{"a": NaN}', b"1" * 10_000, json.dumps([GOOD]).encode(), b"x" * 1000, b"--b\r\n\r\n"),
        *(
            json.dumps({**GOOD, "data": value}).encode()
            for value in ("ab", {"0": 1}, None, [1], [1] * 3, [1] * 200)
        ),
        *(
            json.dumps({**GOOD, "session_hash": value}).encode()
            for value in (None, 1, "", "a" * 65, "a/b", ["a"])
        ),
        *(json.dumps({**GOOD, "trigger_id": value}).encode() for value in ("1", 1.5, [1], True)),
        json.dumps(GOOD).replace("null", "NaN").encode(),
        json.dumps(GOOD).replace("null", "1e999").encode(),
        json.dumps(GOOD).replace("null", "[" * DEEPEST + "]" * DEEPEST).encode(),
        *(json.dumps({key: value for key, value in GOOD.items() if key != gone}).encode() for gone in GOOD),
    ],
)
def test_a_body_that_is_no_event_is_refused(asked, body):
    for kind in ("application/json", "text/plain", "multipart/form-data; boundary=b"):
        found = asked.post(JOIN, content=body, headers={"content-type": kind})
        assert found.status_code == 400, body[:80]
        assert found.json()["detail"].startswith("This ")


def test_a_value_that_no_widget_has_is_refused(asked):
    good = [True, "a", 1.5, "a", 2, "words"]
    for values in (good, [False, None, None, "", 0.5, ""]):
        assert asked.post(PREDICT, json={**GOOD, "fn_index": 5, "data": values}).status_code == 200
    for place, name in enumerate(WIDGETS):
        for wrong in ({"path": "/etc/passwd"}, [1], 1 if name == "checkbox" else True):
            values = [*good[:place], wrong, *good[place + 1 :]]
            found = asked.post(PREDICT, json={**GOOD, "fn_index": 5, "data": values})
            assert found.status_code == 400
            assert f"no value of a {name}" in found.json()["detail"]


def test_a_widgets_refusal_is_no_failure_and_a_failure_stays_one(asked):
    said = asked.post(JOIN, json=GOOD, headers={"x-fails": '"Value: x is not in the list of choices"'})
    assert (said.status_code, said.json()["detail"][:27]) == (400, "A widget has no such value;")
    failed = asked.post(JOIN, json=GOOD, headers={"x-fails": "null"})
    assert (failed.status_code, failed.json()) == (500, {"error": None})


@pytest.mark.parametrize("came", [None, 1, "x", [1], True])
def test_what_comes_with_an_event_is_an_object(asked, came):
    assert asked.post(JOIN, json={**GOOD, "event_data": came}).json()["event_data"] == {}


def test_a_full_queue_is_said_in_words(asked):
    found = asked.post(JOIN, json=GOOD, headers={"x-full": "1"})
    assert (found.status_code, found.json()) == (429, {"detail": FULL})
    assert "16 requests are waiting already" in FULL
