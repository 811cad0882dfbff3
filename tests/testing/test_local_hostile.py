"""Requests that nobody should send."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from waiting import PATIENCE

from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

Ask = Callable[..., Any]
PATHS = [
    "/1/indexes/products/query",
    "/1/indexes/*/queries",
    "/1/indexes/*/recommendations",
    "/1/indexes/products/browse",
    "/1/indexes/products/batch",
    "/1/indexes/*/batch",
    "/1/indexes/*/objects",
    "/1/indexes/products/facets/brand/query",
    "/1/indexes/products/operation",
    "/1/indexes/products/hat/partial",
    "/1/indexes/products/deleteByQuery",
    "/1/indexes/products",
    "/1/events",
]
NAMES = [
    "query", "params", "requests", "events", "indexName", "page", "hitsPerPage", "facets", "facetFilters", "filters",
    "numericFilters", "attributesToRetrieve", "attributesToHighlight", "highlightPreTag", "cursor", "clickAnalytics",
    "userToken", "offset", "length", "maxValuesPerFacet", "queryParameters", "model", "facetName", "facetValue",
    "maxRecommendations", "type", "facet", "facetQuery", "action", "body", "objectID", "operation", "destination",
    "scope", "maxFacetHits", "attributesForFaceting",
]  # fmt: skip
TEXTS = ["", "*", "a:b", "[", '["a"]', "\x00", "\ud800", "é" * 50, "trending-facets", "facet", "products", "x" * 2000]


def anything(random: random.Random, depth: int = 0) -> Any:
    kind = random.randrange(10 if depth < 4 else 7)
    if kind < 3:
        return random.choice(TEXTS)
    if kind < 5:
        return random.choice([0, -1, 1, 10**30, 1.5, 1e300, True, False])
    if kind < 7:
        return random.choice([None, "products", [], {}])
    if kind == 7:
        return [anything(random, depth + 1) for _ in range(random.randrange(4))]
    return {random.choice(NAMES): anything(random, depth + 1) for _ in range(random.randrange(6))}


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_any_json_is_answered_without_a_server_error(ask: Ask, path: str) -> None:
    source = random.Random(path)
    for _ in range(60):
        body = {source.choice(NAMES): anything(source) for _ in range(5)}
        if path.endswith(("queries", "recommendations", "objects", "/batch")):
            wrapped = {**body, "indexName": "products", "objectID": "x", "action": "addObject", "threshold": 0}
            body = {"requests": [wrapped]}
        answer = ask("POST", path, body)
        assert answer.status in (200, 201, 400, 404, 422), (body, answer.body)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"\x00\xff", b"{", b"nul", b"[" * 50_000, b'"', b"\x1f\x8b", b"\xff\xfe{\x00}\x00"])
def test_bodies_of_garbage_are_answered(ask: Ask, path: str, body: bytes) -> None:
    assert ask("POST", path, body).status in (200, 400, 422)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(b'{"query": "x"}', mtime=0)[:-14]),
        ("gzip", gzip.compress(b"{}", mtime=0)[:5] + b"nonsense"),
        ("deflate", b"\x00"),
        ("br", b"\x00"),
        ("nonsense", b"{"),
    ],
)
def test_bodies_that_are_not_in_their_encoding_are_answered(ask: Ask, encoding: str, body: bytes) -> None:
    for _ in range(20):
        assert ask("POST", PATHS[0], body, {"content-encoding": encoding}).status == 400
    assert ask("POST", PATHS[0], {}).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET " + b"/x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET // HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_bytes_that_are_hardly_http_stop_no_server(algolia: LocalAlgolia, ask: Ask, sent: bytes) -> None:
    with socket.create_connection((algolia.host, algolia.port), timeout=PATIENCE) as connection:
        answer = b""
        # The server may answer before it has read all, and hang up: then the connection is reset.
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            while received := connection.recv(65_536):
                answer += received
    assert not answer.startswith(b"HTTP/1.1 5")
    assert ask("POST", PATHS[0], {}).status == 200


def test_clients_that_hang_up_half_way(algolia: LocalAlgolia, ask: Ask) -> None:
    head = b"POST /1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"
    for number in range(100):
        with socket.create_connection((algolia.host, algolia.port), timeout=PATIENCE) as connection:
            connection.sendall(head[: number + 1])
    assert ask("POST", PATHS[0], {}).status == 200


def test_a_query_of_a_megabyte_is_answered(ask: Ask) -> None:
    answer = ask("POST", PATHS[0], {"query": "word " * 200_000})
    assert (answer.status, answer.json["nbHits"]) == (200, 0)
    assert ask("POST", PATHS[0], {"query": "x" * 1_000_000}).status == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (PATHS[0], 2_000_000),
        ("/1/indexes/*/queries", 2_000_000),
        ("/1/events", 2_000_000),
        ("/1/nowhere", 2_000_000),
        ("/1/indexes/products/batch", 64_000_000),
        ("/1/indexes/*/batch", 64_000_000),
        ("/1/indexes/products", 64_000_000),
        ("/1/indexes/products/hat/partial", 64_000_000),
    ],
)
def test_a_body_beyond_its_limit_is_refused_before_and_after_decompression(ask: Ask, path: str, allowed: int) -> None:
    gzipped = {"content-encoding": "gzip"}
    bomb = gzip.compress(b" " * (allowed + 1))
    assert len(bomb) < 100_000

    assert ask("POST", path, bomb, gzipped).status == 413
    assert ask("POST", path, gzip.compress(b" " * allowed), gzipped).status != 413
    if allowed < 10_000_000:
        assert ask("POST", path, b" " * (allowed + 1)).status == 413
        assert ask("POST", path, b" " * (allowed + 2)).status == 413
        assert ask("POST", path, b" " * allowed).status != 413
    assert ask("POST", PATHS[0], {}).status == 200


def test_a_saved_object_may_be_large(ask: Ask) -> None:
    assert ask("PUT", "/1/indexes/products/big", {"text": "x" * 3_000_000}).status == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"query":', "}"), ('{"a":[', "]}")])
def test_bodies_that_are_nested_beyond_a_number_are_refused(ask: Ask, path: str, opening: str, closing: str) -> None:
    deep = '{"query":' + opening * 5_000 + "1" + closing * 5_000 + "}"

    assert ask("POST", path, deep).status == 400


def test_brackets_in_texts_are_no_nesting(ask: Ask) -> None:
    assert ask("POST", PATHS[0], json.dumps({"query": '["[\\"{' * 2_000 + "\\"})).status == 200


def test_bodies_that_are_nested_to_just_that_number_are_not(ask: Ask) -> None:
    for depth, status in ((100, 200), (101, 400)):
        deep = "[" * depth + "]" * depth
        assert ask("POST", PATHS[0], f'{{"a":{deep},"b":[]}}').status == status


def test_a_body_of_millions_of_objects_is_refused(ask: Ask) -> None:
    bomb = gzip.compress(b'{"requests":[' + b"{}," * 4_000_000 + b"{}]}")

    assert ask("POST", "/1/indexes/products/batch", bomb, {"content-encoding": "gzip"}).status == 413


@pytest.mark.slow
@pytest.mark.parametrize("text", ['"', '\\"', '"\\', '["', '{"\\'])
def test_looking_for_nesting_takes_linear_time(ask: Ask, text: str) -> None:
    for _ in range(3):
        assert ask("POST", PATHS[0], text * (1_900_000 // len(text))).status in (400, 413)


def test_a_cursor_that_is_nested_too_deeply(ask: Ask) -> None:
    deep = base64.urlsafe_b64encode(b'[0,{"query":' + b"[" * 900 + b"]" * 900 + b"}]").decode()

    assert ask("POST", "/1/indexes/products/browse", {"cursor": deep}).status == 400


def test_header_values_of_any_bytes(algolia: LocalAlgolia) -> None:
    key = f"x-algolia-application-id: {algolia.app_id}\r\nx-algolia-api-key: {algolia.api_key}\r\n".encode()
    body = json.dumps({"query": ""}).encode()
    for token in (b"\xff\xfe", "é".encode(), b"a" * 4_000, b"two words", b"\t"):
        with socket.create_connection((algolia.host, algolia.port), timeout=PATIENCE) as connection:
            connection.sendall(
                b"POST /1/indexes/products/query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                + key
                + b"X-Algolia-UserToken: %b\r\nContent-Length: %d\r\n\r\n" % (token, len(body))
                + body
            )
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert len(algolia.searches) == 5
    algolia.mismatches()


@pytest.mark.slow
def test_stopping_in_the_middle_of_everything() -> None:
    for _ in range(3):
        algolia = LocalAlgolia().start()
        algolia.save_objects("products", [{"objectID": str(number), "text": "word " * 1_000} for number in range(200)])
        going = threading.Event()

        def load(port: int = algolia.port, going: threading.Event = going) -> None:
            request = (
                b"POST /1/indexes/products/query HTTP/1.1\r\nHost: localhost\r\n"
                b"x-algolia-application-id: LOCALALGOLIA\r\nx-algolia-api-key: local-api-key\r\n"
                b'Content-Length: 20\r\n\r\n{"hitsPerPage": 200}'
            )
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
                    # Answers pile up that nobody reads.
                    while True:
                        connection.sendall(request * 5)
                        going.set()
            except OSError:
                going.set()

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        going.wait(PATIENCE)
        time.sleep(0.3)
        stoppers = [threading.Thread(target=algolia.stop) for _ in range(4)]
        for stopper in stoppers:
            stopper.start()
        for thread in threads + stoppers:
            thread.join(PATIENCE)
            assert not thread.is_alive()
