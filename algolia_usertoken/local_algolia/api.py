"""Answers each call: checks its key, finds its route in the table, and turns errors into answers."""

from __future__ import annotations

from . import (  # noqa: F401 - they write into the table
    absent,
    analytics_routes,
    composition_routes,
    event_routes,
    key_routes,
    log_routes,
    personalization_routes,
    record_routes,
    rule_routes,
    search_routes,
)
from .application import Application
from .calls import Call, Reply, as_error
from .errors import ApiError
from .routes import Route, find

_OF_INSIGHTS = ("/1/event", "/1/usertoken")  # also paths that begin like this, but are mistyped
_NO_COMMAND_OF_INSIGHTS = (
    "Path not supported by Insights REST API. Please have a look at [https://www.algolia.com/doc/rest-api/insights/]"
    "(https://www.algolia.com/doc/rest-api/insights) for the list of valid commands."
)


def answer(app: Application, call: Call) -> Reply:
    """Answer one call. The searches and events in it are noted on the call."""
    try:
        _check_key(app, call)
        route, arguments = _route(call)
        if route.acl is not None:
            call.grant.check_acl(route.acl)
        if route.names_index:
            call.grant.check_index(arguments[0])
        with app.records.lock:
            return route.handler(app, call, *arguments)
    except ApiError as error:
        return as_error(error)
    except RecursionError:  # pragma: no cover - of a cursor that was read and is too deep to write, in some Pythons
        return as_error(ApiError(400, "The request is nested too deeply"))


def _check_key(app: Application, call: Call) -> None:
    key = call.named("x-algolia-api-key")
    try:
        if call.named("x-algolia-application-id") != app.app_id or not key:
            raise ApiError(403, "Invalid Application-ID or API key")
        call.grant = app.keys.grant(key, call.received_at)
    except ApiError:
        if call.path.startswith(_OF_INSIGHTS):
            raise ApiError(401, "Invalid credentials") from None
        raise


def _route(call: Call) -> tuple[Route, list[str]]:
    found = find(call.method, call.path)
    if found is not None:
        return found
    if call.path == "/1/events":
        raise ApiError(405, "Method Not Allowed")
    if call.path.startswith(_OF_INSIGHTS):
        raise ApiError(404, _NO_COMMAND_OF_INSIGHTS)
    raise ApiError(404, absent.answer_to(call.method, call.path))
