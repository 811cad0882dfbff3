"""One async client serves every event loop: each has connections of its own, which are closed when it ends."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import json
import pathlib
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import respx
from aiohttp import ClientSession, TCPConnector
from algoliasearch.http.transporter import EchoTransporter, Transporter
from algoliasearch.recommend.client import RecommendClient
from algoliasearch.search.client import SearchClient
from algoliasearch.search.config import SearchConfig
from in_loops import SCENARIOS
from waiting import PATIENCE

from algolia_usertoken import (
    TokenAwareClient,
    TokenAwareInsightsClient,
    TokenAwareTransporter,
    TokenProvider,
    identity_scope,
    make_token_aware,
)
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

HERE = pathlib.Path(__file__).parent


# -- In a process of its own, where no warning goes unseen ---------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """What each scenario of in_loops.py wrote to stderr under `-X dev -W error`: nothing, if it went well."""
    program = str(HERE / "support" / "in_loops.py")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 4,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    outcomes: dict[str, str] = json.loads(done.stdout)
    return outcomes


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_one_client_serves_every_loop_without_a_warning(scenario: str, outcomes: dict[str, str]) -> None:
    assert outcomes[scenario] == ""


# -- Whose transporter it is ---------------------------------------------------------------------------------------


def in_three_loops(search: Callable[[], Any]) -> list[Any]:
    """The results of a call in three loops that end in order."""

    async def once() -> Any:
        return await search()

    return [asyncio.run(once()) for _ in range(3)]


@pytest.fixture
def config(algolia: LocalAlgolia) -> SearchConfig:
    return algolia.search_config()


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    gc.collect()  # what was left open would warn


def test_a_client_that_was_made_token_aware_serves_every_loop(algolia: LocalAlgolia, config: SearchConfig) -> None:
    client = make_token_aware(SearchClient.create_with_config(config), TokenProvider("u"))
    recommend = make_token_aware(RecommendClient.create_with_config(algolia.recommend_config()), TokenProvider("r"))
    request = {"indexName": "products", "model": "trending-items", "threshold": 0}

    in_three_loops(lambda: client.search_single_index("products"))
    in_three_loops(lambda: recommend.get_recommendations({"requests": [request]}))

    assert [search.user_token for search in algolia.searches] == ["u"] * 3 + ["r"] * 3


def test_a_token_aware_transporter_in_a_plain_client_serves_every_loop(
    algolia: LocalAlgolia, config: SearchConfig
) -> None:
    client = SearchClient(transporter=TokenAwareTransporter(Transporter(config), TokenProvider("u")), config=config)

    in_three_loops(lambda: client.search_single_index("products"))

    assert [search.user_token for search in algolia.searches] == ["u"] * 3


def test_the_transporter_that_was_given_keeps_its_class() -> None:
    config = SearchConfig("APP", "key")
    echo, plain = EchoTransporter(config), Transporter(config)
    for transporter in (echo, plain):
        client = TokenAwareClient(transporter=transporter, config=config)
        assert vars(client._transporter)["_transporter"] is transporter
    in_three_loops(lambda: TokenAwareClient(transporter=echo, config=config).search_single_index_with_http_info("i"))

    assert (type(echo), type(plain)) == (EchoTransporter, Transporter)


VIEWED = {"events": [{"eventType": "view", "eventName": "n", "index": "products", "objectIDs": ["1"]}]}


def test_the_insights_client_serves_every_loop(algolia: LocalAlgolia) -> None:
    client = TokenAwareInsightsClient(config=algolia.insights_config(), user_token="u")

    in_three_loops(lambda: client.push_events(VIEWED))
    for _ in range(2):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.push_events(VIEWED))
        loop.close()

    async def push_and_close() -> None:
        async with client:
            await client.with_identity("view").push_events(VIEWED)

    asyncio.run(push_and_close())
    in_three_loops(lambda: client.push_events(VIEWED))

    assert [event.user_token for event in algolia.events] == ["u"] * 5 + ["view"] + ["u"] * 3


class Logging(Transporter):
    """A subclass that leaves the session to algoliasearch."""

    calls = 0

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return await super().request(*args, **kwargs)


class OpensItsOwn(Transporter):
    """A subclass that opens its session itself, as one with a CA of its own would."""

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        def open_one() -> None:
            if self._session is None:
                self._session = ClientSession(headers={"x-own": "1"}, connector=TCPConnector())

        open_one()
        return await super().request(*args, **kwargs)


def test_a_subclass_of_the_transporter_serves_every_loop(algolia: LocalAlgolia, config: SearchConfig) -> None:
    transporter = Logging(config)
    client = TokenAwareClient(transporter=transporter, config=config)

    in_three_loops(lambda: client.search_single_index("products"))

    assert transporter.calls == len(algolia.searches) == 3


def test_a_subclass_that_opens_its_own_sessions_opens_one_for_the_next_loop(
    algolia: LocalAlgolia, config: SearchConfig
) -> None:
    client = TokenAwareClient(transporter=OpensItsOwn(config), config=config)
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.search_single_index("products"))
        loop.close()
    asyncio.run(search_and_close(client))

    assert [request.headers.get("x-own") for request in algolia.requests] == ["1"] * 4


async def search_and_close(client: Any) -> None:
    async with client:
        await client.search_single_index("products")


def test_a_mock_of_algolia_stands_in_every_loop(algolia: LocalAlgolia, config: SearchConfig) -> None:
    client = TokenAwareClient.create_with_config(config)

    def search() -> Any:
        return client.search_single_index("products", {"query": "x"})

    assert [len(response.hits) for response in in_three_loops(search)] == [0] * 3
    with respx.mock(using="algolia") as router:
        router.post(path="/1/indexes/products/query").respond(
            json={"hits": [{"objectID": "mocked"}], "query": "x", "params": ""}
        )
        assert [response.hits[0].object_id for response in in_three_loops(search)] == ["mocked"] * 3
        assert len(algolia.requests) == 3
        asyncio.run(client.close())
    in_three_loops(search)
    with respx.mock(using="algolia") as router:
        router.route().pass_through()
        in_three_loops(search)

    assert len(algolia.requests) == 9


@pytest.mark.parametrize("again", [copy.deepcopy, lambda client: pickle.loads(pickle.dumps(client))])
def test_an_async_client_that_was_used_can_be_copied_and_pickled(
    again: Callable[[Any], Any], algolia: LocalAlgolia, config: SearchConfig
) -> None:
    client = TokenAwareClient.create_with_config(config, user_token="u")

    async def use() -> None:
        async with client:
            await client.search_single_index("products")
            async with again(client) as other:
                await other.search_single_index("products")
                await client.search_single_index("products")
                assert other._transporter._session.connector is not client._transporter._session.connector

    asyncio.run(use())
    asyncio.run(use())

    assert [search.user_token for search in algolia.searches] == ["u"] * 6


def test_what_stands_in_for_the_session_says_what_it_is(algolia: LocalAlgolia, config: SearchConfig) -> None:
    client = TokenAwareClient.create_with_config(config)

    async def use() -> None:
        await client.search_single_index("products")
        session = client._transporter._session
        assert isinstance(session.connector, TCPConnector)
        assert not session.closed
        await client.close()
        assert session.closed

    asyncio.run(use())
    with pytest.raises(AttributeError, match=r"^connector: no event loop is running"):
        client._transporter._session.connector  # noqa: B018
    with pytest.raises(AttributeError, match="_connector"):
        client._transporter._session._connector  # noqa: B018


def test_a_session_that_somebody_closed_is_replaced(algolia: LocalAlgolia, config: SearchConfig) -> None:
    client = TokenAwareClient.create_with_config(config)

    async def use() -> None:
        await client.search_single_index("products")
        await client._transporter._session.connector.close()
        await client.search_single_index("products")
        await client._transporter._session.close()
        client._transporter._session = None  # what helps with algoliasearch alone
        await client.search_single_index("products")

    asyncio.run(use())
    asyncio.run(use())

    assert len(algolia.searches) == 6


def test_threads_that_search_first_at_once_agree(algolia: LocalAlgolia, config: SearchConfig) -> None:
    client = TokenAwareClient.create_with_config(config)
    together = threading.Barrier(4)

    def thread() -> None:
        async def go() -> None:
            together.wait()
            await client.search_single_index("products")

        asyncio.run(go())

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert len(algolia.searches) == 4


def test_the_sessions_are_opened_as_algoliasearch_opens_its_own() -> None:
    source = "".join(inspect.getsource(Transporter.request).split())

    assert "ClientSession(connector=TCPConnector(use_dns_cache=False),trust_env=True)" in source


async def test_identity_and_loops_do_not_mix(algolia: LocalAlgolia, config: SearchConfig) -> None:
    async with TokenAwareClient.create_with_config(config) as client:

        def elsewhere(number: int) -> None:
            async def search() -> None:
                with identity_scope(f"thread-{number}"):
                    await client.search_single_index("products")

            asyncio.run(search())

        with identity_scope("here"):
            await asyncio.gather(
                *[asyncio.to_thread(elsewhere, number) for number in range(4)], client.search_single_index("products")
            )

    assert {search.user_token for search in algolia.searches} == {"here", *(f"thread-{number}" for number in range(4))}


def test_a_port_that_refuses_is_an_error_in_every_loop(config: SearchConfig) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        config.hosts.read()[0].port = free.getsockname()[1]
        client = TokenAwareClient.create_with_config(config)
        for _ in range(2):
            with pytest.raises(OSError, match="Cannot connect"):
                asyncio.run(search_and_close(client))
