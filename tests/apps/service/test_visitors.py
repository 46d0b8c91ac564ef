"""What a visitor may name: own files and sessions, and nothing else of this machine or of another visitor."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from tests.tools.page_client import CONTROLS, visitors
from ttr.apps.image.handed_out import Thumbnails
from ttr.apps.image.memory import NO_IMAGE
from ttr.apps.image.uploads import ABSENT, Quota, Uploads
from ttr.apps.image.workbench import Workbench
from ttr.apps.server import build, private_folder

IMAGE = "Image (PNG, JPEG, TIFF or DICOM)"
SESSIONS = 6
#: The controls, at a block that each model has.
AT = [0, *CONTROLS[1:]]
#: How maps lie over their image, in an export.
LOOK = ["contours", 50, "smooth", "own", "logarithmic"]


def png(seed, size=(64, 80)):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def workbench(phantom):
    return Workbench({"phantom": lambda: phantom})


@pytest.fixture(scope="module")
def page(workbench):
    """Two visitors of one page, and its private folder."""
    with pytest.MonkeyPatch.context() as patch, private_folder() as folder:
        patch.setattr("ttr.apps.page.SESSIONS", SESSIONS)
        with visitors(build(workbench, {"status": "ready"}), 2) as both:
            yield folder, *both


def asked_with(visitor, event, *paths):
    """Return the values that an event with files ends with: what only reads them is followed by another."""
    values = visitor.call(event, visitor.data(event, *paths))
    if visitor.only_reads(event):
        shown = visitor.after(event)
        values = visitor.call(shown, visitor.data(shown))
    return values


LINKED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


MOMENTS = itertools.count(1)


def read(visitor, event, *paths):
    """Let the event that reads a file happen, later than all before; return what shows it."""
    visitor.call(event, [*visitor.data(event, *paths)[:-1], next(MOMENTS)])
    shown = visitor.after(event)
    return visitor.call(shown, visitor.data(shown))


def opened(visitor, *paths):
    """Return what the tab Compare shows after the upload of a path: all its values in one text."""
    return json.dumps(read(visitor, visitor.event(IMAGE, "upload"), *paths))


def files(folder):
    return sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)


@pytest.fixture
def forbidden(page, tmp_path):
    """Paths that no visitor may open: where they lead, and what one of them would give away."""
    folder, me, you = page
    secret = tmp_path / "patient.png"
    secret.write_bytes(png(1))
    own = me.upload("own.png", png(2))
    beside = os.path.dirname(own)
    os.mkfifo(f"{beside}/pipe.png")
    os.symlink(secret, f"{beside}/link.png")
    os.symlink(tmp_path, f"{beside}/folder")
    paths = [
        *(
            str(secret),
            str(tmp_path / "absent.png"),
            "/etc/hostname",
            "/dev/zero",
            "/dev/stdin",
            str(tmp_path),
        ),
        *(f"{beside}/pipe.png", f"{beside}/link.png", f"{beside}/folder/patient.png", beside, f"{own}\0"),
        *(f"{beside}/../{os.path.basename(beside)}/own.png", f"{own}/", f"/{own}", os.path.relpath(own), ""),
        *("http://127.0.0.1:9/patient.png", f"file://{secret}", str(folder), you.upload("yours.png", png(3))),
    ]
    yield paths
    for name in ("pipe.png", "link.png", "folder"):
        os.unlink(f"{beside}/{name}")


def test_no_event_opens_a_path_that_its_visitor_did_not_upload(page, forbidden):
    """Whatever is there: one answer for all, at once, and nothing is copied into the page's folder."""
    folder, me, _ = page
    asked = [each for each in me.takes_a_file() if each["backend_fn"]]
    assert len(asked) == 5, "a new event takes files: is it tried here?"
    before = files(folder)
    for event in asked:
        together = [forbidden] if me.takes_several(event) else [[path] for path in forbidden]
        said = {json.dumps(asked_with(me, event, *paths)) for paths in together}
        assert len(said) == 1, event
        assert ABSENT in min(said)
        assert "base64" not in min(said)
        if event is me.event("batch-run", "click"):  # both of its widgets were sent each of them
            assert min(said).count(f"{ABSENT}</td>") == 2 * len(forbidden)
    assert [each for each in files(folder) if os.path.getsize(each) and each not in before] == []


def test_an_own_upload_is_opened_under_its_name_and_at_the_models_last_block(page):
    """The slider begins at block 11, and a phantom has 6: what is sent before the page knows is no fault."""
    _, me, _ = page
    for _ in range(2):
        answer = opened(me, me.upload("mine <b>&\u202e.png", png(4)))
        assert "base64" in answer
        assert "<b>" not in answer
        assert "block 5" in answer
    looked = me.event("layer", "input")
    assert "needed a block 0..5" in json.dumps(me.call(looked, [None, None, *CONTROLS]))


def test_the_same_file_of_two_visitors_is_each_ones_own(page):
    _, me, you = page
    mine, yours = (each.upload("same.png", png(5)) for each in (me, you))
    assert mine != yours
    assert ABSENT in opened(you, mine)
    assert you.asked.get(f"/gradio_api/file={yours}").content == png(5)


def test_a_picture_that_a_page_fetches_is_answered_to_its_visitor_alone(page, workbench):
    folder, me, you = page
    mine = me.upload("mine.png", png(9))
    name, small = mine.removeprefix(f"{folder}/").partition("/")[0], Thumbnails()
    small.by_number[3] = b"\x89PNG"
    place = f"/{workbench.handed_out.hand_out(name, small)}"
    answer = me.asked.get(f"{place}3")
    assert (answer.status_code, answer.content) == (200, b"\x89PNG")
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("image/png", "no-store")
    elsewhere = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert me.asked.get(f"{place}3", headers=elsewhere).status_code == 403
    for visitor, path in ((you, "3"), (me, "4"), (me, "../3"), (me, "3/3")):
        assert visitor.asked.get(f"{place}{path}").status_code == 404, path
    del small
    assert me.asked.get(f"{place}3").status_code == 404


def test_what_one_visitor_uploads_or_exports_no_other_fetches(page):
    _, me, you = page
    mine = me.upload("mine.png", png(6))
    opened(me, mine)
    export = me.event("Export ZIP", "click")
    file, _ = me.call(export, [None, *AT, *LOOK])
    for path in (mine, file["path"]):
        own, others, absent = (
            each.asked.get(f"/gradio_api/file={where}")
            for each, where in ((me, path), (you, path), (you, f"{path}x"))
        )
        assert own.status_code == 200
        assert (others.status_code, others.content) == (absent.status_code, absent.content)
        assert others.status_code == 404
        assert you.asked.head(f"/gradio_api/file={path}").status_code == 404
        assert you.asked.get(f"/gradio_api/file/{path}").status_code == 404
    assert me.asked.get("/gradio_api/file=http://127.0.0.1:9/x").status_code == 404


def test_a_session_is_its_visitors_own_whoever_names_it(page):
    _, me, you = page
    opened(me, me.upload("mine.png", png(7)))
    stolen, own = me.session, you.session
    export = you.event("Export ZIP", "click")
    waiting = me.ask(export, [None, *AT, *LOOK]).json()["event_id"]
    assert [each["msg"] for each in you.listen(stolen)] == ["unexpected_error"]  # there is no such session
    you.session = stolen
    file, said = you.call(export, [None, *AT, *LOOK])
    you.session = own
    assert file is None
    assert NO_IMAGE[1:] in said
    cancel = {"session_hash": stolen, "fn_index": export["id"], "event_id": "x"}
    assert you.asked.post("/gradio_api/cancel", json=cancel).status_code == 200
    assert any(each.get("event_id") == waiting and each.get("success") for each in me.listen())
    for name in ("", "a/b", "x" * 65, ["x"], {"path": "x"}):
        assert me.asked.post("/gradio_api/queue/join", json={"session_hash": name}).status_code == 400
        assert me.asked.get("/gradio_api/queue/data", params={"session_hash": str(name)}).status_code == 400


def test_a_body_that_can_be_read_in_two_ways_is_read_in_one(page):
    _, me, you = page
    yours = you.upload("yours.png", png(8))
    reading = me.event(IMAGE, "upload")
    mine = me.upload("mine.png", png(9))
    data = json.dumps([*me.data(reading, mine)[:-1], next(MOMENTS)]).replace(
        f'"path": "{mine}"', f'"path": "{mine}", "path": "{yours}"'
    )
    body = f'{{"data": {data}, "fn_index": {reading["id"]}, "session_hash": "{me.session}"}}'
    kind = {"content-type": "application/json"}
    assert me.asked.post("/gradio_api/queue/join", content=body, headers=kind).status_code == 200
    list(me.listen())
    shown = me.after(reading)
    assert ABSENT in json.dumps(me.call(shown, me.data(shown)))
    long = '{"data": [' + "0," * 2_200_000 + "0]}"
    for body in ("", "[]", "[" * 100_000, "{", "\xff", long):
        answer = me.asked.post("/gradio_api/queue/join", content=body.encode("latin-1"), headers=kind)
        assert answer.status_code == (413 if body is long else 400), body[:20]


def test_what_the_page_does_not_ask_is_not_offered(page):
    _, me, _ = page
    routes = (
        "component_server process_recording api/predict call/x run/x run-history/connect upload/ queue/join/"
    )
    for route in routes.split():
        assert me.asked.post(f"/gradio_api/{route}", json={"data": []}).status_code == 404, route
    assert me.asked.post("//gradio_api/queue/join", json={"data": []}).status_code == 404


def test_a_visitor_is_known_by_a_cookie_that_no_script_and_no_other_site_gets(page):
    _, me, _ = page
    asked = me.asked
    name = next(iter(asked.cookies))
    assert name.startswith("ttr-visitor-")
    kept = asked.cookies[name]
    asked.cookies.clear()
    linked = asked.get("/", headers=LINKED)
    assert 'http-equiv="refresh"' in linked.text  # the browser kept the cookie back; it must not lose it
    assert "set-cookie" not in linked.headers
    for _ in range(2):
        cookie = asked.get("/healthz", headers={"cookie": ""}).headers["set-cookie"]
        assert re.fullmatch(rf"{name}=[\w-]{{43}}; Path=/; HttpOnly; SameSite=Strict", cookie)
        assert kept not in cookie
        asked.cookies.clear()
    asked.cookies.set(name, kept)
    assert "set-cookie" not in asked.get("/").headers


def test_a_refused_or_removed_file_leaves_nothing_of_the_former(page):
    _, me, _ = page
    reading, export = me.event(IMAGE, "upload"), me.event("Export ZIP", "click")
    assert me.event(IMAGE, "clear")["id"] == reading["id"] == me.event(IMAGE, "delete")["id"]
    same = [each for each in me.events() if each["targets"] == reading["targets"]]
    emptying = next(each for each in same if not each["queue"])
    not_an_image = me.upload("page.png", b"<html>")
    assert "base64" in opened(me, me.upload("mine.png", png(11)))
    for paths, says in (([not_an_image], "not an image"), ([], "There is no image here now")):
        for values in (me.call(emptying, [None, next(MOMENTS)]), read(me, reading, *paths)):
            interactive = [each["interactive"] for each in values if "interactive" in (each or {})]
            assert interactive == [False] * 4, "three exports, and that of Attribution"
            assert "base64" not in json.dumps(values)
        assert says in json.dumps(values)
        assert me.call(export, [None, *AT, *LOOK])[0] is None


def test_memory_for_images_is_bounded_and_who_made_room_is_told(page, workbench, monkeypatch):
    _, me, you = page
    looked = me.event("layer", "input")
    at = [None, None, *AT]
    opened(me, me.upload("mine.png", png(12)))
    assert "<ttr-view" in json.dumps(me.call(looked, at))
    monkeypatch.setattr(workbench.memory, "most", 1)
    opened(you, you.upload("yours.png", png(14)))
    answer = json.dumps(me.call(looked, at))
    assert "yours made room for others; upload it again" in answer
    assert "<ttr-view" in json.dumps(you.call(looked, at))


def test_sessions_are_bounded_and_who_was_forgotten_is_told(page):
    _, me, you = page
    looked = me.event("layer", "input")
    at = [None, None, *AT]
    opened(me, me.upload("mine.png", png(15)))
    for number in range(SESSIONS + 1):
        you.session = f"another-{number}"
        you.call(looked, at)
    assert NO_IMAGE[1:] in json.dumps(me.call(looked, at))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A page that takes files, with room for few, and its uploads."""
    import gradio
    from fastapi import FastAPI

    from ttr.apps.service.visitors import Visitors

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    uploads = Uploads(tmp_path, Quota(files=3, size=50_000, all_files=5, all_size=80_000))
    with gradio.Blocks(analytics_enabled=False) as blocks:
        gradio.File()
    app = FastAPI()
    app.add_middleware(Visitors, uploads=uploads)
    gradio.mount_gradio_app(app, blocks, path="/", ssr_mode=False, run_history=False)
    with visitors(app, 3) as all_three:
        yield uploads, *all_three


def sent(visitor, *sizes):
    files = [("files", (f"{n}.png", bytes([n]) * size)) for n, size in enumerate(sizes)]
    return visitor.asked.post("/gradio_api/upload", files=files)


def test_quotas_are_said_with_their_numbers(small):
    uploads, me, you, other = small
    assert sent(me, 20_000, 10_000).status_code == 200
    refused = sent(me, 30_000)
    assert refused.status_code == 413
    assert refused.text.startswith("These files have 0.03 MB and your others 0.03 MB; needed 0.05 MB at most")
    refused = sent(me, 1, 1)
    assert refused.status_code == 429
    assert refused.text.startswith("Got 2 files beside 2 of yours; needed 3 at most together")
    assert sent(you, 40_000).status_code == 200
    refused = sent(other, 30_000)
    assert refused.status_code == 413
    assert "those of all visitors 0.07 MB; needed 0.08 MB at most together: upload fewer" in refused.text
    uploads.sweep(time.time() + 3601)
    assert files(uploads.folder) == []
    assert sent(other, 30_000).status_code == 200
    no_length = other.asked.post("/gradio_api/upload", content=iter([b"x"]))
    assert no_length.status_code == 411
