"""respx for algoliasearch, which uses requests and aiohttp instead of httpx: `respx.mock(using="algolia")`.

While a mock is active, the `_session` of algoliasearch's transporters is a stand-in that asks respx. So clients made
before and after are both mocked; retries, hosts and time-outs stay algoliasearch's own; and the HTTP requests of other
libraries are not affected. This is the only module that imports httpx and respx.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from typing import Any, ClassVar
from unittest import mock

import aiohttp
import requests
from algoliasearch.http.transporter import Transporter
from algoliasearch.http.transporter_sync import TransporterSync
from multidict import CIMultiDict
from requests.adapters import HTTPAdapter
from urllib3.util import Retry
from yarl import URL

try:
    import httpx
    from respx import MockRouter
    from respx.mocks import Mocker
    from respx.models import AllMockedAssertionError, PassThrough
except ImportError as error:
    raise ImportError(
        f"mocking Algolia needs respx ({error}): pip install 'algolia-usertoken[testing]'", name=error.name
    ) from error

from ..local_algolia.api import answer
from ..local_algolia.application import Application
from ..local_algolia.calls import Call, Reply, as_error, decompressed
from ..local_algolia.errors import ApiError
from ..local_algolia.hints import Hint, hints_of
from ..local_algolia.keys import Keys
from ..local_algolia.mismatches import Mismatch, mismatches_of
from ..local_algolia.received import Received, ReceivedEvent, ReceivedSearch, UserSummary
from ..local_algolia.records import Records
from ..local_algolia.routes import find, max_bytes

_MOST_RECEIVED = 100_000
_MOST_RECEIVED_BYTES = 256_000_000

# The errors that a route may raise, and those that the real library raises instead. The first one that fits is used.
_SYNC_ERRORS: dict[type[Exception], type[Exception]] = {
    httpx.ConnectTimeout: requests.ConnectTimeout,
    httpx.TimeoutException: requests.ReadTimeout,
    httpx.TooManyRedirects: requests.TooManyRedirects,
    httpx.TransportError: requests.ConnectionError,
}
_ASYNC_ERRORS: dict[type[Exception], type[Exception]] = {
    httpx.ConnectTimeout: aiohttp.ConnectionTimeoutError,
    httpx.TimeoutException: aiohttp.SocketTimeoutError,
    httpx.TooManyRedirects: aiohttp.ClientError,
    httpx.RemoteProtocolError: aiohttp.ServerDisconnectedError,
    httpx.TransportError: aiohttp.ClientConnectionError,
}


class AlgoliaMocker(Mocker):
    """The mocker behind `respx.mock(using="algolia")`; the import of this class makes that name known to respx.

    respx records each attempt of each algoliasearch client as a call, with an `httpx.Request` that has the bytes that
    would be sent: the headers, the host, and a gzipped body if the client gzips it. A route answers with an
    `httpx.Response`, or raises an error of httpx: an `httpx.ReadTimeout` counts as a time-out of that host, an
    `httpx.ConnectError` as a refused connection. In `request.extensions["timeout"]` are the client's time-outs.

    Raises:
        RuntimeError: This version of algoliasearch keeps its connections elsewhere, so requests would really be sent.

    https://lundberg.github.io/respx/
    """

    __no_type_check__ = True  # respx's annotations can't be evaluated, and this class inherits them
    name = "algolia"
    targets: ClassVar[list[str]] = []
    target_methods: ClassVar[list[str]] = []

    @classmethod
    def register(cls, router: Any) -> None:
        """Let a router answer. respx calls this method."""
        for transporter in (Transporter, TransporterSync):
            if "_session" not in transporter.request.__code__.co_names:
                raise RuntimeError(
                    f"this algoliasearch keeps no _session in its {transporter.__name__}, where respx would stand in "
                    "for Algolia: upgrade algolia-usertoken, or test with LocalAlgolia"
                )
        cls.routers.insert(0, router)  # the innermost router is asked first: an outer one may answer everything

    @classmethod
    def start(cls) -> None:
        """Replace the connections of algoliasearch, unless they are replaced already. respx calls this method."""
        if cls._patches:
            return
        for transporter, stand_in in ((Transporter, _AsyncSession), (TransporterSync, _SyncSession)):
            patch = mock.patch.object(transporter, "_session", _SessionSlot(stand_in), create=True)
            patch.start()
            cls._patches.append(patch)


class AlgoliaRouter(MockRouter):
    """The router of the fixture `algolia_mock`: if none of its routes fits a request, it answers as LocalAlgolia would.

    Such a search finds the objects in `records`, events are checked as strictly as by Algolia, and writes are stored,
    all in memory; keys are not checked. Without `records`, every index exists and is empty.

    Args:
        records: For each index its objects. An object without an `objectID` is given one.
        assert_all_mocked: If True, a request that no route answers is an error, as everywhere in respx.
        using: The name of the mocker: `"algolia"`.
        options: The options `assert_all_called` and `base_url` of `respx.mock`.

    Raises:
        ValueError: `records` is not a dict of lists of objects.

    https://www.algolia.com/doc/rest-api/search and https://www.algolia.com/doc/rest-api/insights/push-events
    """

    def __init__(
        self,
        *,
        records: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
        assert_all_mocked: bool = False,
        using: Any = "algolia",
        **options: Any,
    ) -> None:
        if records is not None and not isinstance(records, Mapping):
            raise ValueError(f"records must be a dict of lists of objects, by index, not {type(records).__name__}")
        super().__init__(assert_all_mocked=True, using=using, **options)
        self._answers = not assert_all_mocked
        records_kept = Records(any_index=records is None)
        for index, objects in (records or {}).items():
            records_kept.add(index, objects)
        self._received = Received(_MOST_RECEIVED, _MOST_RECEIVED_BYTES)
        self._app = Application("algolia", Keys("mock"), records_kept, self._received)
        # This application only reads the requests that routes have answered, and refuses none of them.
        self._reader = Application("algolia", Keys("mock"), Records(any_index=True), self._received)

    @property
    def searches(self) -> list[ReceivedSearch]:
        """Every query that was answered, by a route or by the router itself, as in `LocalAlgolia`."""
        return self._received.searches()

    @property
    def events(self) -> list[ReceivedEvent]:
        """Every event of a batch that was answered with success, as in `LocalAlgolia`."""
        return self._received.events()

    def identities(self) -> dict[str, UserSummary]:
        """What each user did, by user token or address, as in `LocalAlgolia`."""
        return self._received.identities()

    def mismatches(self) -> list[Mismatch]:
        """The places where searches and events disagree about who the user is, as in `LocalAlgolia`."""
        return mismatches_of(*self._received.both(), self._received.query_ids)

    def hints(self) -> list[Hint]:
        """Things that are allowed, but that may point to a mistake, as in `LocalAlgolia`."""
        return hints_of(*self._received.both())

    def reset(self) -> None:
        """Forget the calls, and the searches and events in them."""
        super().reset()
        self._received.clear()

    def handler(self, request: httpx.Request) -> httpx.Response:
        """Return the answer of the first route that fits, or the router's own answer. respx calls this method."""
        try:
            response = super().handler(request)
        except AllMockedAssertionError:
            if not self._answers:
                raise
            return self._own_answer(request)
        self._read(request, response)
        return response

    async def async_handler(self, request: httpx.Request) -> httpx.Response:
        """Return the answer of the first route that fits, or the router's own answer. respx calls this method."""
        try:
            response = await super().async_handler(request)
        except AllMockedAssertionError:
            if not self._answers:
                raise
            return self._own_answer(request)
        self._read(request, response)
        return response

    def _own_answer(self, request: httpx.Request) -> httpx.Response:
        call, reply = self._asked_of(self._app, request)
        self._note(call, call.searches, reply.status)
        response = httpx.Response(reply.status, headers={"content-type": reply.content_type}, content=reply.body)
        self.record(request, response=response)
        return response

    def _read(self, request: httpx.Request, response: httpx.Response) -> None:
        """Keep the searches and events that a route has answered, with the query ids in its answer."""
        found = find(request.method, request.url.raw_path.decode().partition("?")[0])
        if not response.is_success or found is None or not found[0].for_pages:  # other requests are not kept
            return
        call, _ = self._asked_of(self._reader, request)
        given = _query_ids_in(response)
        searches = [
            replace(search, query_id=query_id)
            for search, query_id in zip_longest(call.searches, given[: len(call.searches)])
        ]
        self._note(call, searches, response.status_code)

    def _note(self, call: Call, searches: list[ReceivedSearch], status: int) -> None:
        if status >= 400:
            searches = [replace(search, status=status, query_id=None) for search in searches]
        self._received.add(call.received(status), searches, call.events)

    def _asked_of(self, app: Application, request: httpx.Request) -> tuple[Call, Reply]:
        path, _, query_string = request.url.raw_path.decode().partition("?")
        call = Call(
            method=request.method,
            path=path,
            query_string=query_string,
            headers={**request.headers, "x-algolia-application-id": "algolia", "x-algolia-api-key": "mock"},
            body=b"",
            client_ip="127.0.0.1",
            received_at=time.time(),
        )
        encoding = request.headers.get("content-encoding", "identity")
        try:
            call.body = decompressed(request.content, encoding, max_bytes(call.method, path))
            return call, answer(app, call)
        except ApiError as error:
            return call, as_error(error)


def _query_ids_in(response: httpx.Response) -> list[str | None]:
    """The query ids in an answer, in order: one, or one for each result of a multi-query."""
    try:
        body = response.json()
    except ValueError:
        return []
    results = body.get("results", [body]) if isinstance(body, dict) else []
    found = [result.get("queryID") if isinstance(result, dict) else None for result in results]
    return [each if isinstance(each, str) else None for each in found]


class _SessionSlot:
    """The attribute `_session` while a mock is active: writes reach the transporter, reads get a stand-in."""

    def __init__(self, stand_in: Callable[[Any], Any]) -> None:
        self._stand_in = stand_in
        self._made: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def __get__(self, transporter: Any, owner: type) -> Any:
        if transporter is None:  # pragma: no cover - unittest.mock may ask the class for it
            return self
        real = transporter.__dict__.get("_session")
        session = self._made.get(transporter)
        if session is None or session.real is not real:
            session = self._made[transporter] = self._stand_in(transporter)
        return session

    def __set__(self, transporter: Any, session: Any) -> None:
        transporter.__dict__["_session"] = session


class _SyncSession(requests.Session):
    """Prepares requests as the real session does, and sends them to respx."""

    def __init__(self, transporter: Any) -> None:
        super().__init__()
        self.real: requests.Session | None = transporter.__dict__.get("_session")
        if self.real is not None:
            self.max_redirects = self.real.max_redirects
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Adapter(max_retries=Retry(connect=0)))

    def get_adapter(self, url: str | bytes, *args: Any) -> Any:
        # requests-mock patches this method of all sessions, and would answer instead of respx.
        return next(adapter for prefix, adapter in self.adapters.items() if str(url).lower().startswith(prefix))

    def close(self) -> None:
        super().close()
        if self.real is not None:
            self.real.close()


class _Adapter(HTTPAdapter):
    """Asks respx. A request that a route passes through is really sent."""

    def send(
        self, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any
    ) -> requests.Response:
        asked = _asked(request.method, request.url, request.headers, request.body, *(timeout or (None, None)))
        try:
            with _raising(_SYNC_ERRORS, request=request):
                answer = AlgoliaMocker.handler(asked)  # type: ignore[no-untyped-call]
        except PassThrough:
            return super().send(request, stream, timeout, *args, **kwargs)
        response = self.build_response(request, _RawResponse(answer, request))  # type: ignore[arg-type]
        response.reason = answer.reason_phrase
        return response


class _RawResponse:
    """The raw response that `requests` reads."""

    def __init__(self, answer: httpx.Response, request: requests.PreparedRequest) -> None:
        self.status, self.reason, self.headers = answer.status_code, answer.reason_phrase, answer.headers
        self._answer = answer
        self._request = request

    def stream(self, size: int | None, decode_content: bool) -> Iterator[bytes]:
        with _raising(_SYNC_ERRORS, request=self._request):
            yield from self._answer.iter_bytes()

    def close(self) -> None:
        self._answer.close()

    release_conn = close


class _AsyncSession:
    """The part of `aiohttp.ClientSession` that algoliasearch uses."""

    def __init__(self, transporter: Any) -> None:
        self.real: aiohttp.ClientSession | None = transporter.__dict__.get("_session")
        self._transporter = weakref.ref(transporter)

    def request(self, method: str, url: str, **options: Any) -> _Asking:
        return _Asking(self._ask(method, url, options))

    async def _ask(self, method: str, url: str, options: Mapping[str, Any]) -> Any:
        timeout = options["timeout"]
        asked = _asked(method, str(URL(url)), options["headers"], options["data"], timeout.connect, timeout.sock_read)
        try:
            with _raising(_ASYNC_ERRORS):
                answer = await AlgoliaMocker.async_handler(asked)  # type: ignore[no-untyped-call]
        except PassThrough:
            return await self._real_session().request(method, url, **options)
        return _AsyncResponse(answer)

    def _real_session(self) -> aiohttp.ClientSession:
        """The transporter's own session, which is opened if it has none: it is closed with the client."""
        if self.real is None:
            connector = aiohttp.TCPConnector(use_dns_cache=False)
            self.real = aiohttp.ClientSession(connector=connector, trust_env=True)
            self._transporter().__dict__["_session"] = self.real
        return self.real

    async def close(self) -> None:
        if self.real is not None:
            await self.real.close()


class _Asking:
    """The result of `ClientSession.request`, which can be awaited, or entered with `async with`."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response.__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> Any:
        self._response = await self._response
        return self._response

    async def __aexit__(self, *exc_info: object) -> None:
        self._response.release()


class _AsyncResponse:
    """The part of `aiohttp.ClientResponse` that algoliasearch uses."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        self.reason = answer.reason_phrase
        self.headers = CIMultiDict(answer.headers.multi_items())
        self.content = self
        self._answer = answer

    async def text(self) -> str:
        body = b"".join([chunk async for chunk in self.iter_any()])
        return body.decode(self._answer.charset_encoding or "utf-8")

    async def iter_any(self) -> AsyncIterator[bytes]:
        with _raising(_ASYNC_ERRORS):
            if isinstance(self._answer.stream, httpx.SyncByteStream):
                for chunk in self._answer.iter_bytes():
                    yield chunk
            else:
                async for chunk in self._answer.aiter_bytes():
                    yield chunk

    def release(self) -> None:
        pass  # there is no connection to give back


def _asked(method: Any, url: Any, headers: Mapping[str, Any], body: Any, connect: Any, read: Any) -> httpx.Request:
    """The request that is about to be sent, in the form that respx takes."""
    verb = getattr(method, "value", method)  # algoliasearch's are an enum
    timeouts = {"connect": connect, "read": read, "write": None, "pool": None}
    return httpx.Request(verb, url, headers=dict(headers), content=body or b"", extensions={"timeout": timeouts})


@contextmanager
def _raising(errors: Mapping[type[Exception], type[Exception]], **details: Any) -> Iterator[None]:
    """Raise the error of the real library in the place of an error of httpx."""
    try:
        yield
    except httpx.RequestError as error:
        for theirs, real in errors.items():
            if isinstance(error, theirs):
                raise real(str(error), **details) from error
        raise
