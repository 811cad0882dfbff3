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

# The limit on the bytes of the requests behind the entries of each list, in addition to the limit on their number.
_MAX_RECEIVED_BYTES = 256_000_000


class LocalAlgolia:
    """A stand-in for Algolia that real clients talk to over HTTP, and that shows who searched and clicked.

        with LocalAlgolia() as algolia:
            algolia.save_objects("products", [{"objectID": "1", "name": "Blue shirt"}])
            client = SearchClientSync.create_with_config(algolia.search_config())
            client.search_single_index("products", {"query": "shirt", "userToken": "user-1"})
            assert algolia.searches[0].user == "user-1"

    It imitates the HTTP API and not the relevance: searches match plain words and filters, and return the records in
    the order in which they were saved, or in the order of the filters' scores. There is no typo tolerance and no other
    ranking. Rules and synonyms are stored but affect nothing; only settings about the content of a response are read.
    Recommendations are simply other records. For `POST /1/events` it is as strict as Algolia's published specification:
    the same fields, lengths, status codes and texts, and one bad event makes it refuse the batch.

    It binds the loopback interface only, speaks plain HTTP, runs in one daemon thread and keeps everything in memory:
    the records, and the newest `max_received` requests, as many searches and as many events (fewer if the requests
    behind them exceed 256 MB). `start` and `stop` may be repeated. A later start keeps the records and what arrived,
    and listens on the same port again, so that existing clients still reach it.

    Args:
        app_id: The application id that clients must send.
        api_key: The API key that clients must send, which allows everything. Keys that are added with it
            (`client.add_api_key`) are accepted too, and so are secured API keys made from any of these. Their
            restrictions work as with Algolia: `filters`, `restrictIndices`, `validUntil`, `userToken` and search
            parameters, but not `restrictSources`.
        host: A loopback address, or "localhost".
        port: The port. With 0, `start` chooses a free one.
        max_received: How many requests, how many searches and how many events are kept. It is at least 1.
        allowed_hosts: Names, such as `"shop.test"`, that requests may have as Host, in addition to those of the
            loopback interface. Requests with another Host are refused, because a page of another site could send them.
            Requests of such a page to the inspector are refused too, and all requests that browsers do not send to
            Algolia.

    Raises:
        ValueError: An argument is invalid. The message names it.

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
        """Start listening, and return when requests are answered. A second call does nothing.

        Raises:
            OSError: The port is in use.
        """
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
        """Stop listening, close all connections and end the thread. A second call does nothing."""
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
        """The port on which it listens.

        Raises:
            RuntimeError: No port was given, and `start` was not called yet.
        """
        if not self._port:
            raise RuntimeError("LocalAlgolia has no port yet: start() it, or use it in a with block")
        return self._port

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        return f"http://{self._host_in_url}:{self.port}"

    # -- For clients --------------------------------------------------------------------------------------------------

    def config_for(self, config_class: type[_Config]) -> _Config:
        """A new configuration with which a client of algoliasearch uses this server, of any of its `…Config` classes.

            InsightsClientSync.create_with_config(algolia.config_for(InsightsConfig))

        `connect_timeout` and `read_timeout` are 20,000 ms, more than algoliasearch's own 2,000 and 5,000, because
        machines that run tests are often busy. With `hang_next`, set a shorter one.

        Args:
            config_class: The class of the configuration, which the client's package has.

        Returns:
            A new object of that class. You may change it.
        """
        region = inspect.signature(config_class).parameters.get("region")
        # Some clients cannot be configured without a region; its value does not matter here.
        extra = {"region": "us"} if region is not None and region.default is inspect.Parameter.empty else {}
        config = config_class(self.app_id, self.api_key, **extra)
        config.hosts = HostsCollection([Host(url=self._host_in_url, scheme="http", port=self.port)])
        config.connect_timeout = config.read_timeout = 20_000
        config.proxies = {}
        if "http" in getproxies() and not proxy_bypass(self.host):
            # Without a proxy here, aiohttp would use the proxy of the environment. So the server itself is the proxy.
            config.proxies = {"http": self.url}
        return config

    def search_config(self) -> SearchConfig:
        """A new `SearchConfig` for this server."""
        return self.config_for(SearchConfig)

    def insights_config(self) -> InsightsConfig:
        """A new `InsightsConfig` for this server."""
        return self.config_for(InsightsConfig)

    def recommend_config(self) -> RecommendConfig:
        """A new `RecommendConfig` for this server."""
        return self.config_for(RecommendConfig)

    def save_objects(self, index: str, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Save records without a request, before or after `start`. A record without an `objectID` is given one.

        The records are kept as the JSON that a client would send, so a later change of your objects has no effect.

        Args:
            index: The name of the index. It is made if it does not exist.
            records: The records, each a dict.

        Returns:
            The objectIDs of the records, in the same order.

        Raises:
            ValueError: A record is not a mapping, or cannot be written as JSON.
        """
        return self._records.add(index, records)

    # -- What arrived -------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every request, in order of arrival. This list is a snapshot, as are `searches` and `events`."""
        return self._received.requests()

    @property
    def searches(self) -> list[ReceivedSearch]:
        """Every query for an index, even one that does not exist, in order of arrival; a multi-query counts as several.

        A request that did not become a search, because of a fault, a wrong key or invalid JSON, is in `requests` only.
        """
        return self._received.searches()

    @property
    def events(self) -> list[ReceivedEvent]:
        """Every event of an accepted batch, in order of arrival, except events of user tokens deleted since then."""
        return self._received.events()

    def identities(self) -> dict[str, UserSummary]:
        """What each user did, by user token, or by IP address for searches without a token; in order of appearance.

        This is how Algolia tells users apart: https://www.algolia.com/doc/guides/sending-events/concepts/usertoken.
        """
        return self._received.identities()

    def mismatches(self) -> list[Mismatch]:
        """The places where searches and events disagree about the user or name an invalid one, and late events.

        An event is late if it came more than one hour after its search. See `Mismatch` for the kinds. The list is empty
        if all is right.
        """
        return mismatches_of(*self._received.both(), self._received.query_ids)

    def hints(self) -> list[Hint]:
        """Things that are allowed, but that may point to a mistake, each of them once. No assertion checks them.

        See `Hint` for the kinds.
        """
        return hints_of(*self._received.both())

    def clear(self) -> None:
        """Forget what arrived. The records, the settings and the faults still to come stay."""
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
        """Answer the next requests with an error, without carrying them out.

        Args:
            status: The HTTP status, 200 to 599.
            times: How many requests. None means all of them, until `clear_faults`.
            path: Only requests with this path: a string is the beginning of the path, a compiled pattern is searched
                for in it. Neither is compared with the query string.
            method: Only requests with this method, for example "POST".
            body: The body of the answer: bytes, text, or any other value as JSON. By default,
                `{"message": …, "status": status}`.
            headers: Headers that are added to the answer, for example `{"Retry-After": "1"}`.
            delay: How many seconds to wait before the answer.

        Raises:
            ValueError: An argument is invalid. The message names it.
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
        """Carry out the next requests at once, but delay their answers.

        Args:
            seconds: How many seconds to wait before the answer.
            times: How many requests. None means all of them, until `clear_faults`.
            path: Only requests with this path: a string is the beginning of the path, a compiled pattern is searched
                for in it. Neither is compared with the query string.
            method: Only requests with this method, for example "POST".

        Raises:
            ValueError: An argument is invalid. The message names it.
        """
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
        """Never answer the next requests. Their connections stay open until the client closes them, or `stop` does.

        Args:
            times: How many requests. None means all of them, until `clear_faults`.
            path: Only requests with this path: a string is the beginning of the path, a compiled pattern is searched
                for in it. Neither is compared with the query string.
            method: Only requests with this method, for example "POST".
            processed: Whether the requests are carried out: an event is kept, but its sender cannot know.

        Raises:
            ValueError: An argument is invalid. The message names it.
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
        """Read the next requests, and then drop their connections without an answer.

        Args:
            times: How many requests. None means all of them, until `clear_faults`.
            path: Only requests with this path: a string is the beginning of the path, a compiled pattern is searched
                for in it. Neither is compared with the query string.
            method: Only requests with this method, for example "POST".
            processed: Whether the requests are carried out: an event is kept, but its sender cannot know.

        Raises:
            ValueError: An argument is invalid. The message names it.
        """
        self._add(self._fault("drop", times, path, method, processed=processed))

    def clear_faults(self) -> None:
        """Remove all faults. Requests that already hang go on hanging."""
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
