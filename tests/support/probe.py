"""What all probes share: applications that search as their visitor, send a click, and watch the context.

The servers' tests run the shops of docs/examples first; see documented_shop.py. The modules `probe_…` are for what the
shops do not have: other frameworks; streams, background tasks, WebSockets, dependencies and errors, in which the
identity must hold as well; and a login in a header, so that a crowd of visitors needs no sessions.

`what` identifies a request, for example "17/stream/login-123": the number of the visitor, the kind of view, what the
request sets (if anything), and the number of the request.
"""

from __future__ import annotations

import os
from typing import Any

from algolia_usertoken import (
    TokenAwareClient,
    TokenAwareClientSync,
    current_identity,
    set_authenticated_user_token,
    set_user_token,
)
from algolia_usertoken.testing import LocalAlgolia

HEADER = "X-Algolia-UserToken"  # in which an app of ours sends its token

# This LocalAlgolia is not started: it runs in the process of the test, and this process only needs its address.
algolia = LocalAlgolia(port=int(os.environ.get("LOCAL_ALGOLIA_PORT", "1")))
client = TokenAwareClientSync.create_with_config(algolia.search_config(), insights_config=algolia.insights_config())
_async_clients: list[TokenAwareClient] = []


def act(what: str) -> None:
    """Log in, log out or set a token for the rest of the request. No other request sets the same login or token."""
    verb, _, number = what.rpartition("/")[2].partition("-")
    if verb == "login":
        set_authenticated_user_token(f"logged-in-{number}")
    elif verb == "logout":
        set_authenticated_user_token(None)
    elif verb == "token":
        set_user_token(f"set-{number}")


def act_and_search(what: str) -> dict[str, Any]:
    act(what)
    return search(what)


async def act_and_search_async(what: str) -> dict[str, Any]:
    act(what)
    return await search_async(what)


def search(what: str) -> dict[str, Any]:
    response = client.search_single_index("products", {"query": what, "clickAnalytics": True})
    client.events.clicked_object_ids_after_search("Clicked", "products", [what], [1], response.query_id)
    return seen()


async def search_async(what: str, shared: bool = True) -> dict[str, Any]:
    """As `search`, but async. `shared` is for servers where all requests share one event loop, and so connections."""
    if not shared:
        async with new_async_client() as own:
            return await _search_with(own, what)
    if not _async_clients:
        _async_clients.append(new_async_client())
    return await _search_with(_async_clients[0], what)


async def _search_with(async_client: TokenAwareClient, what: str) -> dict[str, Any]:
    response = await async_client.search_single_index("products", {"query": what, "clickAnalytics": True})
    client.events.clicked_object_ids_after_search("Clicked", "products", [what], [1], response.query_id)
    return seen()


def new_async_client() -> TokenAwareClient:
    return TokenAwareClient.create_with_config(algolia.search_config(), insights_config=algolia.insights_config())


async def close_async() -> None:
    while _async_clients:
        await _async_clients.pop().close()


def seen() -> dict[str, Any]:
    """The identity that the application sees."""
    identity = current_identity()
    if identity is None:
        return {"identity": None}
    return {
        "user_token": identity.user_token,
        "authenticated_user_token": identity.authenticated_user_token,
        "client_ip": identity.client_ip,
        "opted_out": identity.opted_out,
    }


def header(scope: Any, name: bytes) -> str | None:
    """A header of an ASGI request."""
    return next((value.decode() for key, value in scope["headers"] if key == name), None)


def refused(cookies: str | None) -> bool:
    return "consent=no" in (cookies or "")


def watch(when: str) -> None:
    """Note for the test if there is an identity outside of a request, where there should be none."""
    if current_identity() is not None and "LEAKS" in os.environ:
        with open(os.environ["LEAKS"], "a", encoding="utf-8") as leaks:
            leaks.write(f"{when}: {current_identity()}\n")


def watched_wsgi(application: Any) -> Any:
    """`application`, with a check of the context before and after each request."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        watch(f"before {environ['PATH_INFO']}")
        try:
            return application(environ, start_response)
        finally:
            watch(f"after {environ['PATH_INFO']}")

    return app


def watched_asgi(application: Any) -> Any:
    """The same as `watched_wsgi`, for ASGI."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        watch(f"before {scope.get('path')}")
        try:
            await application(scope, receive, send)
        finally:
            watch(f"after {scope.get('path')}")

    return app
