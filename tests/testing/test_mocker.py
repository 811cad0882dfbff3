"""`respx.mock(using="algolia")`: what a test does with it. That it is as the real thing, test_mocker_contract shows."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import respx
from algoliasearch.http.transporter import Transporter
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.http.verb import Verb
from algoliasearch.search.client import SearchClient, SearchClientSync
from waiting import PATIENCE

from algolia_usertoken import (
    EventSender,
    TokenAwareClient,
    TokenAwareClientSync,
    TokenAwareTransporterSync,
    TokenProvider,
    identity_scope,
)
from algolia_usertoken.testing import AlgoliaMocker, AlgoliaRouter, LocalAlgolia

pytestmark = pytest.mark.slow

FOUND = {"hits": [], "query": "", "params": "", "processingTimeMS": 1}
QUERY = "/1/indexes/products/query"


def search(client: Any, **params: Any) -> Any:
    return client.search_single_index("products", params)


def tokens(router: respx.MockRouter) -> list[str | None]:
    return [call.request.headers.get("x-algolia-usertoken") for call in router.calls]


@pytest.fixture
def before() -> Any:
    """A client made, and its provider's name given, before any mock."""
    return TokenAwareClientSync("APP", "key", user_token="before")


def test_the_mocker_of_algolia_is_registered_with_respx() -> None:
    assert respx.mocks.Mocker.registry["algolia"] is AlgoliaMocker


def test_clients_made_before_and_after_are_mocked(before: TokenAwareClientSync) -> None:
    with respx.mock(using="algolia") as router:
        router.post(path=QUERY).respond(json=FOUND)
        with TokenAwareClientSync("APP", "key", user_token="after") as after:
            search(before)
            search(after)
            search(before.with_identity("view"))

        assert tokens(router) == ["before", "after", "view"]


@pytest.mark.parametrize("records", ["text", [{"objectID": "1"}], {"products": [1]}, {"": []}])
def test_records_that_are_none_are_refused(records: Any) -> None:
    with pytest.raises(ValueError, match=r"^(records|index)"):
        AlgoliaRouter(records=records)


def test_respx_records_a_request_as_it_was_sent(before: TokenAwareClientSync) -> None:
    with respx.mock(using="algolia") as router:
        router.post(path=QUERY).respond(json=FOUND)
        search(before, query="é")

        request = router.calls.last.request
        assert tokens(router) == ["before"]
        assert (request.method, str(request.url)) == ("POST", "https://app-dsn.algolia.net/1/indexes/products/query")
        assert json.loads(request.content) == {"query": "é"}
        assert request.headers["x-algolia-application-id"] == "APP"
        assert request.extensions["timeout"] == {"connect": 2.0, "read": 5.0, "write": None, "pool": None}


def test_one_route_answers_sync_and_async_clients_of_every_make() -> None:
    async def asynchronous() -> None:
        async with SearchClient("APP", "key") as plain, TokenAwareClient("APP", "key", user_token="async") as aware:
            await search(plain)
            await search(aware)

    with respx.mock(using="algolia", base_url="https://app-dsn.algolia.net") as router:
        router.post(QUERY).respond(json=FOUND)
        with SearchClientSync("APP", "key") as plain:
            search(plain)
        asyncio.run(asynchronous())
        asyncio.run(asynchronous())  # in a loop of its own

        assert tokens(router) == [None, None, "async", None, "async"]


@respx.mock(using="algolia")
def test_the_mock_of_algolia_may_be_a_decorator(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(path=QUERY).respond(json=FOUND)
    with TokenAwareClientSync("APP", "key", user_token="u") as client:
        search(client)

    assert tokens(respx_mock) == ["u"]


@respx.mock(using="algolia")
async def test_as_a_decorator_of_async_code(respx_mock: respx.MockRouter) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return httpx.Response(200, json=FOUND)

    respx_mock.post(path=QUERY).mock(side_effect=answer)
    async with TokenAwareClient("APP", "key", user_token="u") as client:
        await search(client)

    assert tokens(respx_mock) == ["u"]


async def test_as_an_async_context_manager() -> None:
    async with respx.mock(using="algolia") as router, TokenAwareClient("APP", "key") as client:
        router.post(path=QUERY).respond(json=FOUND)
        await search(client)
        assert router.calls.call_count == 1


def test_what_no_route_fits_reaches_the_test_as_respx_says_it(before: TokenAwareClientSync) -> None:
    asked = []

    def pass_over(request: httpx.Request) -> None:
        asked.append(request.url.host)

    with respx.mock(using="algolia", assert_all_called=False) as router:
        router.route().mock(side_effect=pass_over)
        with pytest.raises(respx.models.AllMockedAssertionError, match="not mocked"):
            search(before)

    assert asked == ["app-dsn.algolia.net"]  # and is not tried on the next host


def test_a_route_of_the_mock_that_was_not_called_is_an_error(before: TokenAwareClientSync) -> None:
    with pytest.raises(AssertionError, match="not called"), respx.mock(using="algolia") as router:
        router.post(path=QUERY).respond(json=FOUND)


def test_events_of_senders_made_before_and_after() -> None:
    before = EventSender("APP", "key", user_token="before", background=False)
    with respx.mock(using="algolia") as router:
        route = router.post("https://insights.algolia.io/1/events")
        route.side_effect = [httpx.Response(200, json={"status": 200, "message": "OK"})] * 2
        with EventSender("APP", "key", user_token="after") as after:
            for sender in (before, after):
                assert sender.viewed_object_ids("Viewed", "products", ["1"])
                assert sender.flush(PATIENCE)

        seen = [json.loads(call.request.content)["events"][0]["userToken"] for call in router.calls]
        assert seen == ["before", "after"]
    before.close()


def test_events_are_retried_against_the_mock() -> None:
    with respx.mock(using="algolia") as router, EventSender("APP", "key", user_token="u") as sender:
        route = router.post(path="/1/events")
        route.side_effect = [httpx.Response(503), httpx.ConnectError, httpx.ReadTimeout, httpx.Response(200, json={})]
        sender.viewed_object_ids("Viewed", "products", ["1"])

        assert sender.flush(30)
        assert sender.stats.delivered == 1
        assert route.call_count == 4


def test_after_the_mock_the_client_has_its_own_connections_again() -> None:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1"}])
        with TokenAwareClientSync.create_with_config(algolia.search_config()) as client:
            assert len(search(client).hits) == 1
            session = client._transporter._transporter._session
            with respx.mock(using="algolia") as router:
                router.post(path=QUERY).respond(json=FOUND)
                assert search(client).hits == []
            assert len(search(client).hits) == 1
            assert client._transporter._transporter._session is session

        assert [request.path for request in algolia.requests] == [QUERY] * 2
    assert "_session" not in vars(TransporterSync)
    assert "_session" not in vars(Transporter)


async def test_after_the_mock_an_async_client_has_its_own_connections_again() -> None:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1"}])
        async with TokenAwareClient.create_with_config(algolia.search_config()) as client:
            assert len((await search(client)).hits) == 1
            with respx.mock(using="algolia") as router:
                router.post(path=QUERY).respond(json=FOUND)
                assert (await search(client)).hits == []
            assert len((await search(client)).hits) == 1
        assert len(algolia.requests) == 2
    gc.collect()  # a session left open would warn


def test_a_client_closed_in_a_mock_is_closed() -> None:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1"}])
        client = SearchClientSync.create_with_config(algolia.search_config())
        search(client)
        closed = []
        client._transporter._session.close = lambda: closed.append(True)
        with respx.mock(using="algolia"):
            client.close()

        assert closed == [True]
        assert client._transporter._session is None


async def test_an_async_client_closed_in_a_mock_is_closed() -> None:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1"}])
        client = SearchClient.create_with_config(algolia.search_config())
        await search(client)
        session = client._transporter._session
        with respx.mock(using="algolia"):
            await client.close()

        assert session.closed
        assert client._transporter._session is None


def test_an_error_in_the_block_restores_everything(before: TokenAwareClientSync) -> None:
    with pytest.raises(ZeroDivisionError), respx.mock(using="algolia"):
        _ = 1 / 0

    assert "_session" not in vars(TransporterSync)
    assert AlgoliaMocker.routers == []


def test_mocks_of_algolia_and_httpx_may_be_nested(before: TokenAwareClientSync) -> None:
    with respx.mock(using="algolia") as outer:
        outer.post(path=QUERY).respond(json={**FOUND, "query": "outer"})
        with respx.mock(using="algolia") as inner:
            inner.get(path="/1/indexes").respond(json={"items": []})
            before.list_indices()
            assert search(before).query == "outer"
        assert search(before).query == "outer"
        with respx.mock() as http:
            http.get("https://example.test/").respond(text="by httpx")
            assert httpx.get("https://example.test/").text == "by httpx"
            assert search(before).query == "outer"


def test_the_innermost_mock_is_asked_first(before: TokenAwareClientSync) -> None:
    with AlgoliaRouter(records={"products": [{"objectID": "1"}]}) as outer:
        with AlgoliaRouter() as inner:
            assert search(before).nb_hits == 0
            assert (outer.calls.call_count, inner.calls.call_count) == (0, 1)
            with respx.mock(using="algolia") as routes:
                routes.post(path=QUERY).respond(json={**FOUND, "query": "innermost"})
                assert search(before).query == "innermost"
        assert search(before).nb_hits == 1
        assert outer.calls.call_count == 1


def test_what_a_route_lets_through_goes_out() -> None:
    async def asynchronous(algolia: LocalAlgolia) -> Any:
        async with TokenAwareClient.create_with_config(algolia.search_config(), user_token="async") as client:
            first, second = await search(client), await search(client)
            return first.nb_hits, second.nb_hits

    with LocalAlgolia() as algolia, respx.mock(using="algolia") as router:
        algolia.save_objects("products", [{"objectID": "1"}])
        router.route(host="127.0.0.1").pass_through()
        with TokenAwareClientSync.create_with_config(algolia.search_config(), user_token="sync") as client:
            assert search(client).nb_hits == 1
        assert asyncio.run(asynchronous(algolia)) == (1, 1)

        assert tokens(router) == ["sync", "async", "async"]
        assert [one.user_token for one in algolia.searches] == ["sync", "async", "async"]


async def test_what_a_route_lets_through_goes_out_of_algoliasearchs_own_client_too() -> None:
    with LocalAlgolia() as algolia, respx.mock(using="algolia") as router:
        algolia.save_objects("products", [{"objectID": "1"}])
        router.route(host="127.0.0.1").pass_through()
        config = algolia.search_config()
        async with SearchClient.create_with_config(config) as client:
            assert (await search(client)).nb_hits == 1
            assert (await search(client)).nb_hits == 1


async def test_the_http_of_others_is_left_alone() -> None:
    with LocalAlgolia() as algolia, respx.mock(using="algolia", assert_all_called=False) as router:
        router.route().respond(500)
        url = f"{algolia.url}/1/indexes"

        answers = [
            (await asyncio.to_thread(get, url, timeout=PATIENCE)).status_code for get in (requests.get, httpx.get)
        ]
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            answers.append(response.status)

        assert answers == [403] * 3  # there is no key in them
        assert len(algolia.requests) == 3
        assert router.calls.call_count == 0


def test_threads_at_once_get_their_own_answers_of_the_mock() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={**FOUND, "query": request.headers["x-algolia-usertoken"]})

    def run(number: int) -> bool:
        with identity_scope(f"u-{number}"):
            return all(search(client).query == f"u-{number}" for _ in range(25))

    with respx.mock(using="algolia") as router, TokenAwareClientSync("APP", "key") as client:
        router.post(path=QUERY).mock(side_effect=answer)
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(run, range(16)))
        assert router.calls.call_count == 400


async def test_tasks_at_once_get_their_own_answers_of_the_mock() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.001)
        return httpx.Response(200, json={**FOUND, "query": request.headers["x-algolia-usertoken"]})

    async def run(number: int) -> bool:
        with identity_scope(f"u-{number}"):
            return (await search(client)).query == f"u-{number}"

    with respx.mock(using="algolia") as router:
        async with TokenAwareClient("APP", "key") as client:
            router.post(path=QUERY).mock(side_effect=answer)
            assert all(await asyncio.gather(*map(run, range(200))))
        assert router.calls.call_count == 200


def test_a_mock_is_on_in_threads_that_were_there_before(before: TokenAwareClientSync) -> None:
    go, seen = threading.Event(), []

    def run() -> None:
        go.wait(PATIENCE)
        seen.append(search(before).query)

    thread = threading.Thread(target=run)
    thread.start()
    with respx.mock(using="algolia") as router:
        router.post(path=QUERY).respond(json={**FOUND, "query": "mocked"})
        go.set()
        thread.join()

    assert seen == ["mocked"]


def test_copied_and_wrapped_clients_are_mocked_too(before: TokenAwareClientSync) -> None:
    wrapped = SearchClientSync("APP", "key")
    wrapped._transporter = TokenAwareTransporterSync(TransporterSync(wrapped._config), TokenProvider("wrapped"))
    with respx.mock(using="algolia") as router:
        router.post(path=QUERY).respond(json=FOUND)
        search(before)
        search(pickle.loads(pickle.dumps(before)))
        search(wrapped)

        assert tokens(router) == ["before", "before", "wrapped"]


@pytest.mark.skipif(not hasattr(Transporter, "request_stream"), reason="this algoliasearch has no streams")
class TestStreams:
    def options(self, client: Any) -> Any:
        from algoliasearch.http.request_options import RequestOptions

        return RequestOptions(client._config, headers={}, timeouts=dict.fromkeys(("connect", "read", "write"), 20_000))

    def test_events_come_as_they_are_sent(self, before: TokenAwareClientSync) -> None:
        said = []

        def chunks() -> Any:
            for number in range(3):
                said.append(number)
                yield f"data: {number}\n\n".encode()

        with respx.mock(using="algolia") as router:
            router.post(path="/1/say").mock(return_value=httpx.Response(200, content=chunks()))
            heard = [
                (event.data, len(said))
                for event in before._transporter.request_stream(Verb.POST, "/1/say", self.options(before), False)
            ]

        assert heard == [("0", 1), ("1", 2), ("2", 3)]

    @pytest.mark.parametrize("kind", ["async", "sync"])
    async def test_events_come_as_they_are_sent_in_async_code(self, kind: str) -> None:
        said = []

        def chunk(number: int) -> bytes:
            said.append(number)
            return f"data: {number}\n\n".encode()

        async def asynchronous() -> Any:
            for number in range(3):
                yield chunk(number)

        content = asynchronous() if kind == "async" else (chunk(number) for number in range(3))
        async with TokenAwareClient("APP", "key") as client:
            with respx.mock(using="algolia") as router:
                router.post(path="/1/say").mock(return_value=httpx.Response(200, content=content))
                heard = [
                    (event.data, len(said))
                    async for event in client._transporter.request_stream(
                        Verb.POST, "/1/say", self.options(client), False
                    )
                ]

        assert heard == [("0", 1), ("1", 2), ("2", 3)]

    def test_that_break_off_raise_where_they_are_read(self, before: TokenAwareClientSync) -> None:
        def chunks() -> Any:
            yield b"data: 1\n\n"
            raise httpx.ReadError("gone")

        with respx.mock(using="algolia") as router:
            router.post(path="/1/say").mock(return_value=httpx.Response(200, content=chunks()))
            events = before._transporter.request_stream(Verb.POST, "/1/say", self.options(before), False)
            assert next(events).data == "1"
            with pytest.raises(requests.ConnectionError, match="gone"):
                next(events)

    async def test_a_stream_that_a_route_lets_through(self) -> None:
        with LocalAlgolia() as algolia, respx.mock(using="algolia") as router:
            algolia.fail_next(200, body=b"data: real\n\n")
            router.route(host="127.0.0.1").pass_through()
            async with TokenAwareClient.create_with_config(algolia.search_config()) as client:
                events = client._transporter.request_stream(Verb.POST, "/1/say", self.options(client), False)
                assert [event.data async for event in events] == ["real"]


def test_an_algoliasearch_that_works_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def request(self: Any) -> None: ...

    monkeypatch.setattr(Transporter, "request", request)

    with pytest.raises(RuntimeError, match="keeps no _session in its Transporter"), respx.mock(using="algolia"):
        pass
    assert AlgoliaMocker.routers == []


def test_without_respx_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['respx'] = None; from algolia_usertoken.testing import AlgoliaMocker"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    error = done.stderr.splitlines()[-1]
    assert error.startswith("ImportError: mocking Algolia needs respx")
    assert error.endswith("pip install 'algolia-usertoken[testing]'")


def test_other_errors_of_httpx_reach_the_test_as_they_are(before: TokenAwareClientSync) -> None:
    with respx.mock(using="algolia") as router:
        router.post(path=QUERY).mock(side_effect=httpx.DecodingError)
        with pytest.raises(httpx.DecodingError):
            search(before)


def posted(content: bytes, **headers: str) -> httpx.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Request("POST", f"https://app-dsn.algolia.net{QUERY}", headers=named, content=content)


async def test_a_route_answers_an_async_client_and_the_rest_is_answered_as_by_algolia() -> None:
    router = AlgoliaRouter(records={"hats": [{"objectID": "h-1"}]})
    with router:
        router.post(path=QUERY).respond(json={**FOUND, "queryID": "0" * 32})
        async with TokenAwareClient("APP", "key", user_token="u-1") as client:
            await client.search_single_index("products", {"clickAnalytics": True})
            found = await client.search_single_index("hats", {"clickAnalytics": True})
        searches = [(search.index, search.query_id) for search in router.searches]

    assert [hit.object_id for hit in found.hits] == ["h-1"]
    assert searches == [("products", "0" * 32), ("hats", found.query_id)]


@pytest.mark.parametrize("text", ["", "<html>", "7", '{"results": [7]}'])
def test_a_route_may_answer_with_what_algolia_never_does(text: str) -> None:
    router = AlgoliaRouter()
    router.post(path=QUERY).respond(text=text)

    assert router.handler(posted(b'{"query": "hat"}')).text == text
    assert [(search.query, search.query_id) for search in router.searches] == [("hat", None)]


def test_a_body_that_is_not_what_it_says_is_refused_as_by_algolia() -> None:
    router = AlgoliaRouter()

    answer = router.handler(posted(b"{}", content_encoding="gzip"))

    assert (answer.status_code, answer.json()["message"]) == (400, "Content-Encoding: the body is not gzip")
    assert router.searches == []


def test_an_object_that_is_saved_twice_is_one() -> None:
    with AlgoliaRouter(records={"p": []}), SearchClientSync("APP", "key") as client:
        client.save_object("p", {"objectID": "o-1", "name": "first"})
        client.save_object("p", {"objectID": "o-1", "name": "second"})
        found = client.search_single_index("p", {"query": ""})

    assert [(hit.object_id, hit.name) for hit in found.hits] == [("o-1", "second")]
