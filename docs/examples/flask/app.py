"""The example shop with Flask: `python docs/examples/flask/app.py --port 8000`."""

from __future__ import annotations

import argparse
import pathlib
import signal
import sys
from typing import Any

from flask import Flask, Request, Response, abort, jsonify, redirect, request, send_from_directory, session
from werkzeug.exceptions import HTTPException

from algolia_usertoken import TokenAwareClientSync, browser, pseudonymous_user_token, set_authenticated_user_token
from algolia_usertoken.integrations.flask import init_app
from algolia_usertoken.integrations.relay import EventsRelay

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from shop import backend, pages, store

algolia = backend.connect()
# One client for the whole shop. It never hears of a user token: each request has one of its own.
client = TokenAwareClientSync.create_with_config(algolia.search_config, insights_config=algolia.insights_config)

app = Flask(__name__, static_folder=pages.STATIC)
app.config.update(SECRET_KEY=backend.SECRET, SESSION_COOKIE_SAMESITE="Lax")


# -- Who the visitor is ------------------------------------------------------------------------------------------------


def consented(request: Request) -> bool:
    return request.cookies.get("consent") == "yes"


def refused(request: Request) -> bool:
    return request.cookies.get("consent") == "no"


def who_is_logged_in(request: Request) -> str | None:
    user = session.get("user")
    return pseudonymous_user_token(user, secret=backend.SECRET) if user and consented(request) else None


init_app(
    app,
    authenticated_user_token=who_is_logged_in,
    set_cookie=consented,
    opted_out=refused,
    client_ip=True,
)
if pages.RELAY:
    EventsRelay(client).flask(app, pages.RELAY_PATH)


# -- The pages ---------------------------------------------------------------------------------------------------------


def visit() -> pages.Visit:
    return pages.Visit(request.cookies, session, store.Query.of(request.args))


def page(template: str, status: int | None = 200, **values: Any) -> Response:
    html, headers = pages.render(template, visit(), algolia, **values)
    return Response(html, status, headers)


def search(query: store.Query) -> store.Results:
    return store.Results.of(query, client.search(query.requests(algolia.index)), client.events)


def product_or_404(key: str) -> dict[str, Any]:
    if key not in backend.PRODUCTS:
        abort(404, "There is no such product")
    return backend.PRODUCTS[key]


@app.get("/")
def home() -> Response:
    return page("search.html", results=search(visit().query))


@app.get("/instant")
def instant() -> Response:
    return page("instant.html", results=search(visit().query))


@app.get("/product/<key>")
def product(key: str) -> Response:
    found = product_or_404(key)
    store.see(client.events, algolia.index, session, found, request.args.get("ref", ""))
    return page("product.html", product=found)


@app.get("/cart")
def cart() -> Response:
    lines = store.lines(session)
    return page("cart.html", lines=lines, total=store.total(lines), order=False)


@app.post("/cart/add")
def add_to_cart() -> Any:
    found = product_or_404(request.form.get("objectID", ""))
    store.put_into_cart(client.events, algolia.index, session, found)
    return redirect("/cart", 303)


@app.post("/cart/remove")
def remove_from_cart() -> Any:
    store.take_out(session, request.form.get("objectID", ""))
    return redirect("/cart", 303)


@app.post("/checkout")
def checkout() -> Response:
    bought = store.buy(client.events, algolia.index, session)
    return page("cart.html", lines=bought, total=store.total(bought), order=True)


@app.get("/login")
def login_page() -> Response:
    return page("login.html", results=search(store.Query()))


@app.post("/login")
def login() -> Response:
    user = request.form.get("user", "").strip()[:40]
    if not user:
        abort(400, "Please tell us your name")
    session["user"] = user  # from the next request on
    set_authenticated_user_token(who_is_logged_in(request))  # for the rest of this one
    return page("login.html", results=search(store.Query()))


@app.post("/logout")
def logout() -> Any:
    session.pop("user", None)
    set_authenticated_user_token(None)
    return redirect("/", 303)


@app.post("/consent")
def consent() -> Any:
    response = redirect("/", 303)
    for name, value, attributes in pages.consent_cookies(request.form.get("choice", "")):
        response.set_cookie(name, value, **attributes)
    return response


@app.get("/received")
def received() -> Response:
    html, headers = pages.received(visit(), algolia)
    return Response(html, headers=headers)


@app.get("/identity.json")
def identity() -> Any:
    return jsonify(browser.settings()), pages.PRIVATE


@app.get("/static/npm/<path:name>")
def npm(name: str) -> Response:
    return send_from_directory(pages.NPM, name) if pages.NPM else abort(404)


@app.errorhandler(HTTPException)
def message(error: HTTPException) -> Response:
    return page("message.html", error.code, message=error.description)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    client.events.close_on_signal(signal.SIGTERM)  # delivers the last events
    app.run(port=parser.parse_args().port)
