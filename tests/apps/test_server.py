"""The page as a service: loopback unless a password is set, nothing described, nothing opened."""

from __future__ import annotations

import os

import pytest

import ttr
from ttr.apps.image.workbench import Workbench
from ttr.apps.server import build, check_host, closed_environment, is_loopback, private_folder
from ttr.errors import OptionError


def test_only_loopback_opens_without_a_password():
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        assert is_loopback(host)
        check_host(host, "")
    for host in ("0.0.0.0", "192.168.1.2", "::", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(OptionError, match="set a password of 8 characters or more in TTR_APP_PASSWORD"):
            check_host(host, "short")
        check_host(host, "long enough")


def test_the_command_refuses_an_open_host_in_one_line(run, monkeypatch):
    monkeypatch.delenv("TTR_APP_PASSWORD", raising=False)
    status, _, error = run("app", "--host", "0.0.0.0", "--no-browser")
    assert status == 2
    assert "would open the page to the network" in error


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


def test_uploads_lie_in_a_private_folder_that_goes_at_exit():
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "upload.png").write_bytes(b"x")
    assert not folder.exists()


def client(host="127.0.0.1", password=""):
    from fastapi.testclient import TestClient

    workbench = Workbench({"phantom": lambda: ttr.load("phantom")}, None, [], 1)
    page = build(workbench, {"status": "ready"}, host=host, password=password)
    return TestClient(page, base_url="http://127.0.0.1")


def test_healthz_answers_and_no_documents_do():
    with private_folder():
        asked = client()
        answer = asked.get("/healthz")
        assert answer.status_code == 200
        assert answer.json()["status"] == "ready"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        for path in ("/docs", "/openapi.json", "/gradio_api/info"):
            assert asked.get(path).status_code == 404


def test_no_file_of_this_machine_is_served_and_no_other_name_for_it_is_answered(tmp_path):
    (tmp_path / "secret.txt").write_text("what nobody may read")
    with private_folder():
        asked = client()
        for path in (tmp_path / "secret.txt", "/etc/passwd", os.path.abspath(__file__)):
            answer = asked.get(f"/gradio_api/file={path}")
            assert answer.status_code in (403, 404), path
            assert "what nobody may read" not in answer.text
        assert asked.get("/", headers={"host": "evil.example:7860"}).status_code == 421


def test_with_a_password_nobody_without_it_gets_past_the_door():
    with private_folder():
        asked = client("0.0.0.0", "long enough")
        assert asked.get("/healthz").status_code == 200
        join = {"data": [None], "fn_index": 0, "session_hash": "x"}
        assert asked.post("/gradio_api/queue/join", json=join).status_code == 401
        assert asked.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
        assert asked.get("/config").status_code == 401
        wrong = asked.post("/login", data={"username": "ttr", "password": "wrong"})
        assert wrong.status_code == 400
        assert asked.get("/config").status_code == 401
        assert asked.post("/login", data={"username": "ttr", "password": "long enough"}).status_code == 200
        assert asked.get("/config").status_code == 200
