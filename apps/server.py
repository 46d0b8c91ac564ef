"""The page as a service on this machine: what it opens, and all that it keeps closed.

Loopback alone unless a password is set; no analytics, no share link, no request to anywhere else (a content
security policy holds that in the browser too); a private temporary folder, swept within the hour and at
exit; no API documents, no run history. Variables of the environment that would open any of it are ignored
with a warning. ``/healthz`` tells operators whether the page can work.
"""

from __future__ import annotations

import gc
import ipaddress
import os
import shutil
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.apps.image.intake import MAX_BYTES
from ttr.errors import OptionError, OutputError
from ttr.version import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ttr.apps.image.workbench import Workbench
    from ttr.studies.results import Results

PASSWORD = "TTR_APP_PASSWORD"
USER = "ttr"
#: The widget library's routes that describe, record or reach out. Nobody needs them here.
CLOSED = (
    *("/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/runs", "/gradio_api/run-history"),
    *("/gradio_api/proxy", "/gradio_api/deep_link", "/gradio_api/vibe", "/gradio_api/dev", "/monitoring"),
    *(
        "/gradio_api/monitoring",
        "/gradio_api/mcp",
        "/gradio_api/profiling",
        "/docs",
        "/redoc",
        "/openapi.json",
    ),
    *("/gradio_api/custom_component", "/gradio_api/stream", "/gradio_api/call", "/pwa_icon"),
)
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "font-src 'self' data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def serve(
    workbench: Workbench,
    results: Results | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        workbench: the models.
        results: what the tabs of results show.
        host: where to listen; anything but loopback needs the password.
        port: 0 takes a free one.
        browser: open the page in a browser.
        say: where warnings and the address go.

    Raises:
        OptionError: a host beyond loopback without a password.
        OutputError: the address is taken.
    """
    import socket

    password = os.environ.get(PASSWORD, "")
    check_host(host, password)
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # who comes before the page is built waits, and is not turned away
    except OSError as error:
        raise OutputError(
            f"{host}:{port} cannot be used ({error.strerror}); choose another --port"
        ) from error
    port = listening.getsockname()[1]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    with listening, private_folder(), closed_environment(say):
        state = {"status": "starting"}
        gc.disable()  # what is imported and built stays; looking through it is a seventh of the start
        threading.Thread(target=_warm_up, args=(workbench, state), daemon=True).start()
        app = build(workbench, state, results, host=host, password=password)
        say(f"ttr app: {address} (stop with Ctrl-C)")
        if browser:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        _run(app, listening)


def check_host(host: str, password: str) -> None:
    """Raise OptionError for a host beyond loopback without a password of 8 characters or more."""
    if is_loopback(host) or len(password) >= 8:
        return
    raise OptionError(
        f"--host {host} would open the page to the network; set a password of 8 characters or more in "
        f"{PASSWORD} (the user is {USER}), or leave --host out"
    )


def is_loopback(host: str) -> bool:
    """Return whether a host name or address never leaves this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def build(
    workbench: Workbench,
    state: dict[str, str],
    results: Results | None = None,
    *,
    host: str,
    password: str,
) -> FastAPI:
    """Return the whole application: the page, ``/healthz``, and what guards them."""
    import gradio
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    from ttr.apps.image.uploads import Uploads
    from ttr.apps.page import STYLE, THEME, page
    from ttr.apps.visitors import Visitors

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Visitors, uploads=Uploads(Path(gradio.utils.get_upload_folder())))
    allowed = {"127.0.0.1", "localhost", "[::1]", host} if is_loopback(host) else None

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Any:
        name = request.headers.get("host", "").rsplit(":", 1)[0] if request.headers.get("host") else ""
        # A page elsewhere may point its own name at this machine; it must not find us under that name.
        if allowed is not None and name not in allowed:
            return JSONResponse({"error": "unknown host"}, 421)
        if request.url.path.startswith(CLOSED):
            return JSONResponse({"error": "not offered"}, 404)
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        body = {**state, "version": __version__, "models": workbench.loaded}
        return JSONResponse(body, 200 if state["status"] == "ready" else 503)

    blocks = page(workbench, results)
    blocks.queue(max_size=16, default_concurrency_limit=1, api_open=False)
    return gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=host,
        auth=None if is_loopback(host) and not password else (USER, password),
        allowed_paths=[],
        show_error=False,
        max_file_size=MAX_BYTES,
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


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a folder of this process alone, where uploads and exports live; it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ttr-app-"))
    before, os.environ["GRADIO_TEMP_DIR"] = os.environ.get("GRADIO_TEMP_DIR"), str(folder)
    kept, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = kept
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


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


def _run(app: FastAPI, listening: Any) -> None:
    import uvicorn

    settings = uvicorn.Config(
        app, log_level="error", access_log=False, timeout_graceful_shutdown=2, server_header=False
    )
    uvicorn.Server(settings).run(sockets=[listening])
