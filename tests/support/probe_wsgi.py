"""A bare WSGI application that searches in the view, in each step of the body and in its close, and raises an error."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import probe

from algolia_usertoken.integrations.wsgi import IdentityMiddleware


class Body:
    def __init__(self, what: str, pause: float) -> None:
        self.what = what
        self.steps = 3
        self.pause = pause

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self.steps:
            raise StopIteration
        self.steps -= 1
        probe.act_and_search(self.what)
        time.sleep(self.pause)
        return b"."

    def close(self) -> None:
        probe.search(self.what)


def application(environ: dict[str, Any], start_response: Any) -> Any:
    what = environ["PATH_INFO"][1:]
    kind = what.split("/")[1]
    if kind == "generator":
        return generator(what, start_response)
    if kind == "stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body(what, 0.02 if environ["QUERY_STRING"] else 0)
    found = probe.act_and_search(what)
    if kind == "error":
        raise ZeroDivisionError
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]


def generator(what: str, start_response: Any) -> Iterator[bytes]:
    # This code runs only when the server iterates over the body.
    start_response("200 OK", [("Content-Type", "text/plain")])
    probe.act_and_search(what)
    yield b"."
    probe.search(what)


app = probe.watched_wsgi(
    IdentityMiddleware(
        application,
        authenticated_user_token=lambda environ: environ.get("HTTP_X_LOGIN"),
        set_cookie=True,
        header=probe.HEADER,
        opted_out=lambda environ: probe.refused(environ.get("HTTP_COOKIE")),
    )
)
