"""The answer to each call: its key, its place in the table of routes, and what went wrong."""

from __future__ import annotations

from . import event_routes, log_routes, record_routes, search_routes  # noqa: F401 - they write into the table
from .application import Application
from .calls import Call, Reply, as_error, whole
from .errors import ApiError
from .keys import restrictions
from .routes import Route, find

_WRONG_KEY = "Invalid Application-ID or API key"


def answer(app: Application, call: Call) -> Reply:
    """Answer one call. What it asked or reported is noted on it."""
    try:
        _check_key(app, call)
        route, arguments = _route(call)
        with app.records.lock:
            return route.handler(app, call, *arguments)
    except ApiError as error:
        return as_error(error)
    except RecursionError:  # in a text inside the body that is JSON itself
        return as_error(ApiError(400, "The request is nested too deeply"))


def _check_key(app: Application, call: Call) -> None:
    if not _may(app, call):
        if call.path.startswith(("/1/events", "/1/usertokens/")):
            raise ApiError(401, "Invalid credentials")
        raise ApiError(403, _WRONG_KEY)


def _may(app: Application, call: Call) -> bool:
    key = call.named("x-algolia-api-key")
    if call.named("x-algolia-application-id") != app.app_id or not key:
        return False
    if key == app.api_key:
        return True
    restricted = restrictions(key, app.api_key)
    if restricted is None:
        return False
    call.restrictions = restricted
    until = whole(restricted.get("validUntil"))
    return until is None or until >= call.received_at


def _route(call: Call) -> tuple[Route, list[str]]:
    found = find(call.method, call.path)
    if found is not None:
        return found
    if call.path == "/1/events":
        raise ApiError(405, "Method Not Allowed")
    raise ApiError(404, f"Path not supported by this API: {call.method} {call.path[:200]}")
