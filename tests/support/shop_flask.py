"""Flask: sync and async views, a streamed body, a teardown, an error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import shop
from flask import Flask, Response, g, render_template_string, request, session, stream_with_context

from algolia_usertoken import browser, set_authenticated_user_token
from algolia_usertoken.integrations.flask import init_app

app = Flask(__name__)
app.secret_key = "for tests only"
init_app(
    app,
    authenticated_user_token=lambda request: session.get("token") or request.headers.get("X-Login"),
    set_cookie=lambda request: request.cookies.get("consent") != "later",
    header=shop.HEADER,
    opted_out=lambda request: shop.refused(request.headers.get("Cookie")),
)


@app.get("/<visitor>/sync/<number>")
def in_view(visitor: str, number: str) -> Any:
    return shop.act_and_search(request.path[1:])


@app.get("/<visitor>/stream/<number>")
def in_stream(visitor: str, number: str) -> Any:
    what, pause = request.path[1:], float(request.args.get("pause", 0))

    def body() -> Iterator[bytes]:
        shop.act(what)
        for _ in range(3):
            shop.search(what)
            yield b"."
            time.sleep(pause)

    return Response(body())


@app.get("/<visitor>/context-stream/<number>")
def in_stream_with_context(visitor: str, number: str) -> Any:
    shop.act(request.path[1:])

    def body() -> Iterator[bytes]:
        for _ in range(3):
            shop.search(request.path[1:])
            yield b"."

    return Response(stream_with_context(body()))


@app.get("/<visitor>/teardown/<number>")
def before_teardown(visitor: str, number: str) -> Any:
    shop.act(request.path[1:])
    g.searched_in_teardown = request.path[1:]
    return shop.seen()


@app.teardown_request
def in_teardown(error: BaseException | None) -> None:
    if "searched_in_teardown" in g:
        shop.search(g.searched_in_teardown)


@app.get("/<visitor>/error/<number>")
def before_an_error(visitor: str, number: str) -> Any:
    shop.act(request.path[1:])
    raise ZeroDivisionError


@app.errorhandler(ZeroDivisionError)
def on_error(error: Exception) -> Any:
    return shop.search(request.path[1:]), 500


@app.post("/login")
def login() -> Any:
    session["token"] = request.form["token"]
    set_authenticated_user_token(request.form["token"])
    return shop.search("login")


@app.post("/logout")
def logout() -> Any:
    session.clear()
    set_authenticated_user_token(None)
    return shop.search("logout")


@app.get("/settings")
def settings() -> Any:
    return browser.settings()


@app.get("/page")
def page() -> Any:
    return render_template_string("<html>{{ algolia_user_token(nonce=nonce) }}</html>", nonce=request.args.get("nonce"))
