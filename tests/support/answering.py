"""Servers on the loopback interface that give the answers that a test chooses."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from waiting import PATIENCE


@contextmanager
def served_by(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """Run a server on a free port while the block runs; yields the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def answering(status: int, body: bytes, length: int | None = None) -> Iterator[int]:
    """Run a server that always gives this answer. If `length` is more than the body has, the rest never comes."""
    gone = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)
            if length is not None:
                gone.wait(PATIENCE)

        do_GET = do_POST = answer

        def log_message(self, *args: Any) -> None:
            pass

    with served_by(Handler) as port:
        try:
            yield port
        finally:
            gone.set()
