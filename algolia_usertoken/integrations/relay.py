"""The relay: a page sends its events to your own server, and the server sends them to Algolia for the visitor it knows.

`EventsRelay.handle` decides, and its only I/O is to put events into the sender's queue. The adapters around it only
read a request and write the answer.

The idea is from Algolia's guide: https://www.algolia.com/doc/guides/sending-events/getting-started
"""

from __future__ import annotations

import functools
import json
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from ..checks import check_number, check_type, wrong_type
from ..context import current_identity, current_request
from ..events.rules import MAX_EVENTS, OF_CONVERSIONS
from ..events.sender import EventSender
from ..identity import ANONYMOUS_PREFIX, Identity, is_user_token
from .asgi import ASGIApp, Message, Receive, Scope, Send
from .visitor import check_application
from .wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["EventsRelay", "RelayAnswer"]

logger = logging.getLogger("algolia_usertoken.integrations")

PATH = "/1/events"  # the path to which search-insights sends, on any host
MAX_AGE_MS = 60 * 60 * 1000  # the age up to which a timestamp of the page is used

_OK = "OK"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# The fields that the server sets. Names are compared by `casefold`, as Algolia ignores upper and lower case in them.
# Some characters outside ASCII are letters of ASCII in another case, too: "ſ" is an s.
_NOT_THE_PAGES = frozenset(map(str.casefold, ("userToken", "authenticatedUserToken", "timestamp")))

_is_origin = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@\\,]+").fullmatch
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_is_length = re.compile(r"[0-9]{1,18}").fullmatch


class RelayAnswer(NamedTuple):
    """The answer to a page that sent events, as Algolia would give it.

    Attributes:
        status: The HTTP status: 200, 400, 403, 405, 413, 422 or 503.
        message: "OK", or what is wrong, in words that name no visitor.
        accepted: How many events the sender has accepted. For a visitor who opted out, this is 0.
        refused: How many events the sender has not accepted.
    """

    status: int
    message: str
    accepted: int = 0
    refused: int = 0


_FORBIDDEN = RelayAnswer(403, "Only the pages of this site may send events here")
_TOO_LARGE = RelayAnswer(413, "Request Entity Too Large")
_NOT_ALLOWED = RelayAnswer(405, "Method Not Allowed")
_UNREADABLE = RelayAnswer(400, "The body is not JSON")
_ACCEPTED = RelayAnswer(200, _OK, 1)  # a beacon has one event


class ClientWithEvents(Protocol):
    """A client that has a sender: a `TokenAwareClient`, or another object with `events`."""

    @property
    def events(self) -> EventSender: ...


class EventsRelay:
    """Receives the events of search-insights, InstantSearch and Autocomplete, and sends them for the visitor.

        relay = EventsRelay(client)
        app = IdentityMiddleware(relay.asgi(app), set_cookie=True)

    With `browser.settings(host=…)`, the page sends its events to the relay. The relay must be inside the middleware
    that recognises the visitor, because this middleware decides who the user of the events is. The page, the sender's
    token provider and its default do not. A `userToken` of the page is used only if it begins with `anonymous-` and the
    server knows neither a user token nor a login. An `authenticatedUserToken` of the page is never used. A timestamp of
    the page is used if it is within the last hour. For a visitor who opted out, the relay answers 200, and sends
    nothing.

    The relay accepts a request if its `Origin` header names the host and port of its `Host` header, or is one of
    `origins`. It accepts a request without an `Origin` if the browser sends `Sec-Fetch-Site: same-origin`.

    Args:
        events: An `EventSender`, or a client. For each request, a client is asked for the sender that it has then: a
            client that is closed and opened again has a new one. Even if the sender is `strict`, the relay raises no
            error for a refused event.
        origins: A list of more sites whose pages may send events, for example "https://shop.example" or
            "https://shop.example:8443". Add your own site if a proxy changes the `Host` header. None in the list allows
            requests without an `Origin`. Your own app sends such requests, but any other program can send them, too.
        max_bytes: How many bytes the body of a request may have. A larger one is answered with the status 413.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: One of `origins` is not a valid origin, or `max_bytes` is below 1.

    https://www.algolia.com/doc/guides/sending-events/getting-started
    """

    def __init__(
        self,
        events: EventSender | ClientWithEvents,
        *,
        origins: Collection[str | None] = (),
        max_bytes: int = 1_000_000,
    ) -> None:
        if not isinstance(events if isinstance(events, EventSender) else getattr(events, "events", None), EventSender):
            raise wrong_type("events", "an EventSender, or a client that has one", events)
        check_number("max_bytes", max_bytes, 1, whole=True)
        self._events = events
        self._origins = _checked_origins(origins)
        self._max_bytes = max_bytes

    def handle(
        self, body: bytes, *, origin: str | None, host: str | None, fetch_site: str | None = None
    ) -> RelayAnswer:
        """Queue the events in the body of a request, for the visitor of the current request.

            answer = relay.handle(body, origin=headers.get("Origin"), host=headers.get("Host"))

        Use it for a framework for which this class has no method. When it returns, the accepted events are in the
        sender's queue or outbox.

        Args:
            body: The body that the page posted: JSON, with any content type.
            origin: The request's `Origin` header, if it has one.
            host: Its `Host` header.
            fetch_site: Its `Sec-Fetch-Site` header, if it has one.

        Returns:
            The answer. Its status is 200 if at least one event was accepted, or the visitor opted out (then `accepted`
            is 0); 400 if the body is not JSON; 403 if the origin is not allowed; 413 if the body is too large; 422 if
            the body is not an object with a list of 1 to 1000 events, or all were refused (with the first reason); 503
            if the sender's queue is full, or the sender is closed.

        Raises:
            TypeError: `body` is not bytes.

        https://www.algolia.com/doc/rest-api/insights/push-events
        """
        check_type("body", body, (bytes, bytearray, memoryview), "bytes")
        return self._refusal(origin, host, fetch_site) or self._take(bytes(body))

    # The decisions.

    def _refusal(self, origin: str | None, host: str | None, fetch_site: str | None) -> RelayAnswer | None:
        """Return the answer to a page that must not send events here, or None if it may."""
        if origin is None:
            if fetch_site == "same-origin" or None in self._origins:
                return None
        else:
            origin = origin.lower()
            scheme, _, place = origin.partition("://")
            if (scheme in ("http", "https") and host and place == host.lower()) or origin in self._origins:
                return None
        _say_once(
            "the relay refused events of another site's page, or of a request that names none (403). If the page is "
            "your own, a proxy changes the Host on the way: name your site in EventsRelay(origins=…)"
        )
        return _FORBIDDEN

    def _begin(
        self, method: str, length: str | None, origin: str | None, host: str | None, fetch_site: str | None
    ) -> RelayAnswer | None:
        """Return the answer, if it can be given before the body was read."""
        if method != "POST":
            return _NOT_ALLOWED
        refusal = self._refusal(origin, host, fetch_site)
        if refusal is None and length is not None and _is_length(length) and int(length) > self._max_bytes:
            return _TOO_LARGE
        return refusal

    def _take(self, body: bytes) -> RelayAnswer:
        if len(body) > self._max_bytes:
            return _TOO_LARGE
        try:
            data = _decode(body.decode())
        except (ValueError, RecursionError):
            return _UNREADABLE
        events = data.get("events") if type(data) is dict else None
        if type(events) is not list or not events:
            return RelayAnswer(422, "The body must be an object with a list of events")
        if len(events) > MAX_EVENTS:
            return RelayAnswer(422, f"A request may have {MAX_EVENTS} events at most", 0, len(events))
        identity = current_identity()
        if identity is None and current_request() is None:
            _say_once(
                "the relay runs outside of the middleware that knows the visitor, so events count only for "
                "the anonymous tokens that pages send: put it inside, as in IdentityMiddleware(relay.asgi(app))"
            )
        elif identity is not None and identity.opted_out:
            return RelayAnswer(200, _OK)
        now = int(time.time() * 1000)
        identity = _attributable(identity)
        ready = [_of_server(event, identity, now) if type(event) is dict else event for event in events]
        sender = self._events if isinstance(self._events, EventSender) else self._events.events
        accepted, refused = sender._send_each(ready, identity, now)
        others = len(events) - accepted
        if accepted:
            return _ACCEPTED if accepted == 1 and not others else RelayAnswer(200, _OK, accepted, others)
        if len(refused) == len(events):
            return RelayAnswer(422, str(refused[0]), 0, others)
        return RelayAnswer(
            503, "The events cannot be queued now: the queue is full, or the sender is closed", 0, others
        )

    # The adapters.

    def asgi(self, app: ASGIApp, path: str = PATH) -> ASGIApp:
        """Add the relay to an ASGI application: Starlette, FastAPI, Litestar, or any other.

            app = IdentityMiddleware(relay.asgi(app))

        In Starlette and FastAPI, you can also call `app.add_middleware(relay.asgi)`, before the line that adds
        IdentityMiddleware.

        Args:
            app: The application.
            path: The path of the relay.

        Returns:
            The application with the relay around it.

        Raises:
            TypeError: `app` is not an ASGI application.
            ValueError: `path` does not start with a slash.
        """
        check_application(
            app, {"flask": "use flask()", "aiohttp": "use aiohttp()"}, "an ASGI", "scope", "receive", "send"
        )
        _check_path(path)

        async def relay(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or _path_of(scope) != path:
                await app(scope, receive, send)
                return
            headers = _headers_of(scope)
            answer = self._begin(
                scope["method"],
                headers.get(b"content-length"),
                headers.get(b"origin"),
                headers.get(b"host"),
                headers.get(b"sec-fetch-site"),
            )
            if answer is None:
                message = await receive()
                if message.get("more_body", False) or message["type"] != "http.request":
                    body = await self._read_on(message, receive)
                    if body is None:  # the visitor has gone
                        return
                else:  # nearly always
                    body = message.get("body", b"")
                answer = self._take(body)
            reply = _reply(answer.status, answer.message)
            await send({"type": "http.response.start", "status": answer.status, "headers": list(reply.raw_headers)})
            await send({"type": "http.response.body", "body": reply.content})

        return relay

    async def _read_on(self, message: Message, receive: Receive) -> bytes | None:
        """Return the body that begins with `message`, or as much of it as shows that it is too long.

        If the visitor is gone before the end of the body, return None.
        """
        parts: list[bytes] = []
        size = 0
        while message["type"] == "http.request":
            part: bytes = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > self._max_bytes or not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()
        return None

    def wsgi(self, app: WSGIApplication, path: str = PATH) -> WSGIApplication:
        """Add the relay to a WSGI application.

            app = IdentityMiddleware(relay.wsgi(app))

        Args:
            app: The application.
            path: The path of the relay.

        Returns:
            The application with the relay around it.

        Raises:
            TypeError: `app` is not a WSGI application.
            ValueError: `path` does not start with a slash.
        """
        check_application(app, {"aiohttp": "use aiohttp()"}, "a WSGI", "environ", "start_response")
        _check_path(path)
        path_info = path.encode("utf-8", "replace").decode("latin-1")  # as servers give it: PEP 3333

        def relay(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if environ.get("PATH_INFO") != path_info:
                return app(environ, start_response)
            answer = self._answer_environ(environ, environ.get("HTTP_HOST"), functools.partial(_read_environ, environ))
            reply = _reply(answer.status, answer.message)
            start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(reply.headers))
            return [reply.content]

        return relay

    def _answer_environ(self, environ: WSGIEnvironment, host: str | None, read: Callable[[int], bytes]) -> RelayAnswer:
        """Answer a request of a WSGI environ or Django's `META`; `read` reads at most so many bytes of its body."""
        answer = self._begin(
            environ["REQUEST_METHOD"],
            environ.get("CONTENT_LENGTH"),
            environ.get("HTTP_ORIGIN"),
            host,
            environ.get("HTTP_SEC_FETCH_SITE"),
        )
        if answer is not None:
            return answer
        try:
            body = read(self._max_bytes + 1)
        except Exception:  # each server has its own errors for a visitor who leaves, or sends invalid HTTP
            return _UNREADABLE
        return self._take(body)

    def flask(self, app: Any, path: str = PATH) -> None:
        """Add the relay to a Flask application.

            init_app(app)
            relay.flask(app)

        If you use Flask-WTF's CSRF check, exempt the relay:
        `csrf.exempt(app.view_functions["algolia_usertoken_relay"])`.

        Args:
            app: The application.
            path: The path of the relay.

        Raises:
            TypeError: `app` is not a Flask application.
            ValueError: `path` does not start with a slash.
        """
        from flask import Flask, Response, request

        check_type("app", app, Flask, "a Flask application")
        _check_path(path)

        def read(limit: int) -> bytes:
            # If its length was checked, the whole body: a function before the view may have read and kept it already.
            return request.get_data() if request.content_length is not None else request.stream.read(limit)

        def view() -> Response:
            answer = self._answer_environ(request.environ, request.environ.get("HTTP_HOST"), read)
            reply = _reply(answer.status, answer.message)
            return Response(reply.content, answer.status, reply.headers)

        app.add_url_rule(path, "algolia_usertoken_relay", view, methods=_METHODS, provide_automatic_options=False)

    def django(self, request: Any) -> Any:
        """Handle a request, as a Django view.

            urlpatterns = [path("1/events", relay.django)]

        The view is exempt from Django's CSRF check, because the relay checks the `Origin` header itself.

        Args:
            request: Django's request.

        Returns:
            Django's response.
        """
        from django.core.exceptions import DisallowedHost
        from django.http import HttpResponse

        try:
            host = request.get_host()  # by the settings about proxies
        except DisallowedHost:
            host = None
        answer = self._answer_environ(request.META, host, request.read)
        reply = _reply(answer.status, answer.message)
        return HttpResponse(reply.content, status=answer.status, headers=dict(reply.headers))

    django.csrf_exempt = True  # type: ignore[attr-defined]

    def aiohttp(self, app: Any, path: str = PATH) -> None:
        """Add the relay to an `aiohttp.web.Application`.

            app = web.Application(middlewares=[identity_middleware()])
            relay.aiohttp(app)

        Args:
            app: The application.
            path: The path of the relay.

        Raises:
            TypeError: `app` is not an `aiohttp.web.Application`.
            ValueError: `path` does not start with a slash.
        """
        from aiohttp import web

        check_type("app", app, web.Application, "an aiohttp.web.Application")
        _check_path(path)

        async def take(request: web.Request) -> web.Response:
            def header(name: str) -> str | None:
                values = request.headers.getall(name, ())
                return ", ".join(values) if values else None

            answer = self._begin(
                request.method, header("Content-Length"), header("Origin"), header("Host"), header("Sec-Fetch-Site")
            )
            if answer is None:
                answer = await self._answer_stream(request.content.readany)
            reply = _reply(answer.status, answer.message)
            return web.Response(body=reply.content, status=answer.status, headers=dict(reply.headers))

        app.router.add_route("*", path, take)

    async def _answer_stream(self, read: Callable[[], Awaitable[bytes]]) -> RelayAnswer:
        body = b""
        try:
            while len(body) <= self._max_bytes and (part := await read()):
                body += part
        except Exception:  # for example, the body is not gzip although a header says so
            return _UNREADABLE
        return self._take(body)


def _attributable(identity: Identity | None) -> Identity | None:
    """Return an identity with a user token, for which events can be sent; None if the server knows nobody."""
    if identity is None or identity.user_token is not None:
        return identity
    login = identity.authenticated_user_token
    return None if login is None else Identity(login, login)


def _of_server(event: dict[str, Any], identity: Identity | None, now: int) -> dict[str, Any]:
    """Return the event without what the page must not say about its user and its time. The event is changed."""
    claim, happened = event.pop("userToken", None), event.pop("timestamp", None)
    event.pop("authenticatedUserToken", None)
    own = event
    if not OF_CONVERSIONS.issuperset(event):
        own = {name: value for name, value in event.items() if name.casefold() not in _NOT_THE_PAGES}
    if identity is None and type(claim) is str and claim.startswith(ANONYMOUS_PREFIX) and is_user_token(claim):
        own["userToken"] = claim
    if type(happened) is int and now - MAX_AGE_MS <= happened <= now:
        own["timestamp"] = happened
    return own


def _no_constant(name: str) -> Any:
    raise ValueError("no JSON")


def _whole_number(digits: str) -> float:
    """Return the number; if it has more digits than Python reads, infinity, for which only its own event is refused."""
    try:
        return int(digits)
    except ValueError:
        return math.inf


_decoder = json.JSONDecoder(parse_constant=_no_constant)
_slow_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_int=_whole_number)


def _decode(text: str) -> Any:
    """Return the value of a JSON text. ValueError: it is not JSON. RecursionError: it is nested too deeply."""
    try:
        value, end = _decoder.raw_decode(text)
    except ValueError:
        return _slow_decoder.decode(text)  # there may be white space before it, or a number that is too long
    return value if end == len(text) else _decoder.decode(text)  # or after it


@functools.cache
def _say_once(message: str) -> None:
    logger.warning("%s. This is logged once", message)


# What the adapters share.


class _Reply(NamedTuple):
    content: bytes
    headers: tuple[tuple[str, str], ...]
    raw_headers: tuple[tuple[bytes, bytes], ...]


@functools.lru_cache(maxsize=64)  # nearly all are "OK"
def _reply(status: int, message: str) -> _Reply:
    """Return an answer in the form that servers take."""
    content = json.dumps({"status": status, "message": message}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    if status == 405:
        headers.append(("Allow", "POST"))
    raw_headers = tuple((name.lower().encode(), value.encode()) for name, value in headers)
    return _Reply(content, tuple(headers), raw_headers)


_READ = frozenset({b"content-length", b"origin", b"host", b"sec-fetch-site"})


def _headers_of(scope: Scope) -> dict[bytes, str]:
    """Return the headers that the relay reads. The values of a repeated one are joined, and so equal no valid value."""
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in _READ:
            text = value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _path_of(scope: Scope) -> str:
    """Return the path without the mount point of the application, which servers and frameworks leave in it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _read_environ(environ: WSGIEnvironment, limit: int) -> bytes:
    length = environ.get("CONTENT_LENGTH") or ""
    if _is_length(length):
        limit = min(limit, int(length))
    elif not environ.get("wsgi.input_terminated"):
        return b""  # its end is not known
    stream, parts, size = environ["wsgi.input"], [], 0
    while size < limit and (part := stream.read(limit - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _checked_origins(origins: object) -> frozenset[str | None]:
    if isinstance(origins, str | bytes) or not isinstance(origins, Collection):
        raise wrong_type("origins", "a list of origins", origins)
    for origin in origins:
        if origin is None:
            continue
        check_type("each of origins", origin, str, "a string or None")
        if not _is_origin(origin.lower()):
            raise ValueError(
                "origins must be as browsers send them, 'https://shop.example' or 'http://127.0.0.1:8000': a scheme, "
                "a host, and nothing after the port"
            )
        if origin.endswith(_DEFAULT_PORTS.get(origin.lower().partition(":")[0], "/")):
            raise ValueError("origins must not name a default port: browsers leave it out, so no page has that one")
    return frozenset(origin if origin is None else origin.lower() for origin in origins)


def _check_path(path: Any) -> None:
    check_type("path", path, str, "a string")
    if not path.startswith("/"):
        raise ValueError(f"path must start with a slash, not {path!r}")
