"""The readers' page as a service: on this machine alone unless a password is set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ttr.apps.reading.application import COMMAND, Readers, build
from ttr.apps.service.address import Address
from ttr.apps.service.listening import bound_socket, invite, listen
from ttr.apps.service.password import PASSWORD, check_password
from ttr.apps.service.private_folder import private_folder
from ttr.errors import OptionError
from ttr.studies.reading.answers import opened
from ttr.studies.reading.folder import UNSEALED, read_study
from ttr.wording import counted


def serve(
    folder: Path,
    *,
    address: Address | None = None,
    port: int = 7861,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve a study to its readers until it is interrupted; each goes on where they were.

    Args:
        folder: of the study.
        address: where to listen, and where readers see it; anything but loopback needs the password.
        port: 0 takes a free one.
        browser: open the page in a browser.
        say: where the address goes.

    Raises:
        DataError: there is no sound study.
        OptionError: a page open to others without a password, or the study was analysed already.
        OutputError: the address is taken, or the answers cannot be written.
    """
    address = address or Address()
    password = os.environ.get(PASSWORD)
    check_password(address, password)
    study = read_study(folder)
    if study.unsealed:
        raise OptionError(
            f"{folder} was analysed, and no answer after that would be blind ({UNSEALED} says so); prepare a "
            "new study"
        )
    with opened(folder) as book, bound_socket(address.host, port) as listening, private_folder() as private:
        app = build(Readers(study, book, password), private, address)
        where = invite(listening, address, browser=browser)
        say(f"{COMMAND}: {where}; {counted(len(book.answers), 'answer')} so far")
        listen(app, listening, private, proxied=bool(address.public))
