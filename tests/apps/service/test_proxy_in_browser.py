"""The page behind a real reverse proxy: TLS, a sub-path, the stream of events, a login, a comparison."""

from __future__ import annotations

import httpx
import pytest

from tests.tools.app_page import PATIENCE, serve_page
from tests.tools.bare_client import BareClient
from tests.tools.elsewhere import elsewhere
from tests.tools.reverse_proxy import NGINX, OPENSSL, WITHOUT, free_port, reverse_proxy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None or OPENSSL is None, reason=WITHOUT),
]
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The page behind nginx: the public URL, the same with the path left on, and what trusts them."""
    folder, taken, left = tmp_path_factory.mktemp("proxy"), free_port(), free_port()
    public = f"https://localhost:{taken}/ttr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTR_APP_PASSWORD", PASSWORD)
        with serve_page(folder, "--public-url", public) as served:
            port = int(served.address.rpartition(":")[2])
            with reverse_proxy(folder, port, taken, left) as trust:
                yield public, f"https://localhost:{left}/ttr", trust
        assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("which", [0, 1])
def test_an_event_comes_through_the_proxy(shown, which):
    public = shown[0].removesuffix("/ttr")
    origin = {"Origin": public, "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=shown[which], verify=shown[2], headers=origin, timeout=120) as http:
        visitor = BareClient(http)
        assert http.get("/healthz").status_code == 200
        assert http.get("/config").status_code == 401
        entered = visitor.login(PASSWORD)
        assert entered.status_code == 200
        assert all("Secure" in cookie for cookie in entered.headers.get_list("set-cookie"))
        assert http.get("/config").json()["root"] == shown[0]
        uploaded = visitor.upload("a.png", b"x" * 3_000_000).json()[0]
        assert len(http.get(f"/gradio_api/file={uploaded}").content) == 3_000_000
        assert any("ttr-map" in str(value) for value in visitor.open())
        for foreign in ("https://evil.example", "null", f"http://127.0.0.1:{http.base_url.port}"):
            assert http.get("/config", headers={"Origin": foreign}).status_code == 403


def test_an_address_that_tries_passwords_is_told_apart_behind_the_proxy(shown):
    with httpx.Client(base_url=shown[0], verify=shown[2]) as http:
        said = {"X-Forwarded-For": "10.1.1.1"}  # the proxy adds whom it sees itself
        wrong = [
            http.post("/login", data={"username": "ttr", "password": "wrong"}, headers=said).status_code
            for _ in range(6)
        ]
    assert wrong == [400] * 5 + [429]


@pytest.mark.browser
def test_a_visitor_follows_a_link_logs_in_and_compares(shown, browser, tmp_path):
    from PIL import Image

    with elsewhere(f'<a href="{shown[0]}/">the page</a>') as site:
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.set_default_timeout(PATIENCE)
        complaints: list[str] = []
        page.on(
            "console",
            lambda said: said.type == "error" and complaints.append(f"{said.text} {said.location['url']}"),
        )
        page.goto(site)
        page.get_by_role("link").click()
        page.get_by_label("username").fill("ttr")
        page.get_by_label("password").fill(PASSWORD)
        page.get_by_role("button", name="Login").click()
        page.wait_for_selector("#maps ttr-view[data-ready]")
        before = page.locator("#maps ttr-view").get_attribute("data-json")
        Image.linear_gradient("L").save(tmp_path / "mine.png")
        page.locator("input[type=file]").first.set_input_files(tmp_path / "mine.png")
        page.wait_for_function(
            "before => ![undefined, before].includes(document.querySelector('#maps ttr-view')?.dataset.json)",
            arg=before,
        )
        page.goto(site)
        page.get_by_role("link").click()
        page.wait_for_selector("#maps ttr-view[data-ready]")
        # nginx itself has no icon, which a browser asks for at its root
        assert [each for each in complaints if not each.endswith("/favicon.ico")] == []
        page.context.close()
