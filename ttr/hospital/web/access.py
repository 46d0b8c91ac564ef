"""Where an archive is, who asks it, and whom it is believed to be: looked at before anything is sent."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ttr.errors import ArchiveError, OptionError

#: Where the environment holds who asks: the command line is seen by every user of a machine.
USER, PASSWORD, TOKEN = "TTR_PACS_USER", "TTR_PACS_PASSWORD", "TTR_PACS_TOKEN"


@dataclass(frozen=True)
class Access:
    """An archive, and how it is asked.

    Attributes:
        url: its DICOMweb root, without a slash at the end.
        login: user and password, or None.
        token: a bearer token, or "".
        trust: what certificates must lead to: what the machine trusts, or the house's own.
    """

    url: str
    login: tuple[str, str] | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    trust: ssl.SSLContext = field(default_factory=ssl.create_default_context, repr=False, compare=False)

    @classmethod
    def of(
        cls, url: str, environment: Mapping[str, str], *, ca: Path | None = None, plain_http: bool = False
    ) -> Access:
        """Return the access to an archive.

        Args:
            url: https, or http on this machine.
            environment: holds who asks, in :data:`USER` and :data:`PASSWORD`, or in :data:`TOKEN`.
            ca: certificates (PEM) that the archive's must lead to, in place of those that the machine trusts.
            plain_http: whether http is allowed beyond this machine.

        Raises:
            OptionError: an address that is none, or gives secrets away, or half a login.
            ArchiveError: ``ca`` holds no certificates.
        """
        url = check_url(url, plain_http=plain_http)
        user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
        token = environment.get(TOKEN, "")
        if bool(user) != bool(password):
            there, missing = (USER, PASSWORD) if user else (PASSWORD, USER)
            raise OptionError(f"the environment has {there} and no {missing}; set both, or neither")
        if user and token:
            raise OptionError(f"the environment has {USER} and {TOKEN}; set one of them")
        if not all(each.isprintable() for each in (user, password, token)) or not token.isascii():
            raise OptionError(f"{USER}, {PASSWORD} or {TOKEN} holds characters of no login; set it anew")
        return cls(url, (user, password) if user else None, token, _trusted(ca))

    def headers(self) -> dict[str, str]:
        """Return what each request says besides; nothing comes back packed unless it can be bounded."""
        said = {"Accept-Encoding": "identity"}
        return said | ({"Authorization": f"Bearer {self.token}"} if self.token else {})


def check_url(url: str, *, plain_http: bool = False) -> str:
    """Return the root of an archive without a slash at its end.

    Raises:
        OptionError: it is no address of one, holds a login, or is http beyond this machine.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise OptionError(
            f"--url holds a login, which every user of this machine sees; set {USER} and {PASSWORD} instead"
        )
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise OptionError("--url is no address; needed one such as https://pacs.example.org/dicom-web")
    if parts.query or parts.fragment:
        raise OptionError("--url has a query or a fragment; needed the archive's DICOMweb root alone")
    if parts.scheme == "http" and not (plain_http or _is_here(host)):
        raise OptionError(
            f"--url leads to {host} without TLS, where everybody on the way reads patients' images; needed "
            "https, or say --plain-http"
        )
    return url.rstrip("/")


def _is_here(host: str) -> bool:
    """Return whether a host is this machine by its name alone: nobody is asked what it means."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trusted(ca: Path | None) -> ssl.SSLContext:
    if ca is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ValueError) as error:  # TLS's own among them
        why = "it holds none" if isinstance(error, ssl.SSLError) else getattr(error, "strerror", error)
        raise ArchiveError(f"certificates cannot be read from {ca} ({why}); needed a PEM file") from None
