"""The example shop with FastAPI: `python docs/examples/fastapi/app.py --port 8000`."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import parse_qsl

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection

from algolia_usertoken import TokenAwareClient, browser, pseudonymous_user_token, set_authenticated_user_token
from algolia_usertoken.integrations.asgi import IdentityMiddleware, Scope
from algolia_usertoken.integrations.relay import EventsRelay

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from shop import backend, pages, store

HEADER = "X-Algolia-UserToken"

algolia = backend.connect()
# One client for the whole shop. It never hears of a user token: each request has one of its own.
client = TokenAwareClient.create_with_config(algolia.search_config, insights_config=algolia.insights_config)


# -- Who the visitor is ------------------------------------------------------------------------------------------------


def consented(scope: Scope) -> bool:
    return HTTPConnection(scope).cookies.get("consent") == "yes"


def refused(scope: Scope) -> bool:
    return HTTPConnection(scope).cookies.get("consent") == "no"


def who_is_logged_in(scope: Scope) -> str | None:
    user = scope["session"].get("user")
    # Who uses the app has consented there, or it would send no token.
    may_be_told = consented(scope) or HEADER in HTTPConnection(scope).headers
    return pseudonymous_user_token(user, secret=backend.SECRET) if user and may_be_told else None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await client.close()  # delivers the last events


app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
if pages.RELAY:  # added before the middleware, so that it is inside
    app.add_middleware(EventsRelay(client).asgi, path=pages.RELAY_PATH)
app.add_middleware(
    IdentityMiddleware,
    authenticated_user_token=who_is_logged_in,
    set_cookie=consented,
    opted_out=refused,
    header=HEADER,  # this shop has a mobile app
    client_ip=True,
)
# Added last, so it comes first: the session is there by then.
app.add_middleware(SessionMiddleware, secret_key=backend.SECRET)


# -- The pages ---------------------------------------------------------------------------------------------------------


async def form_of(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace")))


Form = Annotated[dict[str, str], Depends(form_of)]


def visit(request: Request) -> pages.Visit:
    query = store.Query.of(request.query_params)
    return pages.Visit(request.cookies, request.session, query, request.headers.get(HEADER))


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    html, headers = pages.render(template, visit(request), algolia, **values)
    return HTMLResponse(html, status, headers)


async def search(query: store.Query) -> store.Results:
    return store.Results.of(query, await client.search(query.requests(algolia.index)), client.events)


def product_or_404(key: str) -> dict[str, Any]:
    if key not in backend.PRODUCTS:
        raise HTTPException(404, "There is no such product")
    return backend.PRODUCTS[key]


@app.get("/")
async def home(request: Request) -> Response:
    return page(request, "search.html", results=await search(visit(request).query))


@app.get("/instant")
async def instant(request: Request) -> Response:
    return page(request, "instant.html", results=await search(visit(request).query))


@app.get("/product/{key}")
async def product(request: Request, key: str) -> Response:
    found = product_or_404(key)
    store.see(client.events, algolia.index, request.session, found, request.query_params.get("ref", ""))
    return page(request, "product.html", product=found)


@app.get("/cart")
async def cart(request: Request) -> Response:
    lines = store.lines(request.session)
    return page(request, "cart.html", lines=lines, total=store.total(lines), order=False)


@app.post("/cart/add")
async def add_to_cart(request: Request, form: Form) -> Response:
    found = product_or_404(form.get("objectID", ""))
    store.put_into_cart(client.events, algolia.index, request.session, found)
    return RedirectResponse("/cart", 303)


@app.post("/cart/remove")
async def remove_from_cart(request: Request, form: Form) -> Response:
    store.take_out(request.session, form.get("objectID", ""))
    return RedirectResponse("/cart", 303)


@app.post("/checkout")
async def checkout(request: Request) -> Response:
    bought = store.buy(client.events, algolia.index, request.session)
    return page(request, "cart.html", lines=bought, total=store.total(bought), order=True)


@app.get("/login")
async def login_page(request: Request) -> Response:
    return page(request, "login.html", results=await search(store.Query()))


@app.post("/login")
async def login(request: Request, form: Form) -> Response:
    user = form.get("user", "").strip()[:40]
    if not user:
        raise HTTPException(400, "Please tell us your name")
    request.session["user"] = user  # from the next request on
    set_authenticated_user_token(who_is_logged_in(request.scope))  # for the rest of this one
    return page(request, "login.html", results=await search(store.Query()))


@app.post("/logout")
async def logout(request: Request) -> Response:
    request.session.pop("user", None)
    set_authenticated_user_token(None)
    return RedirectResponse("/", 303)


@app.post("/consent")
async def consent(request: Request, form: Form) -> Response:
    response = RedirectResponse("/", 303)
    for name, value, attributes in pages.consent_cookies(form.get("choice", "")):
        response.set_cookie(name, value, **attributes)
    return response


@app.get("/received")
async def received(request: Request) -> Response:
    html, headers = pages.received(visit(request), algolia)
    return HTMLResponse(html, headers=headers)


@app.get("/identity.json")
async def identity() -> Response:
    return JSONResponse(browser.settings(), headers=pages.PRIVATE)


@app.exception_handler(StarletteHTTPException)
async def message(request: Request, error: StarletteHTTPException) -> Response:
    return page(request, "message.html", error.status_code, message=error.detail)


if pages.NPM:
    app.mount("/static/npm", StaticFiles(directory=pages.NPM))
app.mount("/static", StaticFiles(directory=pages.STATIC))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    uvicorn.run(app, port=parser.parse_args().port)
