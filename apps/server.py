"""The page as a service on this machine: what it opens, and all that it keeps closed.

Loopback alone unless a password is set; no analytics, no share link, no request to anywhere else (a content
security policy holds that in the browser too); a private temporary folder, swept within the hour and at
exit; no API documents, no run history. Variables of the environment that would open any of it are ignored
with a warning. ``/healthz`` tells operators whether the page can work.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.apps.image.intake import MOST_OF_STACK
from ttr.apps.service.address import Address
from ttr.apps.service.password import NOTE, PASSWORD, USER, Door, Tries, check_password
from ttr.apps.service.private_folder import private_folder
from ttr.version import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI
    from gradio import Blocks
    from starlette.types import ASGIApp

    from ttr.apps.image.workbench import Workbench
    from ttr.studies.results import Results

#: Where an operator's proxy or orchestrator asks whether the page can work.
HEALTH = "/healthz"


def serve(
    workbench: Workbench,
    results: Results | None = None,
    *,
    address: Address | None = None,
    port: int = 7860,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        workbench: the models.
        results: what the tabs of results show.
        address: where to listen, and where visitors see it; anything but loopback needs the password.
        port: 0 takes a free one.
        browser: open the page in a browser.
        say: where warnings and the address go.

    Raises:
        OptionError: a page open to others without a password, or a password too short.
        OutputError: the address is taken.
    """
    from ttr.apps.service.listening import bound_socket, invite, listen, share_heaps

    address = address or Address()
    password = os.environ.get(PASSWORD)
    check_password(address, password)
    share_heaps()
    with bound_socket(address.host, port) as listening, private_folder() as folder, closed_environment(say):
        state = {"status": "starting"}
        gc.disable()  # what is imported and built stays; looking through it is a seventh of the start
        threading.Thread(target=_warm_up, args=(workbench, state), daemon=True).start()
        app = build(workbench, state, results, address=address, password=password)
        say(f"ttr app: {invite(listening, address, browser=browser)}")
        listen(app, listening, folder, proxied=bool(address.public))


def build(
    workbench: Workbench,
    state: dict[str, str],
    results: Results | None = None,
    *,
    address: Address | None = None,
    password: str | None = None,
) -> ASGIApp:
    """Return the whole application: the page, ``/healthz``, and what guards them, the first gate last."""
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse
    from gradio.utils import get_upload_folder

    from ttr.apps.image.uploads import Uploads
    from ttr.apps.page import page
    from ttr.apps.service.bodies import Bodies
    from ttr.apps.service.event_requests import WAITING, Events
    from ttr.apps.service.guard import Guard
    from ttr.apps.service.pictures import answer_pictures
    from ttr.apps.service.streams import Streams
    from ttr.apps.service.visitors import Visitors

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.api_route(HEALTH, methods=["GET", "HEAD"])
    def healthz() -> JSONResponse:
        body = {**state, "version": __version__, "models": workbench.loaded}
        return JSONResponse(body, 200 if state["status"] == "ready" else 503)

    answer_pictures(app, workbench.handed_out)
    address = address or Address()
    blocks = page(workbench, results)
    blocks.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    library = _mounted(app, blocks, address, password)
    folder = Path(get_upload_folder())
    gated: ASGIApp = Visitors(Events(Streams(app), blocks.fns), Uploads(folder))
    gated = Door(gated, library, Tries()) if password else gated
    gated = Bodies(gated, folder)
    return Guard(gated, address)


def _mounted(app: FastAPI, blocks: Blocks, address: Address, password: str | None) -> FastAPI:
    """Mount the page in ``app`` with all closed that the widget library opens; return its application."""
    import gradio

    from ttr.apps.page import STYLE, THEME

    gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=address.host,
        root_path=address.seen,
        auth=(USER, password) if password else None,
        auth_message=NOTE,
        allowed_paths=[],
        show_error=False,
        max_file_size=MOST_OF_STACK,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        theme=THEME,
        head=STYLE,
    )
    return app.routes[-1].app  # type: ignore[attr-defined]


@contextmanager
def closed_environment(say: Callable[[str], None]) -> Iterator[None]:
    """Take the widget library's variables out of the environment, say which, and give them back."""
    own = ("GRADIO_TEMP_DIR",)
    found = {
        key: os.environ.pop(key) for key in list(os.environ) if key.startswith("GRADIO_") and key not in own
    }
    if found:
        say(f"warning: {', '.join(sorted(found))} ignored: what the page opens is decided by ttr app alone")
    closed = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    before = {key: os.environ.get(key) for key in closed}
    os.environ.update(closed)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        os.environ.update(found)


def _warm_up(workbench: Workbench, state: dict[str, str]) -> None:
    try:
        workbench.warm_up()
        state["status"] = "ready"
    except Exception as error:
        state["status"] = "failed"
        print(f"ttr app: the first model cannot run: {error}", file=sys.stderr)
    finally:
        gc.freeze()
        gc.enable()
