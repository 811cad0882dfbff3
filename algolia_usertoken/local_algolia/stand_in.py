"""`LocalAlgolia`: Algolia's search, recommend and Insights APIs on the loopback interface, for tests and demos."""

from __future__ import annotations

import inspect
import ipaddress
import re
import socket
import threading
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar
from urllib.request import getproxies, proxy_bypass

from algoliasearch.http.base_config import BaseConfig
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.recommend.config import RecommendConfig
from algoliasearch.search.config import SearchConfig
from typing_extensions import Self

from . import faults
from .access import Access, checked_hosts
from .application import Application
from .faults import Fault, Faults
from .hints import Hint, hints_of
from .keys import Keys
from .mismatches import Mismatch, mismatches_of
from .received import Received, ReceivedEvent, ReceivedRequest, ReceivedSearch, UserSummary
from .records import Records
from .server import Server

_Config = TypeVar("_Config", bound=BaseConfig)

# Beside the number of entries: what the requests behind the entries of each list may add up to.
_MAX_RECEIVED_BYTES = 256_000_000


class LocalAlgolia:
    """
    A stand-in for Algolia that real clients talk to over HTTP, and that says who searched and clicked.

        with LocalAlgolia() as algolia:
            algolia.save_objects("products", [{"objectID": "1", "name": "Blue shirt"}])
            client = SearchClientSync.create_with_config(algolia.search_config())
            client.search_single_index("products", {"query": "shirt", "userToken": "user-1"})
            assert algolia.searches[0].user == "user-1"

    It stands in for the wire, not for relevance: searches match plain words and filters over the records and answer in
    the order in which those were saved, or in that of the filters' scores; there are no typos and no ranking besides.
    Rules and synonyms are kept but change nothing, and only those settings are read that say what a response holds.
    Recommendations are simply other records. Of `POST /1/events` it is as strict as Algolia's published specification:
    the same fields, lengths, status codes and texts, and one bad event refuses its batch.

    It binds the loopback interface only, speaks plain HTTP, runs in one daemon thread and keeps everything in memory:
    the records, and of what it receives the newest `max_received` requests, searches and events each (fewer if the
    requests behind them exceed 256 MB). `start` and `stop` may be repeated; a later start keeps records and what
    arrived, and listens on the same port again, where clients made before find it.

    Args:
        app_id: the application id that clients must send.
        api_key: the API key that clients must send, which allows everything. Taken as well are keys that are added with
            it (`client.add_api_key`), and secured API keys made from any of these, which restrict as Algolia's do:
            `filters`, `restrictIndices`, `validUntil`, `userToken` and search parameters, but not `restrictSources`.
        host: a loopback address, or "localhost".
        port: 0 for a free one, chosen by `start`.
        max_received: at least 1.
        allowed_hosts: names, as `"shop.test"`, under which it may be asked beside those of the loopback interface.
            Requests with another Host are refused, for a page of another site could send them; so are requests of such
            a page to the inspector, and whatever else a browser does not ask of Algolia.

    Raises:
        ValueError: for an argument that cannot be used, naming it.
        OSError: from `start`, if the port is taken.

    https://www.algolia.com/doc/rest-api/search and https://www.algolia.com/doc/rest-api/insights/push-events
    """

    def __init__(
        self,
        app_id: str = "LOCALALGOLIA",
        api_key: str = "local-api-key",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_received: int = 100_000,
        allowed_hosts: Collection[str] = (),
    ) -> None:
        for name, value in (("app_id", app_id), ("api_key", api_key)):
            if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7E]+", value):
                raise ValueError(f"{name} must be a non-empty string of printable ASCII, not {value!r}")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
            raise ValueError(f"port must be an integer from 0 to 65535, not {port!r}")
        if isinstance(max_received, bool) or not isinstance(max_received, int) or max_received < 1:
            raise ValueError(f"max_received must be an integer of at least 1, not {max_received!r}")
        self.app_id = app_id
        self.api_key = api_key
        self.host = _loopback(host)
        self._access = Access(checked_hosts(allowed_hosts))
        self._port = port
        self._records = Records()
        self._received = Received(max_received, _MAX_RECEIVED_BYTES)
        self._faults = Faults()
        self._app = Application(app_id, Keys(api_key), self._records, self._received)
        self._server: Server | None = None
        self._lifecycle = threading.Lock()

    # -- Lifecycle ----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen, and return once requests are answered. Starting twice is as starting once. Raises OSError."""
        with self._lifecycle:
            if self._server is None:
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                listening = socket.create_server((self.host, self._port), family=family, backlog=1024)
                server = Server(listening, self._app, self._faults, self._access)
                server.start()
                self._port = listening.getsockname()[1]
                self._server = server
        return self

    def stop(self) -> None:
        """Stop listening, close all connections and end the thread. Stopping twice is as stopping once."""
        with self._lifecycle:
            server, self._server = self._server, None
            if server is not None:
                server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._server is None else "running"
        return f"<LocalAlgolia {state}, {self.host} port {self._port or 'free'}>"

    @property
    def port(self) -> int:
        """The port, known once started. Raises RuntimeError before, unless one was given."""
        if not self._port:
            raise RuntimeError("LocalAlgolia has no port yet: start() it, or use it in a with block")
        return self._port

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        return f"http://{self._host_in_url}:{self.port}"

    # -- For clients --------------------------------------------------------------------------------------------------

    def config_for(self, config_class: type[_Config]) -> _Config:
        """
        A new configuration for a client of algoliasearch, of any of its `…Config` classes, that leads here.

            InsightsClientSync.create_with_config(algolia.config_for(InsightsConfig))

        `connect_timeout` and `read_timeout` are 20,000 ms, more than algoliasearch's own 2,000 and 5,000: where tests
        run, machines are busy. With `hang_next`, set a shorter one.
        """
        region = inspect.signature(config_class).parameters.get("region")
        # Some clients cannot be configured without a region; none matters here.
        extra = {"region": "us"} if region is not None and region.default is inspect.Parameter.empty else {}
        config = config_class(self.app_id, self.api_key, **extra)
        config.hosts = HostsCollection([Host(url=self._host_in_url, scheme="http", port=self.port)])
        config.connect_timeout = config.read_timeout = 20_000
        config.proxies = {}
        if "http" in getproxies() and not proxy_bypass(self.host):
            # aiohttp would go through the proxy of the environment, unless there is another: the server itself.
            config.proxies = {"http": self.url}
        return config

    def search_config(self) -> SearchConfig:
        """A new `SearchConfig` that leads here."""
        return self.config_for(SearchConfig)

    def insights_config(self) -> InsightsConfig:
        """A new `InsightsConfig` that leads here."""
        return self.config_for(InsightsConfig)

    def recommend_config(self) -> RecommendConfig:
        """A new `RecommendConfig` that leads here."""
        return self.config_for(RecommendConfig)

    def save_objects(self, index: str, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """
        Save records without a request, started or not; each one without an `objectID` is given one.

        They are kept as the JSON that a client would send, so that a later change of the caller's own changes nothing.
        Returns the objectIDs in order. Raises ValueError for a record that is no mapping, or that cannot be JSON.
        """
        return self._records.add(index, records)

    # -- What arrived -------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every request, in order of arrival; a snapshot, as are the others."""
        return self._received.requests()

    @property
    def searches(self) -> list[ReceivedSearch]:
        """
        Every query that reached an index or asked for one, in order of arrival: one for each of a multi-query.

        A request that a fault, a wrong key or a body that is no JSON kept from being a search is in `requests` only.
        """
        return self._received.searches()

    @property
    def events(self) -> list[ReceivedEvent]:
        """Every event of an accepted batch, in order of arrival, but for those of user tokens deleted since."""
        return self._received.events()

    def identities(self) -> dict[str, UserSummary]:
        """
        What each user did: by user token, or for searches without one by IP address, in order of appearance.

        This is how Algolia tells users apart: https://www.algolia.com/doc/guides/sending-events/concepts/usertoken.
        """
        return self._received.identities()

    def mismatches(self) -> list[Mismatch]:
        """
        Where searches and events disagree about who the user is, name none that can be, or an event came too late.

        See `Mismatch` for the kinds. Empty is right.
        """
        return mismatches_of(*self._received.both(), self._received.query_ids)

    def hints(self) -> list[Hint]:
        """
        What is legitimate and worth knowing all the same, each once; no assertion looks at it.

        See `Hint` for the kinds.
        """
        return hints_of(*self._received.both())

    def clear(self) -> None:
        """Forget what arrived. Records, settings and faults still to come stay."""
        self._received.clear()

    # -- What goes wrong ----------------------------------------------------------------------------------------------

    def fail_next(
        self,
        status: int = 503,
        *,
        times: int | None = 1,
        path: str | re.Pattern[str] | None = None,
        method: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> None:
        """
        Answer the next requests with an error, without looking at them.

        Args:
            status: 200 to 599.
            times: how many requests; None for all of them, until `clear_faults`.
            path: which requests: a string is the beginning of the path, a compiled pattern is searched for in it.
                Neither sees the query string.
            method: which requests, as "POST".
            body: bytes, text, or anything else as JSON. Default: `{"message": …, "status": status}`.
            headers: added to the answer, as `{"Retry-After": "1"}`.
            delay: seconds to wait before the answer.

        Raises:
            ValueError: naming the argument that cannot be used.
        """
        code = faults.checked_status(status)
        content, content_type = faults.checked_body(body, code)
        added = faults.checked_headers(headers)
        if not any(name.lower() == "content-type" for name in added):
            added["Content-Type"] = content_type
        self._add(
            Fault(
                "answer",
                faults.checked_times(times),
                faults.checked_path(path),
                faults.checked_method(method),
                delay=faults.checked_seconds("delay", delay),
                status=code,
                body=content,
                headers=added,
            )
        )

    def delay_next(
        self,
        seconds: float,
        *,
        times: int | None = 1,
        path: str | re.Pattern[str] | None = None,
        method: str | None = None,
    ) -> None:
        """Deal with the next requests at once, but answer them so much later. Other arguments as of `fail_next`."""
        delay = faults.checked_seconds("seconds", seconds)
        self._add(self._fault("delay", times, path, method, delay=delay))

    def hang_next(
        self,
        *,
        times: int | None = 1,
        path: str | re.Pattern[str] | None = None,
        method: str | None = None,
        processed: bool = False,
    ) -> None:
        """
        Never answer the next requests; the connection stays open until the client closes it, or `stop`.

        `processed` deals with them first: an event is kept, though the sender cannot know. Others as of `fail_next`.
        """
        self._add(self._fault("hang", times, path, method, processed=processed))

    def drop_next(
        self,
        *,
        times: int | None = 1,
        path: str | re.Pattern[str] | None = None,
        method: str | None = None,
        processed: bool = False,
    ) -> None:
        """Drop the connection of the next requests, once they are read. Arguments as of `hang_next`."""
        self._add(self._fault("drop", times, path, method, processed=processed))

    def clear_faults(self) -> None:
        """Nothing more goes wrong. What already hangs goes on hanging."""
        self._faults.clear()

    def _fault(self, kind: faults.FaultKind, times: Any, path: Any, method: Any, **details: Any) -> Fault:
        return Fault(
            kind,
            faults.checked_times(times),
            faults.checked_path(path),
            faults.checked_method(method),
            **details,
        )

    def _add(self, fault: Fault) -> None:
        self._faults.add(fault)

    @property
    def _host_in_url(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def _loopback(host: Any) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        if isinstance(host, str) and ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ValueError(f"host must be a loopback address, as 127.0.0.1, not {host!r}")
