"""Who may ask: this machine by its own names, and pages of other sites only what they ask of Algolia."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest
from waiting import PATIENCE

from algolia_usertoken.testing import LocalAlgolia

Ask = Callable[..., Any]
QUERY = "/1/indexes/products/query"
EVENT = {
    "eventType": "view",
    "eventName": "seen",
    "index": "products",
    "userToken": "u-1",
    "objectIDs": ["hat"],
}
ABROAD = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://evil.example:8108"},
    {"Origin": "chrome-extension://localhost"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
]
AT_HOME = [
    {},
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "cross-site"},  # a page at localhost, to Chromium
    {"Origin": "https://[::1]"},
    {"Sec-Fetch-Site": "none"},
]
# What changes or shows what is kept.
PRIVATE = [
    ("GET", "/1/logs", None),
    ("GET", "/1/indexes", None),
    ("GET", "/1/indexes/products/settings", None),
    ("PUT", "/1/indexes/products/settings", {}),
    ("POST", "/1/indexes/products/batch", {"requests": []}),
    ("POST", "/1/indexes/*/batch", {"requests": []}),
    ("POST", "/1/indexes/products", {}),
    ("PUT", "/1/indexes/products/new", {}),
    ("POST", "/1/indexes/products/hat/partial", {}),
    ("DELETE", "/1/indexes/products/none", None),
    ("POST", "/1/indexes/none/clear", {}),
    ("POST", "/1/indexes/products/deleteByQuery", {"query": "", "filters": "brand:none"}),
    ("POST", "/1/indexes/products/operation", {"operation": "copy", "destination": "copied"}),
    ("DELETE", "/1/indexes/none", None),
    ("DELETE", "/1/usertokens/u-9", None),
    ("DELETE", "/1/profiles/u-9", None),
]
# What pages ask of Algolia.
PUBLIC = [
    ("POST", QUERY, {}),
    ("GET", "/1/indexes/products", None),
    ("POST", "/1/indexes/*/queries", {"requests": [{"indexName": "products"}]}),
    ("POST", "/1/indexes/*/recommendations", {"requests": []}),
    ("POST", "/1/indexes/products/facets/brand/query", {}),
    ("GET", "/1/indexes/products/hat", None),
    ("POST", "/1/indexes/*/objects", {"requests": []}),
    ("POST", "/1/events", {"events": [EVENT]}),
]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "localhost.", "127.0.0.1", "127.9.9.9:8108", "[::1]", "[::1]:80", "[0:0:0:0:0:0:0:1]"],
)
def test_this_machine_is_known_by_its_own_names(ask: Ask, host: str) -> None:
    assert ask("POST", QUERY, {}, {"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8108",
        "localhost.evil.example",
        "evil.localhost",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "localhost:80@evil.example",
        "128.0.0.1",
        "0.0.0.0",
        "0x7f000001",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "[::2]",
        "[::1",
        "::1",
        "shop.test",
        "local host",
        "localhost,evil.example",
        "",
    ],
)
def test_local_algolia_refuses_requests_for_another_host(ask: Ask, algolia: LocalAlgolia, host: str) -> None:
    asked = [("POST", QUERY), ("GET", "/inspector/state"), ("GET", "/"), ("GET", "/1/logs"), ("OPTIONS", QUERY)]
    for method, path in asked:
        answer = ask(method, path, None, {"Host": host, "Accept": "text/html"})

        assert (answer.status, path) == (403, path)
        assert "allowed_hosts" in answer.json["message"]
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert algolia.searches == []


@pytest.mark.parametrize(
    "head",
    [
        b"GET /inspector/state HTTP/1.1\r\n",
        b"GET /inspector/state HTTP/1.0\r\n",
        b"GET /inspector/state HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
        b"GET http://evil.example/inspector/state HTTP/1.1\r\nHost: localhost\r\n",
        b"GET HTTP://evil.example/inspector/state HTTP/1.1\r\nHost: localhost\r\n",
    ],
)
def test_a_request_with_no_host_or_two_is_refused(algolia: LocalAlgolia, head: bytes) -> None:
    connection = http.client.HTTPConnection(algolia.host, algolia.port, timeout=PATIENCE)
    connection.connect()
    connection.sock.sendall(head + b"Connection: close\r\n\r\n")
    answer = b""
    while received := connection.sock.recv(65_536):
        answer += received
    connection.close()

    assert answer.split()[1] in (b"400", b"403", b"404")
    assert b"epoch" not in answer


def test_a_host_that_is_allowed_by_name() -> None:
    with LocalAlgolia(allowed_hosts=["Shop.test", "192.0.2.7"]) as algolia:
        for host, status in [("shop.TEST:8108", 200), ("192.0.2.7", 200), ("other.test", 403), ("a.shop.test", 403)]:
            connection = http.client.HTTPConnection(algolia.host, algolia.port, timeout=PATIENCE)
            connection.request("GET", "/inspector/state", headers={"Host": host, "Origin": f"http://{host}"})
            assert connection.getresponse().status == status
            connection.close()


@pytest.mark.parametrize(
    "hosts", ["shop.test", 7, ["http://shop.test"], ["shop.test:80"], ["*.test"], [""], [None], ["a b"]]
)
def test_allowed_hosts_that_are_no_host_names_are_refused(hosts: Any) -> None:
    with pytest.raises(ValueError, match="allowed_hosts must be"):
        LocalAlgolia(allowed_hosts=hosts)


@pytest.mark.parametrize(("method", "path", "body"), PRIVATE, ids=str)
def test_a_page_of_another_site_gets_nothing_private(ask: Ask, method: str, path: str, body: Any) -> None:
    for headers in ABROAD:
        answer = ask(method, path, body, headers)

        assert (answer.status, headers) == (403, headers)
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert len(ask("POST", QUERY, {}).json["hits"]) == 3


@pytest.mark.parametrize(("method", "path", "body"), PRIVATE, ids=str)
def test_a_page_of_this_machine_gets_what_is_private(ask: Ask, method: str, path: str, body: Any) -> None:
    for headers in AT_HOME:
        assert ask(method, path, body, headers).status in (200, 201), headers


@pytest.mark.parametrize(("method", "path", "body"), PUBLIC, ids=str)
def test_any_page_searches_and_sends_events(ask: Ask, method: str, path: str, body: Any) -> None:
    for headers in [*ABROAD, *AT_HOME]:
        answer = ask(method, path, body, headers)

        assert (answer.status, headers) == (200, headers)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    "headers",
    [*ABROAD, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://localhost:3000"}],
    ids=json.dumps,
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/inspector/state"), ("POST", "/inspector/clear")])
def test_the_inspector_answers_no_page_but_its_own(
    ask: Ask, algolia: LocalAlgolia, method: str, path: str, headers: dict[str, str]
) -> None:
    ask("POST", QUERY, {})
    answer = ask(method, path, None, headers)

    assert answer.status == 403
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert len(algolia.requests) == 1


@pytest.mark.parametrize(("method", "path"), [("GET", "/inspector/state"), ("POST", "/inspector/clear")])
def test_the_inspector_answers_its_own_page_and_programs(
    ask: Ask, algolia: LocalAlgolia, method: str, path: str
) -> None:
    for headers in ({}, {"Origin": algolia.url, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert ask(method, path, None, headers).status == 200


def test_headers_count_in_the_bound_on_memory(ask: Ask, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algolia._received._requests, "_max_bytes", 20_000)
    for _ in range(10):
        ask("POST", QUERY, {}, {"Cookie": "a=" + "x" * 7_000})

    assert len(algolia.requests) == 2
