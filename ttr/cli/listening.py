"""Options of the commands that serve a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli.groups import Group

if TYPE_CHECKING:
    from ttr.apps.service.address import Address


@dataclass(frozen=True, kw_only=True)
class ListeningOptions(Group):
    """Where a page listens, and where it is seen."""

    host: Annotated[
        str,
        typer.Option(
            metavar="HOST", help="Where to listen; beyond this machine only with TTR_APP_PASSWORD set."
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Where it listens; 0 takes a free one.")
    ] = 7860
    public_url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Where visitors see the page through a reverse proxy, such as https://example.org/ttr. "
            "Only then is a proxy believed (X-Forwarded-For).",
        ),
    ] = ""
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Path ahead of the page's own, such as /ttr.")
    ] = ""
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False

    def address(self) -> Address:
        """Return where the page listens and is seen.

        Raises:
            OptionError: as ``Address.of`` does.
        """
        from ttr.apps.service.address import Address

        return Address.of(self.host, self.public_url, self.root_path)
