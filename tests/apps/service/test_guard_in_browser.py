"""A web site elsewhere and the page, in a real browser: it may link to the page, and nothing else."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.tools.app_page import PATIENCE
from tests.tools.elsewhere import elsewhere
from ttr.apps.html.explanations import COMING
from ttr.apps.image.intake import MOST_OF_STACK
from ttr.apps.service.event_requests import FULL

pytestmark = pytest.mark.browser
TRIES = """async (home) => {
    const json = "application/json", form = new FormData();
    form.append("files", new Blob(["x"]), "evil.png");
    const ask = (path, more) => fetch(home + path, more).then(found => found.type, () => "refused");
    const image = new Promise(told => {
        const made = new Image();
        made.onload = () => told("shown");
        made.onerror = () => told("refused");
        made.src = home + "/static/img/logo.svg";
    });
    return [
        await ask("/config"), await ask("/config", {credentials: "include"}),
        await ask("/gradio_api/upload", {method: "POST", body: form}),
        await ask("/gradio_api/queue/join", {method: "POST", body: "{}", headers: {"Content-Type": json}}),
        await ask("/gradio_api/queue/data?session_hash=x"), await image,
        await ask("/gradio_api/upload", {method: "POST", body: form, mode: "no-cors"}),
    ];
}"""

#: A stream of answers whose end comes in two pieces and that its server keeps open, read to its end.
STREAM = """async () => {
    const said = ['data: {"msg":"estimation"}\\n\\nda', 'ta: {"msg":"close_stream"}\\n\\n'];
    let isLetGo = false;
    const body = new ReadableStream({
        pull(to) {
            return said.length ? to.enqueue(new TextEncoder().encode(said.shift())) : new Promise(() => {});
        },
        cancel() { isLetGo = true; },
    });
    const whole = said.join(""), read = await ttrStream.ended(new Response(body)).text();
    return [read === whole, isLetGo, !String(window.fetch).includes("native code")];
}"""


@pytest.fixture(scope="module")
def visitor(browser):
    """One to whom things are refused, of which a browser complains."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


@pytest.fixture
def refused(visitor, served):
    """The visitor at the page, whichever way it came there."""
    if not visitor.url.startswith(served.address):
        visitor.goto(served.address)
    visitor.wait_for_selector("#maps ttr-view[data-ready]")
    return visitor


@pytest.mark.slow  # what a browser is answered is held in test_guard.py
def test_a_site_elsewhere_may_link_to_the_page_and_nothing_else(served, visitor):
    folder = served.log.parent
    with elsewhere(
        f'<a href="{served.address}/">the page</a><iframe src="{served.address}/"></iframe>'
    ) as site:
        page, asked = visitor, {}
        page.on("response", lambda answer: asked.setdefault(answer.url, answer.status))
        page.goto(site)
        before = sorted(folder.rglob("*"))
        tried = page.evaluate(TRIES, served.address)
        assert tried == ["refused"] * 7
        assert sorted(folder.rglob("*")) == before
        assert asked[f"{served.address}/"] == 403
        assert page.frames[1].locator("#maps").count() == 0
        page.get_by_role("link").click()
        page.wait_for_selector("#maps ttr-view[data-ready]")


@pytest.mark.slow  # the sentence is held in tests/apps/test_server.py
def test_a_full_queue_is_said_on_the_page(refused):
    refused.wait_for_selector("#maps ttr-view[data-ready]")
    refused.route("**/queue/join*", lambda route: route.fulfill(status=429, json={"detail": FULL}))
    refused.get_by_role("button", name="Sample: chest").click()
    expect(refused.get_by_text(FULL).first).to_be_visible()
    refused.unroute("**/queue/join*")


@pytest.mark.slow  # a piece of the page's own script, read to its end
def test_a_stream_of_answers_is_let_go_once_its_end_was_read(refused):
    """The library cuts off another while a file is on its way, and what is asked next waited ten seconds."""
    assert refused.evaluate(STREAM) == [True, True, True]


@pytest.mark.slow  # what empties is held in tests/apps/tabs/test_events.py
def test_beside_a_file_that_never_arrives_nothing_of_the_former_stays(refused, tmp_path):
    """Refused by the server for want of room, or in the browser as too large."""
    (tmp_path / "next.png").write_bytes(b"x")
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(MOST_OF_STACK + 1)
    image = refused.locator(".block").filter(has_text="Image (PNG")
    refused.route("**/gradio_api/upload?*", lambda route: route.fulfill(status=429, body="There is no room."))
    for name, said in (("next.png", "There is no room."), ("large.png", "exceed the maximum allowed size")):
        refused.get_by_role("button", name="Sample: fundus").click()
        refused.locator("#maps .ttr-file", has_text="fundus").wait_for()
        image.locator("input[type=file]").set_input_files(tmp_path / name)
        refused.get_by_text(said).wait_for()
        expect(
            refused.locator("ttr-picture, .ttr-map, .ttr-file, .ttr-grade, #curves .main-svg")
        ).to_have_count(0)
        expect(refused.locator("#status")).to_contain_text(COMING)
        for kind in ("ZIP", "PDF"):
            expect(refused.get_by_role("button", name=f"Export {kind}")).to_be_disabled()
