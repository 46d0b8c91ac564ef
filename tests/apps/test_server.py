"""The page as a service: what others are refused, with the widget library as it is behind the gates."""

from __future__ import annotations

import json
import os

import pytest
from starlette.testclient import TestClient

import ttr
from tests.tools.bare_client import BareClient
from ttr.apps.image.workbench import Workbench
from ttr.apps.server import build, closed_environment
from ttr.apps.service.address import Address
from ttr.apps.service.event_requests import FULL
from ttr.apps.service.private_folder import private_folder

PASSWORD = "long enough"
FOREIGN = {"Origin": "https://evil.example"}


def test_the_command_refuses_an_open_page_without_a_password_in_one_line(run, monkeypatch):
    monkeypatch.delenv("TTR_APP_PASSWORD", raising=False)
    for options in (["--host", "0.0.0.0"], ["--public-url", "https://ttr.example.org"]):
        status, _, error = run("app", *options, "--no-browser")
        assert status == 2
        assert f"{options[0]}" in error
        assert "would open the page to the network" in error
    monkeypatch.setenv("TTR_APP_PASSWORD", "        ")
    status, _, error = run("app", "--no-browser")
    assert (status, error.count("\n")) == (2, 1)
    assert "TTR_APP_PASSWORD is blank" in error


def test_the_environment_cannot_open_what_the_code_closed(monkeypatch):
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    said: list[str] = []
    with closed_environment(said.append):
        assert os.environ.get("GRADIO_SHARE") in (None, "False", "false", "0")
        assert not os.environ.get("GRADIO_ALLOWED_PATHS")
    assert {name for name in ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS") if any(name in s for s in said)} == {
        "GRADIO_SHARE",
        "GRADIO_ALLOWED_PATHS",
    }


def built(address=None, password=None):
    workbench = Workbench({"phantom": lambda: ttr.load("phantom")}, None, [], 1)
    return build(workbench, {"status": "ready"}, address=address, password=password)


@pytest.fixture(scope="module")
def folder():
    with private_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def open_page(folder):
    return built()


@pytest.fixture
def asked(open_page):
    """A new visitor; the page's queue is not started, so nothing that waits is worked on."""
    return TestClient(open_page, base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def locked_page(folder):
    return built(Address.of("127.0.0.1", "https://ttr.example.org/page"), PASSWORD)


@pytest.fixture
def locked(locked_page):
    """A new visitor of a page that has a password and a proxy."""
    return TestClient(locked_page, base_url="https://ttr.example.org")


def test_healthz_answers_and_no_documents_do(asked):
    answer = asked.get("/healthz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    looked = asked.head("/healthz")  # as balancers ask
    assert (looked.status_code, looked.content) == (200, b"")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    for path in ("/docs", "/openapi.json", "/gradio_api/info"):
        assert asked.get(path).status_code == 404


def test_no_file_of_this_machine_is_served_and_no_other_name_for_it_is_answered(asked, tmp_path):
    (tmp_path / "secret.txt").write_text("what nobody may read")
    for path in (tmp_path / "secret.txt", "/etc/passwd", os.path.abspath(__file__)):
        answer = asked.get(f"/gradio_api/file={path}")
        assert answer.status_code in (403, 404), path
        assert "what nobody may read" not in answer.text
    assert asked.get("/", headers={"host": "evil.example:7860"}).status_code == 421


def test_a_file_is_given_out_whole_whatever_part_of_it_is_asked_for(asked):
    path = BareClient(asked).upload("a.png", b"0123456789").json()[0]
    for part in ("bytes=0-1", "bytes=0-1,2-3,4-5bytes=0-1", "bytes=-", "bytes=0-,0-,0-", "bytes=9-1", "x"):
        found = asked.get(f"/gradio_api/file={path}", headers={"Range": part})
        assert (found.status_code, found.content) == (200, b"0123456789"), part


def test_a_field_that_is_no_file_is_refused_and_not_a_failure(asked):
    quietly = TestClient(asked.app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    answer = quietly.post("/gradio_api/upload", files={"files": (None, b"plain")})
    assert (answer.status_code, answer.text) == (400, "An upload is a form of named files; send one.")


def test_a_page_elsewhere_reads_nothing_and_sends_nothing(asked, folder):
    before = sorted(folder.rglob("*"))
    assert asked.post("/gradio_api/upload", files={"files": b"x"}, headers=FOREIGN).status_code == 403
    assert asked.get("/config", headers=FOREIGN).status_code == 403
    assert sorted(folder.rglob("*")) == before
    own = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
    uploaded = asked.post("/gradio_api/upload", files={"files": ("a.png", b"x")}, headers=own)
    assert uploaded.status_code == 200
    kept = asked.get(f"/gradio_api/file={uploaded.json()[0]}")
    for answer in (uploaded, kept, asked.get("/config"), asked.get("/")):
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_nobody_makes_the_page_link_elsewhere(asked):
    for said in ({"X-Forwarded-Host": "evil.example"}, {"X-Gradio-Server": "https://evil.example/"}):
        assert "evil.example" not in asked.get("/", headers=said).text
        assert asked.get("/config", headers=said).json()["root"] == "http://127.0.0.1"


def test_links_begin_where_visitors_see_the_page(locked_page):
    for host, path in (("ttr.example.org", "/page"), ("127.0.0.1:7860", "")):
        asked = TestClient(locked_page, base_url=f"http://{host}{path}")
        assert asked.post("/login", data={"username": "ttr", "password": PASSWORD}).status_code == 200
        cookies = "; ".join(f"{name}={value}" for name, value in asked.cookies.items())
        config = asked.get("/config", headers={"Cookie": cookies}).json()
        assert config["root"] == "https://ttr.example.org/page"


@pytest.mark.parametrize("number", [9999, -1, "x", 1.5, None, True])
def test_a_function_that_is_not_there_is_refused_and_not_a_failure(asked, number):
    quietly = TestClient(asked.app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    for path in ("queue/join", "run/predict", "cancel"):
        body = {"data": [], "fn_index": number, "session_hash": "x", "event_id": "y"}
        assert quietly.post(f"/gradio_api/{path}", json=body).status_code == 400


def test_a_body_that_is_none_is_refused_and_not_a_failure(asked):
    quietly = TestClient(asked.app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    visitor = BareClient(asked)
    function = visitor.opening()
    values = visitor.values(function)
    block = values.index(11)
    good = {"fn_index": function["id"], "data": values, "session_hash": "x"}
    bodies = [
        {**good, "data": "x"},
        {**good, "data": []},
        {**good, "data": [*values[:block], "11", *values[block + 1 :]]},
        {**good, "session_hash": 1},
        {**good, "trigger_id": "x"},
    ]
    for body in [json.dumps(each) for each in bodies] + ["[" * 100_000, "", "null"]:
        found = quietly.post(
            "/gradio_api/queue/join", content=body, headers={"Content-Type": "application/json"}
        )
        assert found.status_code == 400
    huge = quietly.post("/gradio_api/queue/join", content=b'{"data": ["' + b"x" * 2**21)
    assert huge.status_code == 413


def test_a_full_queue_says_so(asked):
    visitor = BareClient(asked)
    function = visitor.opening()
    joins = [visitor.join(function["id"], visitor.values(function)) for _ in range(17)]
    assert [each.status_code for each in joins] == [200] * 16 + [429]
    assert joins[-1].json() == {"detail": FULL}


def test_with_a_password_nobody_without_it_gets_past_the_door(locked):
    asked, cancelled = locked, {"session_hash": "x", "fn_index": 1, "event_id": "y"}
    assert asked.get("/healthz").status_code == 200
    join = {"data": [None], "fn_index": 0, "session_hash": "x"}
    assert asked.post("/gradio_api/queue/join", json=join).status_code == 401
    assert asked.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
    assert asked.post("/gradio_api/cancel", json=cancelled).status_code == 401
    for path in ("/config", "/gradio_api/heartbeat/x", "/gradio_api/app_id", "/logout"):
        assert asked.get(path).status_code == 401, path
    visitor = BareClient(asked)
    for wrong in ("wrong", "", " ", f"{PASSWORD} "):
        assert visitor.login(wrong).status_code == 400
    assert asked.get("/config").status_code == 401
    entered = visitor.login(PASSWORD)
    assert entered.status_code == 200
    for cookie in entered.headers.get_list("set-cookie"):
        assert {"HttpOnly", "SameSite=Lax", "Secure"} <= set(cookie.split("; "))
    assert asked.get("/config").status_code == 200


def test_few_wrong_passwords_are_tried(locked):
    visitor = BareClient(locked)
    answers = [visitor.login("wrong") for _ in range(40)]
    assert [each.status_code for each in answers] == [400] * 5 + [429] * 35
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    assert "wait" in answers[-1].json()["detail"]
    assert visitor.login(PASSWORD).status_code == 429  # else the answer would tell which one is right
