"""Flask: a view, two kinds of streamed bodies, a teardown, an error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import probe
from flask import Flask, Response, g, request, stream_with_context

from algolia_usertoken.integrations.flask import init_app

app = Flask(__name__)
init_app(
    app,
    authenticated_user_token=lambda request: request.headers.get("X-Login"),
    set_cookie=True,
    header=probe.HEADER,
    opted_out=lambda request: probe.refused(request.headers.get("Cookie")),
)


@app.get("/<visitor>/sync/<number>")
def in_view(visitor: str, number: str) -> Any:
    return probe.act_and_search(request.path[1:])


@app.get("/<visitor>/stream/<number>")
def in_stream(visitor: str, number: str) -> Any:
    what, pause = request.path[1:], float(request.args.get("pause", 0))

    def body() -> Iterator[bytes]:
        probe.act(what)
        for _ in range(3):
            probe.search(what)
            yield b"."
            time.sleep(pause)

    return Response(body())


@app.get("/<visitor>/context-stream/<number>")
def in_stream_with_context(visitor: str, number: str) -> Any:
    probe.act(request.path[1:])

    def body() -> Iterator[bytes]:
        for _ in range(3):
            probe.search(request.path[1:])
            yield b"."

    return Response(stream_with_context(body()))


@app.get("/<visitor>/teardown/<number>")
def before_teardown(visitor: str, number: str) -> Any:
    probe.act(request.path[1:])
    g.searched_in_teardown = request.path[1:]
    return probe.seen()


@app.teardown_request
def in_teardown(error: BaseException | None) -> None:
    if "searched_in_teardown" in g:
        probe.search(g.searched_in_teardown)


@app.get("/<visitor>/error/<number>")
def before_an_error(visitor: str, number: str) -> Any:
    probe.act(request.path[1:])
    raise ZeroDivisionError


@app.errorhandler(ZeroDivisionError)
def on_error(error: Exception) -> Any:
    return probe.search(request.path[1:]), 500
