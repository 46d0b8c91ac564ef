"""The password of a page that others can reach: what it must be, whom it lets in, how often it is tried."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ttr.apps.service.address import Address
from ttr.apps.service.guard import KEPT, STATIC
from ttr.apps.service.messages import refuse
from ttr.errors import OptionError
from ttr.wording import counted

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PASSWORD = "TTR_APP_PASSWORD"
USER = "ttr"
LENGTH = 8
#: Wrong passwords in a window of seconds: from one address, and from all together.
EACH, ALL, WINDOW = 5, 60, 60.0
#: What whoever wants to log in must see.
DOORSTEP = KEPT | {"/", "/healthz", "/login", "/manifest.json"}
NOTE = (
    f"The user is {USER}. After {EACH} wrong passwords in a minute, wait a minute: until then none is tried."
)


def check_password(address: Address, password: str | None) -> None:
    """Raise OptionError for a page open to others without a password, and for a password too short or blank.

    Args:
        address: where the page is.
        password: None: there is none.
    """
    if password is None and not address.open:
        return
    if password is None:
        option = "--public-url" if address.public else f"--host {address.host}"
        raise OptionError(
            f"{option} would open the page to the network; set a password of {LENGTH} characters or more in "
            f"{PASSWORD} (the user is {USER}), or leave {option.split()[0]} out"
        )
    if len(password.strip()) < LENGTH:
        length = len(password.strip())
        raise OptionError(
            f"{PASSWORD} is {f'{length} characters' if length else 'blank'}, blanks at its ends not counted; "
            f"needed {LENGTH} or more (or unset it, if the page is for this machine alone)"
        )


class Tries:
    """How many passwords were tried of late, and how long to wait for the next.

    Args:
        each: wrong ones from one address within the window.
        total: wrong ones from all.
        window: seconds.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        each: int = EACH,
        total: int = ALL,
        window: float = WINDOW,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.each, self.total, self.window, self.clock = each, total, window, clock
        self.tried: deque[tuple[float, str]] = deque()

    def wait(self, client: str) -> float:
        """Return the seconds to wait; 0: none, and one more is counted as wrong until :meth:`right`."""
        now, who = self.clock(), _neighbours(client)
        while self.tried and self.tried[0][0] <= now - self.window:
            self.tried.popleft()
        own = [at for at, each in self.tried if each == who]
        if len(own) >= self.each:
            return own[-self.each] + self.window - now
        if len(self.tried) >= self.total:
            return self.tried[-self.total][0] + self.window - now
        self.tried.append((now, who))
        return 0.0

    def right(self, client: str) -> None:
        """Forget what this address tried: it knows the password."""
        who = _neighbours(client)
        self.tried = deque(each for each in self.tried if each[1] != who)

    def taken_back(self, client: str) -> None:
        """Forget the last try of this address alone: it was right, and says nothing of those before."""
        who = _neighbours(client)
        place = max((at for at, each in enumerate(self.tried) if each[1] == who), default=None)
        if place is not None:
            del self.tried[place]


def _neighbours(client: str) -> str:
    """Return what stands for an address: of IPv6, a household has 2**64."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return client if address.version == 4 else str(ipaddress.ip_network((client, 64), strict=False))


class Door:
    """Hand nothing but the door on to whoever has not logged in, and few passwords a minute.

    Args:
        app: what is behind the door.
        page: the widget library's application, which keeps who has logged in.
        tries: how many were tried.
    """

    def __init__(self, app: ASGIApp, page: Any, tries: Tries) -> None:
        self.app, self.page, self.tries = app, page, tries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"] == "/login" and scope["method"] == "POST":
            await self._login(scope, receive, send)
        elif scope["path"] in DOORSTEP or scope["path"].startswith(STATIC) or self._known(scope):
            await self.app(scope, receive, send)
        else:
            await refuse(scope, receive, send, 401, "Log in first: reload this page.")

    def _known(self, scope: Scope) -> bool:
        from starlette.requests import Request

        cookies = Request(scope).cookies
        names = (f"access-token{kind}-{self.page.cookie_id}" for kind in ("", "-unsecure"))
        return any(cookies.get(name) in self.page.tokens for name in names)

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = (scope.get("client") or ("",))[0]
        seconds = self.tries.wait(client)
        if seconds > 0:
            why = f"Too many wrong passwords; wait {counted(math.ceil(seconds), 'second')} and try again."
            await refuse(scope, receive, send, 429, why, {"Retry-After": str(math.ceil(seconds))})
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == 200:
                    self.tries.right(client)
                elif message["status"] == 422:  # a blank one; the page says so of 400 alone
                    message = {**message, "status": 400}
            await send(message)

        await self.app(scope, receive, watched)
