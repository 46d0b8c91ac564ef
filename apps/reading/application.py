"""The readers' page: who logs in with a code sees one image after the other, and answers.

Every picture goes out with the same number of bytes (a decoder stops where the picture ends), under the name
of the trial and the place on the page. So neither names nor sizes tell a condition. One reader may have one
page: who logs in again takes over.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttr.apps.service.address import Address
from ttr.apps.service.bodies import Bodies
from ttr.apps.service.guard import Guard, Parts
from ttr.apps.service.password import Tries
from ttr.drawing.html import fill
from ttr.errors import OptionError, OutputError
from ttr.files import parse_json, read_bytes
from ttr.studies.reading.answers import AnswerBook
from ttr.studies.reading.folder import MOST_PICTURE, Study
from ttr.studies.reading.settings import TRUST
from ttr.studies.reading.sitting import PREFERENCES, Sitting
from ttr.version import __version__
from ttr.wording import DISCLAIMER, counted

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

COMMAND = "ttr readers serve"
HEALTH, PICTURES = "/healthz", "/picture/"
#: What the page's script asks for.
ASKS = ("/login", "/logout", "/state", "/begin", "/shown", "/pause", "/answer")
SCRIPT, STYLE = "/reading.js", "/reading.css"
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PARTS = Parts(
    open=frozenset(("/", HEALTH, SCRIPT, STYLE, *ASKS)),
    below=(PICTURES,),
    static=(),
    kept=frozenset(),
    policy=POLICY,
)
#: Keys of the answers, in their order: none is a digit, which is trust's, nor A, B, N and P.
KEYS = "QWERTY"


class Readers:
    """Who reads, and how far each is.

    Args:
        study: the study.
        book: its answers.
        password: asked beside the code; None: there is none.
        sitting: (study, book, reader) -> a reader's way.
    """

    def __init__(
        self,
        study: Study,
        book: AnswerBook,
        password: str | None = None,
        sitting: Callable[[Study, AnswerBook, str], Sitting] = Sitting,
    ) -> None:
        self.study, self.password, self.tries = study, password, Tries()
        self.sittings = {reader: sitting(study, book, reader) for reader in study.key.codes}
        # Pages on other ports of a machine share its cookies: each has a name of its own.
        self.cookie = f"ttr-reader-{secrets.token_hex(4)}"
        self._secrets: dict[str, str] = {}
        files = {file for case in study.key.cases for file in case.pictures.values()}
        self._bytes = max((study.folder / file).stat().st_size for file in files)

    def login(self, code: Any, password: Any, client: str) -> tuple[str, float]:
        """Return the secret of a reader who may come in, else empty, and the seconds to wait."""
        seconds = self.tries.wait(client)
        if seconds > 0:
            return "", seconds
        codes = self.study.key.codes
        typed = code.casefold() if isinstance(code, str) else code
        found = [reader for reader, known in codes.items() if _same(typed, known.casefold())]
        if not found or (self.password is not None and not _same(password, self.password)):
            return "", 0.0
        # A reader's own code must not buy them tries at another's.
        self.tries.taken_back(client)
        self._secrets[found[0]] = secrets.token_urlsafe(32)
        return self._secrets[found[0]], 0.0

    def of(self, secret: str) -> Sitting | None:
        """Return the sitting of whoever knows a secret; None: nobody's."""
        found = [reader for reader, known in self._secrets.items() if _same(secret, known)]
        return self.sittings[found[0]] if found else None

    def logout(self, secret: str) -> None:
        """Forget who knows a secret; what stands before them pauses."""
        sitting = self.of(secret)
        if sitting is not None:
            if sitting.current is not None:
                sitting.pause(sitting.current.trial, True)
            del self._secrets[sitting.reader]

    def padded(self, path: Path) -> bytes:
        """Return a picture, as many bytes as any other."""
        return read_bytes(path, MOST_PICTURE).ljust(self._bytes, b"\0")


def build(readers: Readers, folder: Path, address: Address | None = None) -> ASGIApp:
    """Return the whole application, its guard outermost; ``folder``: private to the process."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    asked = _Asked(readers)
    routes = [
        Route("/", asked.page),
        Route(HEALTH, asked.health),
        Route(SCRIPT, asked.script),
        Route(STYLE, asked.style),
        Route("/login", asked.login, methods=["POST"]),
        Route("/logout", asked.logout, methods=["POST"]),
        Route("/state", asked.state),
        *(Route(f"/{name}", asked.told, methods=["POST"]) for name in ("begin", "shown", "pause", "answer")),
        Route(PICTURES + "{trial}/{slot}", asked.picture),
    ]
    return Guard(Bodies(Starlette(routes=routes), folder), address or Address(), PARTS, COMMAND)


class _Asked:
    """What is answered to each request."""

    def __init__(self, readers: Readers) -> None:
        self.readers = readers
        settings = readers.study.settings
        self._page = fill(
            "reading.html",
            question=settings.question,
            answers=list(zip(settings.answers, KEYS, strict=False)),
            trust=list(TRUST),
            preferences=PREFERENCES,
            password=readers.password is not None,
            disclaimer=DISCLAIMER,
        )
        self._script, self._style = fill("reading.js"), fill("reading.css")

    async def page(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse

        return HTMLResponse(self._page)

    async def script(self, request: Request) -> Response:
        return _file(self._script, "text/javascript")

    async def style(self, request: Request) -> Response:
        return _file(self._style, "text/css")

    async def health(self, request: Request) -> Response:
        return _json({"status": "ready", "version": __version__})

    async def login(self, request: Request) -> Response:
        given = await _given(request)
        client = request.client.host if request.client else ""
        secret, seconds = self.readers.login(given.get("code"), given.get("password"), client)
        if seconds:
            return _json(
                {"detail": f"Too many wrong codes; wait {counted(math.ceil(seconds), 'second')}."}, 429
            )
        if not secret:
            return _json({"detail": "That is none of this study's codes; look at your note again."}, 403)
        answer = _json({})
        answer.set_cookie(self.readers.cookie, secret, httponly=True, samesite="strict", path="/")
        return answer

    async def logout(self, request: Request) -> Response:
        try:
            self.readers.logout(request.cookies.get(self.readers.cookie, ""))
        except OptionError as error:
            return _json({"detail": _sentence(error)}, 409)
        answer = _json({"stage": "login"})
        answer.delete_cookie(self.readers.cookie, path="/")
        return answer

    async def state(self, request: Request) -> Response:
        sitting = self._sitting(request)
        return _json(sitting.state() if sitting else {"stage": "login"})

    async def told(self, request: Request) -> Response:
        """Take what the page says of the current trial, and answer with what comes now."""
        sitting, given = self._sitting(request), await _given(request)
        if sitting is None:
            return _logged_out()
        trial = str(given.get("trial", ""))
        try:
            if request.url.path == "/begin":
                sitting.begin()
            elif request.url.path == "/shown":
                sitting.shown(trial)
            elif request.url.path == "/pause":
                sitting.pause(trial, given.get("paused") is True)
            else:
                sitting.answer(trial, given)
        except OptionError as error:
            return _json({"detail": _sentence(error)}, 409)
        except OutputError as error:
            return _json({"detail": _sentence(error)}, 507)
        return _json(sitting.state())

    async def picture(self, request: Request) -> Response:
        from starlette.responses import Response

        sitting = self._sitting(request)
        if sitting is None:
            return _logged_out()
        try:
            path = sitting.picture(request.path_params["trial"], request.path_params["slot"])
            content = self.readers.padded(path)
        except OptionError as error:
            return _json({"detail": _sentence(error)}, 404)
        except (OSError, ValueError):
            return _json({"detail": "This picture cannot be read any more; tell who leads the study."}, 500)
        return Response(content, media_type="image/png")

    def _sitting(self, request: Request) -> Sitting | None:
        return self.readers.of(request.cookies.get(self.readers.cookie, ""))


async def _given(request: Request) -> dict[str, Any]:
    try:
        found = parse_json(await request.body())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _same(given: Any, known: str) -> bool:
    # Half of a surrogate pair, which JSON may hold, has no bytes of its own.
    return isinstance(given, str) and hmac.compare_digest(
        given.strip().encode(errors="surrogatepass"), known.encode()
    )


def _json(values: dict[str, Any], status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(values, status)


def _file(text: str, kind: str) -> Response:
    from starlette.responses import Response

    return Response(text, media_type=kind)


def _logged_out() -> Response:
    return _json({"detail": "Log in first."}, 401)


def _sentence(error: Exception) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}."
