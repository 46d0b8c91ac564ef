"""A web site elsewhere and the page, in a real browser: it may link to the page, and nothing else."""

from __future__ import annotations

import pytest

from tests.tools.app_page import PATIENCE
from tests.tools.elsewhere import elsewhere
from ttr.apps.event_requests import FULL

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


def test_a_site_elsewhere_may_link_to_the_page_and_nothing_else(served, browser):
    folder = served.log.parent
    with elsewhere(
        f'<a href="{served.address}/">the page</a><iframe src="{served.address}/"></iframe>'
    ) as site:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        asked = {}
        page.on("response", lambda answer: asked.setdefault(answer.url, answer.status))
        page.goto(site)
        before = sorted(folder.rglob("*"))
        tried = page.evaluate(TRIES, served.address)
        assert tried == ["refused"] * 7
        assert sorted(folder.rglob("*")) == before
        assert asked[f"{served.address}/"] == 403
        assert page.frames[1].locator("#maps").count() == 0
        page.get_by_role("link").click()
        page.wait_for_selector("#maps .ttr-map")
        page.close()


def test_a_full_queue_is_said_on_the_page(served, browser):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(served.address)
    page.wait_for_selector("#maps .ttr-map")
    page.route("**/queue/join*", lambda route: route.fulfill(status=429, json={"detail": FULL}))
    page.get_by_role("button", name="Sample: chest").click()
    page.get_by_text(FULL).wait_for()
    page.close()
