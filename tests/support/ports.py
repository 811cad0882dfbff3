"""Free ports, for servers that have to be told one."""

from __future__ import annotations

import secrets
import socket


def free_port() -> int:
    """A port that nobody listens on.

    It is below those that a system hands out (from 32768 on Linux, from 49152 elsewhere), so that until it is used no
    other server and no outgoing connection gets it. A connection to a port of those may even be answered by itself.
    """
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
