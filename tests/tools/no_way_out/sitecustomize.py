"""Python's own start-up file for a process that may reach loopback alone, and for the processes it starts.

Put this folder first into PYTHONPATH, and name a file in TTR_TEST_REACHED: each attempt to reach or to look
up anything else is refused and becomes a line there.
"""

import os
import sys

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
CONNECTING = ("socket.connect", "socket.sendto", "socket.sendmsg")
LOOKING_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def _watch(event: str, values: tuple) -> None:
    if event in CONNECTING:
        host = values[1][0] if isinstance(values[1], tuple) else ""  # a path: a socket of this machine
    elif event in LOOKING_UP:
        host = values[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    record = os.environ.get("TTR_TEST_REACHED")
    if record and host and not host.startswith(LOOPBACK):
        with open(record, "a", encoding="utf-8") as file:
            file.write(f"{event} {host} by {' '.join(sys.argv[:3])}\n")
        raise OSError(f"{host} is not this machine")


sys.addaudithook(_watch)
