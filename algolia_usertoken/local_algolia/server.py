"""The HTTP server of the stand-in: one daemon thread, one event loop, one listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.http import RawRequestMessage

from .access import Access
from .api import answer
from .application import Application
from .calls import Call, Reply, as_error, decompressed
from .errors import ApiError
from .faults import Fault, Faults
from .inspector import PAGE, Inspector
from .routes import find, max_bytes

_GRACE_SECONDS = 0.05

# A page of another origin may call Algolia, so it may call the stand-in too.
_CORS = {"Access-Control-Allow-Origin": "*", "Timing-Allow-Origin": "*"}

# The inspector shows data that others sent, so its page may run its own script only, and load nothing.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

# The answer to a person who checks with curl whether the server is running.
_SENTENCE = """\
This is LocalAlgolia, a stand-in for Algolia with the application id {app_id}.
Open this address in a browser to see who searches and clicks; GET /inspector/state is the same as JSON.
"""

_NUMBER = re.compile("[0-9]{1,15}")

_log = logging.getLogger(__name__)


class Server:
    """Serves from `start` to `stop`; each may be called once."""

    def __init__(self, listening: socket.socket, app: Application, faults: Faults, access: Access) -> None:
        self._listening = listening
        self._app = app
        self._faults = faults
        self._access = access
        self._inspector = Inspector(app.received)
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="LocalAlgolia", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        if os.getpid() != self._pid:
            # A forked child has no such thread, and the socket belongs to the parent.
            self._listening.close()
            return
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        # The same kind of loop on every platform: add_reader works with this kind only.
        loop = asyncio.SelectorEventLoop()
        try:
            loop.run_until_complete(self._serve(loop))
            loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException as error:
            self._failure = error
        finally:
            self._listening.close()
            loop.close()
            self._started.set()

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stopping = asyncio.Event()
        server = _Connections(
            self._handle,
            request_factory=self._request,
            # If a client closes its connection, the handler of its request is cancelled.
            handler_cancellation=True,
            # aiohttp would leave a request hanging if its body is not encoded as its header says.
            auto_decompress=False,
            access_log=None,
            logger=_log,
        )
        server.accept_from(self._listening)
        self._started.set()
        await self._stopping.wait()
        await server.close()

    def _request(
        self, message: RawRequestMessage, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
    ) -> web.BaseRequest:
        assert self._loop is not None
        most = max_bytes(message.method, _target(message.path).partition("?")[0])
        # One byte more than allowed, as some versions of aiohttp refuse a body that has exactly the allowed size.
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=most + 1)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query_string = _target(request.raw_path).partition("?")
        call = Call(
            method=request.method,
            path=path,
            query_string=query_string,
            headers=request.headers,
            body=b"",
            client_ip=request.remote or "",
            received_at=time.time(),
        )
        try:
            self._check_sender(request, call)
        except ApiError as error:
            if not path.startswith("/inspector/"):
                self._note(call, error.status)
            return _response(as_error(error), headers={})  # the page that asked may not even read the refusal
        # A browser that opens this address gets the inspector. No client of Algolia asks for an HTML page.
        if path.startswith("/inspector/") or (path == "/" and "text/html" in request.headers.get("accept", "")):
            return self._inspect(call.method, path, query_string)
        refused = None
        try:
            call.body = await _read(request, max_bytes(call.method, path))
        except ApiError as error:
            refused = error
        if call.method == "OPTIONS":
            # No fault is applied to a preflight: it is meant for the request that follows.
            self._note(call, 200)
            return _preflight(request)
        fault = self._faults.next_for(call.method, path)
        if fault is not None:
            return await self._go_wrong(request, call, fault)
        if refused is not None:
            self._note(call, refused.status)
            return _response(as_error(refused))
        if path == "/" and call.method in ("GET", "HEAD") and call.named("x-algolia-application-id") is None:
            self._note(call, 200)
            return web.Response(text=_SENTENCE.format(app_id=self._app.app_id))
        return _response(self._answer(call))

    def _check_sender(self, request: web.BaseRequest, call: Call) -> None:
        named = _authority(request.raw_path)
        self._access.check_host([*request.headers.getall("host", ()), *([named] if named is not None else [])])
        if call.path.startswith("/inspector/"):
            self._access.check_same_origin(call.headers)
            return
        found = find(call.method, call.path)
        if found is not None and not found[0].for_pages:
            self._access.check_site(call.headers)

    def _inspect(self, method: str, path: str, query_string: str) -> web.Response:
        if (method, path) == ("GET", "/"):
            return web.Response(
                body=PAGE.read_bytes(), content_type="text/html", charset="utf-8", headers=_PAGE_HEADERS
            )
        if (method, path) == ("GET", "/inspector/state"):
            query = dict(parse_qsl(query_string))
            number = query.get("number", "")
            state = self._inspector.state(query.get("epoch"), int(number) if _NUMBER.fullmatch(number) else 0)
            return web.json_response(state, headers={"Cache-Control": "no-store"})
        if (method, path) == ("POST", "/inspector/clear"):
            self._app.received.clear()
            self._inspector.forget()
            return web.json_response({})
        return web.Response(status=404)

    def _answer(self, call: Call, answered: bool = True) -> Reply:
        reply = answer(self._app, call)
        self._note(call, reply.status if answered else None)
        return reply

    def _note(self, call: Call, status: int | None) -> None:
        searches = call.searches
        if searches and status not in (200, None):
            searches = [replace(search, status=status, query_id=None) for search in searches]
        self._app.received.add(call.received(status), searches, call.events)

    async def _go_wrong(self, request: web.BaseRequest, call: Call, fault: Fault) -> web.StreamResponse:
        assert self._stopping is not None
        if fault.kind == "answer":
            self._note(call, fault.status)
            await asyncio.sleep(fault.delay)
            return web.Response(status=fault.status, body=fault.body, headers={**_CORS, **(fault.headers or {})})
        if fault.kind == "delay":
            reply = self._answer(call)
            await asyncio.sleep(fault.delay)
            return _response(reply)
        if fault.processed:
            self._answer(call, answered=False)
        else:
            self._note(call, None)
        if fault.kind == "hang":
            await self._stopping.wait()
        if request.transport is not None:  # pragma: no branch - the client may have disconnected
            request.transport.abort()
        return web.Response()


class _Connections(web.Server):
    """Accepts connections, and tracks each of them from the moment it is accepted until it is lost.

    If asyncio's own server closes, it does not track a connection that is just being accepted, and aiohttp's clean-up
    does not wait until a closed connection is lost. If the loop ended then, sockets would be left open.
    """

    def __init__(self, handler: Any, **arguments: Any) -> None:
        super().__init__(handler, **arguments)
        self._loop = asyncio.get_running_loop()
        self._listening: socket.socket | None = None
        self._beginning: set[asyncio.Task[Any]] = set()
        self._transports: dict[web.RequestHandler, asyncio.Transport] = {}
        self._none_left = asyncio.Event()

    def accept_from(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._loop.add_reader(listening, self._accept)

    async def close(self) -> None:
        """Accept no more connections, close the open ones, and return when all of them are lost."""
        if self._listening is not None:  # pragma: no branch - None only if the start failed
            self._loop.remove_reader(self._listening)
            self._listening = None
        if self._beginning:
            await asyncio.wait(self._beginning)
        self.pre_shutdown()
        await self.shutdown(_GRACE_SECONDS)
        await self._all_lost()
        # The connections that are left have an answer to send that their client does not read.
        for transport in self._transports.values():
            transport.abort()
        await self._all_lost()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._transports[handler] = transport
        self._none_left.clear()
        super().connection_made(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._transports.pop(handler, None)
        if not self._transports:
            self._none_left.set()
        super().connection_lost(handler, exc)

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            connection, _ = self._listening.accept()
        except OSError:
            # Most likely there are no more file descriptors. The connection waits, as an immediate retry would be a
            # busy loop.
            self._loop.remove_reader(self._listening)
            self._loop.call_later(_GRACE_SECONDS, self._accept_again)
            return
        connection.setblocking(False)
        beginning = self._loop.create_task(self._begin(connection))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)

    def _accept_again(self) -> None:
        if self._listening is not None:  # pragma: no branch - it may have closed meanwhile
            self._loop.add_reader(self._listening, self._accept)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self, connection)
        except OSError:
            connection.close()

    async def _all_lost(self) -> None:
        if self._transports:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._none_left.wait(), _GRACE_SECONDS)


async def _read(request: web.BaseRequest, most: int) -> bytes:
    """The decompressed body. Raises `ApiError` if it is invalid, or larger than `most` bytes before or after that."""
    try:
        body: bytes = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "Request Entity Too Large") from None
    except (web.RequestPayloadError, asyncio.IncompleteReadError):  # pragma: no cover - the client has disconnected
        raise ApiError(400, "The request body could not be read") from None
    return decompressed(body, request.headers.get("content-encoding", "identity"), most)


# A client that goes through a proxy names the whole URL (RFC 9112, 3.2.2).
_whole_url = re.compile(r"http:/{2}([^/?]*)(.*)", re.IGNORECASE | re.DOTALL).fullmatch


def _target(raw_path: str) -> str:
    """The path and the query string in the target of a request."""
    if raw_path.startswith("/"):  # as in nearly all requests
        return raw_path
    whole = _whole_url(raw_path)
    if whole is None:
        return raw_path
    return whole[2] if whole[2].startswith("/") else f"/{whole[2]}"


def _authority(raw_path: str) -> str | None:
    """The host and port in the target of a request, if it is a whole URL."""
    whole = _whole_url(raw_path)
    return None if whole is None else whole[1]


def _response(reply: Reply, headers: Mapping[str, str] = _CORS) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, headers={"Content-Type": reply.content_type, **headers})


def _preflight(request: web.BaseRequest) -> web.Response:
    return web.Response(
        headers={
            **_CORS,
            "Access-Control-Allow-Methods": "GET, PUT, DELETE, POST, OPTIONS",
            "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "*"),
            "Access-Control-Max-Age": "600",
        }
    )
