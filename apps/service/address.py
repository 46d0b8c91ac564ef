"""Where the page listens, where its visitors see it, and which names and origins are its own."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ttr.errors import OptionError

PORTS = {"http": 80, "https": 443}
#: A name or an address as a browser writes it, IPv6 in brackets.
NAME = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
#: No part of a path is all dots, and none is empty.
PATH = re.compile(r"(/[A-Za-z0-9._~-]*[A-Za-z0-9_~-])+")
URL = re.compile(f"https?://{NAME.pattern}({PATH.pattern})?/?")


def is_loopback(host: str) -> bool:
    """Return whether a host name or address never leaves this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_number(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, name and port of a URL; None if it is none of http or https."""
    try:
        parts = urlsplit(url.strip().lower())
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port


@dataclass(frozen=True)
class Address:
    """Where the page listens and is seen.

    Attributes:
        host: where it listens.
        public: scheme and name under which a reverse proxy shows it; empty: it is seen where it listens.
        root: the path ahead of all its own, such as ``/ttr``; empty: none.
    """

    host: str = "127.0.0.1"
    public: str = ""
    root: str = ""

    @classmethod
    def of(cls, host: str, public_url: str = "", root_path: str = "") -> Address:
        """Return the address that the options of the command describe.

        Raises:
            OptionError: no such URL or path can be, or the two disagree.
        """
        if public_url and (not URL.fullmatch(public_url) or origin(public_url) is None):
            raise OptionError(
                f"--public-url {public_url} is not where a page can be; needed what visitors type, such as "
                "https://ttr.example.org or https://example.org/ttr"
            )
        given = root_path[:-1] if root_path.endswith("/") else root_path
        if given and not PATH.fullmatch(given):
            raise OptionError(f"--root-path {root_path} is no path; needed one such as /ttr")
        parts = urlsplit(public_url)
        path = parts.path.rstrip("/")
        if given and public_url and given != path:
            raise OptionError(
                f"--root-path {given} is not the path of --public-url {public_url}; give --public-url alone"
            )
        return cls(host, f"{parts.scheme}://{parts.netloc}".lower() if public_url else "", path or given)

    @property
    def seen(self) -> str | None:
        """The URL or path that links of the page begin with; None: they need none."""
        return f"{self.public}{self.root}" or None

    @property
    def open(self) -> bool:
        """Whether anybody but the users of this machine may reach the page."""
        return bool(self.public) or not is_loopback(self.host)

    def answers_to(self, name: str) -> bool:
        """Return whether ``name``, what a request calls its host, is one of the page's own.

        A page elsewhere may point its own name at this machine; it must not find us under that name. On a
        network without a proxy nobody knows the names of this machine: there the password keeps it out.
        """
        if not NAME.fullmatch(name):
            return False
        if self.public and origin(f"{urlsplit(self.public).scheme}://{name}") == origin(self.public):
            return True
        if not self.public and self.open:
            return True
        own = origin(f"http://{name}")
        if own is None:
            return False
        if not is_loopback(self.host) and _is_number(own[1]):
            return (
                True  # whoever asks whether the page is well calls it by its number, as no page elsewhere can
            )
        return own[1] in ("127.0.0.1", "localhost", "::1", self.host.lower())

    def owns(self, source: str, scheme: str, name: str) -> bool:
        """Return whether ``source``, what a browser says a request came from, is the page itself.

        Args:
            source: the header Origin.
            scheme: of the request.
            name: what the request calls its host.
        """
        own = origin(self.public or f"{scheme}://{name}")
        return own is not None and origin(source) == own
