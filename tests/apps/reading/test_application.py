"""The readers' page without a browser: who comes in, whose turn it is, nothing that tells a condition."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from tests.tools.reader_studies import study_in
from ttr.apps.reading.application import Readers, build
from ttr.apps.reading.server import serve
from ttr.apps.service.address import Address
from ttr.apps.service.password import EACH
from ttr.errors import OptionError
from ttr.studies.reading.answers import opened, read_answers


@pytest.fixture
def study(tmp_path):
    return study_in(tmp_path, cases=3, readers=2, catch=0.4, repeats=0.0)


@pytest.fixture
def page(study):
    """Return what opens another browser at the page; ``page(password=...)`` begins anew with a password."""
    with opened(study.folder) as book:
        app = build(Readers(study, book), study.folder)
        yield lambda: TestClient(app, base_url="http://127.0.0.1")


def enter(client, code="R1-code", **more):
    return client.post("/login", json={"code": code, **more})


def fitting(state):
    if state["stage"] == "pair":
        return {"preference": "A"}
    return {"answer": "no", "confidence": 35, **({"trust": 2} if "map" in state["slots"] else {})}


def read_all(client):
    """Read everything; return {slots: the bodies of all answers but pictures, and sizes of pictures}."""
    seen, state = [], client.get("/state").json()
    while state["stage"] != "done":
        if state["stage"] == "between":
            state = client.post("/begin", json={}).json()
            continue
        trial = state["trial"]
        pictures = [client.get(f"/picture/{trial}/{slot}") for slot in state["slots"]]
        assert client.post("/shown", json={"trial": trial}).json() == state
        seen.append((state, pictures))
        state = client.post("/answer", json={"trial": trial, **fitting(state)}).json()
    return seen


def test_nobody_sees_anything_without_a_code(page, study):
    client = page()
    assert client.get("/state").json() == {"stage": "login"}
    trial = study.key.trials[0].trial
    assert client.get(f"/picture/{trial}/image").status_code == 401
    for path in ("/begin", "/shown", "/pause", "/answer"):
        assert client.post(path, json={"trial": trial}).status_code == 401
    assert enter(client, "R3-code").status_code == 403
    assert enter(client, None).status_code == 403
    half = client.post("/login", content=b'{"code": "\\ud800"}')  # of a pair of surrogates
    assert half.status_code == 403
    answer = enter(client, " r1-CODE ")  # as a telephone may write it
    assert answer.status_code == 200
    assert re.search(r"HttpOnly.*SameSite=Strict", answer.headers["set-cookie"])
    assert client.get("/state").json()["stage"] == "between"


def test_codes_cannot_be_guessed_by_trying(page):
    client = page()
    for number in range(EACH):
        assert enter(client, f"R1-{number}").status_code == 403
    assert enter(client).status_code == 429


def test_a_code_of_ones_own_buys_no_tries_at_anothers(page):
    client = page()
    for number in range(EACH - 1):
        assert enter(client, f"R2-{number}").status_code == 403
        assert enter(client, "R1-code").status_code == 200
    assert enter(client, "R2-more").status_code == 403
    assert enter(client, "R2-most").status_code == 429


def test_who_logs_out_leaves_nothing_to_the_next_at_the_same_machine(page):
    client = page()
    enter(client)
    trial = client.post("/begin", json={}).json()["trial"]
    client.post("/shown", json={"trial": trial})
    assert client.get("/state").json()["reader"] == "R1"
    secret = dict(client.cookies)
    assert client.post("/logout", json={}).json() == {"stage": "login"}
    assert not client.cookies
    client.cookies.update(secret)
    assert client.get("/state").json() == {"stage": "login"}
    enter(client)
    assert client.get("/state").json()["paused"]
    assert page().post("/logout", json={}).json() == {"stage": "login"}


def test_with_a_password_the_code_alone_opens_nothing(study):
    with opened(study.folder) as book:
        app = build(Readers(study, book, "correct horse"), study.folder)
        client = TestClient(app, base_url="http://127.0.0.1")
        assert enter(client).status_code == enter(client, password="wrong").status_code == 403
        assert enter(client, password="correct horse").status_code == 200


def test_who_logs_in_again_takes_over_and_readers_do_not_meet(page):
    first, second, other = page(), page(), page()
    enter(first)
    enter(other, "R2-code")
    assert first.post("/begin", json={}).json()["stage"] == "read"
    enter(second)
    assert first.get("/state").json() == {"stage": "login"}
    assert second.get("/state").json()["stage"] == "read"
    assert other.get("/state").json()["stage"] == "between"
    trial = second.get("/state").json()["trial"]
    assert other.get(f"/picture/{trial}/image").status_code == 404


def test_a_whole_study_is_read_and_nothing_that_was_sent_tells_a_condition(page, study):
    client = page()
    enter(client)
    seen = read_all(client)
    trials = {trial.trial: trial for trial in study.key.trials}
    assert len(seen) == len(study.of_reader("R1")) == len(read_answers(study.folder))
    sizes = {len(picture.content) for _, pictures in seen for picture in pictures}
    assert len(sizes) == 1
    files = {path.stat().st_size for path in study.folder.glob("picture-*")}
    assert len(files) > 1  # as they lie they would tell
    heads = {
        tuple((name, value) for name, value in picture.headers.items())
        for _, pictures in seen
        for picture in pictures
    }
    assert len(heads) == 1
    shells = [client.get(path).text for path in ("/", "/reading.js", "/reading.css")]
    for text in [*shells, *(str(state) for state, _ in seen)]:
        for word in ("before", "after", "perturbed", "patient", "picture-", "catch", "repeat"):
            assert not re.search(rf"[\"'/_-]{word}[\"'/._-]", text), word
    shown = {
        slot: study.key.cases[trials[state["trial"]].case].pictures
        for state, _ in seen
        for slot in state["slots"]
    }
    assert set(shown) == {"image", "map", "a", "b"}
    for state, pictures in seen:
        trial, case = trials[state["trial"]], study.key.cases[trials[state["trial"]].case]
        conditions = {"read": [trial.condition], "catch": ["perturbed"]}.get(trial.kind, [])
        if trial.kind == "pair":
            conditions = [trial.left, {"before": "after", "after": "before"}[trial.left]]
        wanted = ["none", *(name for name in conditions if name != "none")]
        for name, picture in zip(wanted, pictures, strict=True):
            whole = (study.folder / case.pictures[name]).read_bytes()
            assert picture.content.startswith(whole)
            assert not picture.content[len(whole) :].strip(b"\0")


def test_only_what_stands_there_is_given_out(page, study):
    client = page()
    enter(client)
    state = client.post("/begin", json={}).json()
    trial, later = state["trial"], study.of_reader("R1")[1].trial
    for path in (f"{trial}/a", f"{later}/image", f"{trial}/../key.json", "x/y/z"):
        assert client.get(f"/picture/{path}").status_code == 404
    for path in ("/key.json", "/answers.csv", "/readers.csv", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 404
    assert client.post("/answer", json={"trial": trial, **fitting(state)}).status_code == 409
    client.post("/shown", json={"trial": trial})
    for body in (b"", b"[]", b'{"trial": 1}', b"\xff"):
        assert client.post("/answer", content=body).status_code == 409
    assert client.post("/pause", json={"trial": trial, "paused": True}).json()["paused"]
    assert client.get(f"/picture/{trial}/image").status_code == 404
    assert not client.post("/pause", json={"trial": trial, "paused": False}).json()["paused"]
    assert client.post("/answer", content=b"x" * (2**20 + 1)).status_code == 413


def test_the_guard_of_the_page_stands_before_it(page):
    client = page()
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert enter(client).status_code == 200
    foreign = {"Origin": "https://evil.example"}
    assert client.post("/begin", json={}, headers=foreign).status_code == 403
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert client.get("/healthz").json()["status"] == "ready"
    assert client.head("/healthz").status_code == 200
    assert not re.search(
        r"https?://", answer.text + client.get("/reading.js").text + client.get("/reading.css").text
    )


def test_a_question_is_shown_as_it_was_typed(tmp_path):
    study = study_in(
        tmp_path, cases=2, readers=1, question="<b>Fracture & more?</b>", answers=('"yes"', "no")
    )
    with opened(study.folder) as book:
        text = TestClient(build(Readers(study, book), tmp_path), base_url="http://127.0.0.1").get("/").text
    assert "&lt;b&gt;Fracture &amp; more?&lt;/b&gt;" in text
    assert 'value="&#34;yes&#34;"' in text


def test_a_study_is_served_to_the_network_with_a_password_alone_and_not_once_it_was_analysed(
    study, monkeypatch
):
    monkeypatch.delenv("TTR_APP_PASSWORD", raising=False)
    with pytest.raises(OptionError, match="set a password"):
        serve(study.folder, address=Address.of("0.0.0.0"), browser=False)
    study.unseal(0)
    with pytest.raises(OptionError, match="would be blind"):
        serve(study.folder, browser=False)
