"""Free ports, for servers that can't choose one themselves."""

from __future__ import annotations

import secrets
import socket


def free_port() -> int:
    """A port on which no server listens.

    It is below the ports that a system assigns (from 32768 on Linux, from 49152 elsewhere), so no other server and no
    outgoing connection gets it before it is used. A connection to an assigned port may even connect to itself.
    """
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
