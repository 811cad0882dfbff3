"""Free ports, for servers that can't choose one themselves."""

from __future__ import annotations

import os
import secrets
import socket

# Each process of pytest-xdist ("gw0", "gw1", …) gives ports of its own, and none twice: two tests that have just got
# the same port would both go to the server of the one that is quicker.
_PROCESSES = 10
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
_given: set[int] = set()


def free_port() -> int:
    """A port on which no server listens.

    It is below the ports that a system assigns (from 32768 on Linux, from 49152 elsewhere), so no other server and no
    outgoing connection gets it before it is used. A connection to an assigned port may even connect to itself.
    """
    while True:
        port = 15_000 + _PROCESSES * secrets.randbelow(15_000 // _PROCESSES) + _PROCESS
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
