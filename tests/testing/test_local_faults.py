"""Making a LocalAlgolia fail."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from algoliasearch.http.exceptions import AlgoliaUnreachableHostException, RequestException
from algoliasearch.search.client import SearchClientSync
from waiting import wait_until

from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

Ask = Callable[..., Any]
QUERY = "/1/indexes/products/query"
EVENTS = "/1/events"
BATCH = {
    "events": [{"eventType": "view", "eventName": "e", "index": "i", "userToken": "u", "objectIDs": ["a"]}],
}


def test_the_next_request_fails_and_no_other(ask: Ask, algolia: LocalAlgolia) -> None:
    algolia.fail_next()
    answer = ask("POST", QUERY, {})
    assert (answer.status, answer.json["status"]) == (503, 503)
    assert ask("POST", QUERY, {}).status == 200
    assert [request.status for request in algolia.requests] == [503, 200]
    assert len(algolia.searches) == 1


def test_fail_next_answers_several_times_and_then_with_the_next_fault(ask: Ask, algolia: LocalAlgolia) -> None:
    algolia.fail_next(429, times=2, headers={"Retry-After": "7"})
    algolia.fail_next(500)
    answers = [ask("POST", QUERY, {}) for _ in range(4)]
    assert [answer.status for answer in answers] == [429, 429, 500, 200]
    assert answers[0].headers["retry-after"] == "7"


def test_fail_next_without_times_answers_until_it_is_cleared(ask: Ask, algolia: LocalAlgolia) -> None:
    algolia.fail_next(times=None)
    assert {ask("POST", QUERY, {}).status for _ in range(5)} == {503}
    algolia.clear()
    assert ask("POST", QUERY, {}).status == 503
    algolia.clear_faults()
    assert ask("POST", QUERY, {}).status == 200


@pytest.mark.parametrize("path", ["/1/events", "/1/ev", re.compile("events$")])
def test_fail_next_answers_matching_paths_only(ask: Ask, algolia: LocalAlgolia, path: Any) -> None:
    algolia.fail_next(path=path)
    assert ask("POST", QUERY, {}).status == 200
    assert ask("POST", EVENTS, BATCH).status == 503
    assert algolia.events == []
    assert ask("POST", EVENTS, BATCH).status == 200


def test_fail_next_answers_a_matching_method_only(ask: Ask, algolia: LocalAlgolia) -> None:
    algolia.fail_next(method="put")
    assert ask("POST", QUERY, {}).status == 200
    assert ask("PUT", "/1/indexes/products/settings", {}).status == 503


def test_fail_next_spares_a_preflight(ask: Ask, algolia: LocalAlgolia) -> None:
    algolia.fail_next()
    assert ask("OPTIONS", QUERY).status == 200
    assert ask("POST", QUERY, {}).status == 503


@pytest.mark.parametrize(
    ("body", "sent", "kind"),
    [
        ({"message": "no"}, b'{"message": "no"}', "application/json; charset=UTF-8"),
        ("<p>é", "<p>é".encode(), "text/html; charset=utf-8"),
        (b"\x00", b"\x00", "application/octet-stream"),
    ],
)
def test_fail_next_sends_dicts_texts_and_bytes_with_their_type(
    ask: Ask, algolia: LocalAlgolia, body: Any, sent: bytes, kind: str
) -> None:
    algolia.fail_next(400, body=body)
    answer = ask("POST", QUERY, {})
    assert (answer.body, answer.headers["content-type"]) == (sent, kind)


def test_a_content_type_of_ones_own(ask: Ask, algolia: LocalAlgolia) -> None:
    algolia.fail_next(200, body="[]", headers={"content-type": "text/x"})
    assert ask("POST", QUERY, {}).headers.get_all("content-type") == ["text/x"]


@pytest.mark.parametrize("status", [204, 304])
def test_fail_next_sends_no_body_with_a_status_that_has_none(ask: Ask, algolia: LocalAlgolia, status: int) -> None:
    algolia.fail_next(status)
    answer = ask("POST", QUERY, {})
    assert (answer.status, answer.body) == (status, b"")


def test_fail_next_answers_after_its_delay(ask: Ask, algolia: LocalAlgolia) -> None:
    algolia.fail_next(delay=0.2)
    started = time.monotonic()
    assert ask("POST", QUERY, {}).status == 503
    assert time.monotonic() - started >= 0.2


def post_events(algolia: LocalAlgolia) -> http.client.HTTPConnection:
    """A connection on which events have been sent, and received, and no answer was read."""
    key = {"x-algolia-application-id": algolia.app_id, "x-algolia-api-key": algolia.api_key}
    received = len(algolia.requests)
    connection = http.client.HTTPConnection(algolia.host, algolia.port, timeout=1.5)
    connection.request("POST", EVENTS, json.dumps(BATCH), key)
    wait_until(lambda: len(algolia.requests) > received)
    return connection


def test_a_late_answer_is_dealt_with_at_once(ask: Ask, algolia: LocalAlgolia) -> None:
    algolia.delay_next(0.2, path=EVENTS)
    started = time.monotonic()
    assert ask("POST", EVENTS, BATCH).status == 200
    assert time.monotonic() - started >= 0.2

    algolia.delay_next(600, path=EVENTS)
    connection = post_events(algolia)
    wait_until(lambda: len(algolia.events) == 2)
    connection.close()


def test_a_client_times_out_on_a_request_that_hangs(algolia: LocalAlgolia) -> None:
    algolia.hang_next(times=None)
    config = algolia.search_config()
    config.read_timeout = 1_500
    with SearchClientSync.create_with_config(config) as client, pytest.raises(AlgoliaUnreachableHostException):
        client.search_single_index("products")
    wait_until(lambda: algolia.requests)  # a busy machine may receive it only after the client has gone
    assert [request.status for request in algolia.requests] == [None]
    assert algolia.searches == []


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("fault", ["hang_next", "drop_next"])
def test_an_answer_that_never_comes(algolia: LocalAlgolia, fault: str, processed: bool) -> None:
    getattr(algolia, fault)(processed=processed, path=EVENTS)
    connection = post_events(algolia)
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()
    assert len(algolia.events) == processed
    assert [request.status for request in algolia.requests] == [None]


def test_the_real_client_retries_429(algolia: LocalAlgolia, client: SearchClientSync) -> None:
    algolia.fail_next(429, headers={"Retry-After": "0"})
    try:
        found = client.search_single_index("products")
    except RequestException as error:  # versions before 4.48 do not
        assert error.status_code == 429  # noqa: PT017
    else:
        assert found.nb_hits == 3


@pytest.mark.parametrize(
    ("method", "arguments", "named"),
    [
        ("fail_next", {"status": 99}, "status"),
        ("fail_next", {"status": 600}, "status"),
        ("fail_next", {"status": "503"}, "status"),
        ("fail_next", {"status": True}, "status"),
        ("fail_next", {"times": 0}, "times"),
        ("fail_next", {"times": 1.5}, "times"),
        ("fail_next", {"times": True}, "times"),
        ("fail_next", {"path": 1}, "path"),
        ("fail_next", {"path": re.compile(b"x")}, "path"),
        ("fail_next", {"method": 1}, "method"),
        ("fail_next", {"method": ""}, "method"),
        ("fail_next", {"body": {1, 2}}, "body"),
        ("fail_next", {"headers": ["a"]}, "headers"),
        ("fail_next", {"headers": {"a": 1}}, "headers"),
        ("fail_next", {"headers": {"a": "b\r\nc: d"}}, "headers"),
        ("fail_next", {"headers": {"": "a"}}, "headers"),
        ("fail_next", {"headers": {"X Name": "a"}}, "headers"),
        ("fail_next", {"headers": {"X:Name": "a"}}, "headers"),
        ("fail_next", {"headers": {"Größe": "a"}}, "headers"),
        ("fail_next", {"delay": -1}, "delay"),
        ("fail_next", {"delay": "1"}, "delay"),
        ("fail_next", {"delay": float("inf")}, "delay"),
        ("delay_next", {"seconds": -1}, "seconds"),
        ("delay_next", {"seconds": float("nan")}, "seconds"),
        ("hang_next", {"times": -1}, "times"),
        ("drop_next", {"path": 1}, "path"),
    ],
)
def test_bad_arguments_of_faults_are_named(method: str, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must be"):
        getattr(LocalAlgolia(), method)(**arguments)
