from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import gc
import inspect
import json
import os
import pickle
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

import aiohttp
import pytest
import requests
import respx
from algoliasearch.http.api_response import ApiResponse
from algoliasearch.http.base_config import BaseConfig
from algoliasearch.http.request_options import RequestOptions
from algoliasearch.http.transporter import EchoTransporter, Transporter
from algoliasearch.http.transporter_sync import EchoTransporterSync, TransporterSync
from algoliasearch.http.verb import Verb
from algoliasearch.search.config import SearchConfig
from program_files import run_program

from algolia_usertoken import (
    Identity,
    InvalidUserTokenError,
    MissingUserTokenError,
    MissingUserTokenWarning,
    TokenAwareClient,
    TokenAwareClientSync,
    TokenAwareTransporter,
    TokenAwareTransporterSync,
    TokenProvider,
    identity_scope,
)
from algolia_usertoken.testing import LocalAlgolia
from algolia_usertoken.transporter import _TokenAware

pytestmark = [pytest.mark.oldest_versions, pytest.mark.package_contents]

HEADER = "X-Algolia-UserToken"
FORWARDED_FOR = "X-Forwarded-For"
IP = "203.0.113.7"

QUERY = "/1/indexes/products/query"
QUERIES = "/1/indexes/*/queries"
BROWSE = "/1/indexes/products/browse"
FACET = "/1/indexes/products/facets/brand/query"
RECOMMEND = "/1/indexes/*/recommendations"
RUN = "/1/compositions/home/run"
RUN_FACET = "/1/compositions/home/facets/brand/query"
BATCH = "/1/indexes/products/batch"


AS_IMPORTED = frozenset(vars(_TokenAware))


@pytest.fixture(autouse=True)
def _class_as_it_was_imported() -> None:
    """The class of ours learns which attributes transporters have: no test relies on what another has taught it."""
    for name in vars(_TokenAware).keys() - AS_IMPORTED:
        delattr(_TokenAware, name)


@pytest.fixture
def _mutmut_is_no_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run of `nox -s mutants` there are frames of mutmut between the application and the library."""
    monkeypatch.setattr("algolia_usertoken.transporter._PACKAGES", ("algoliasearch.", "algolia_usertoken.", "mutmut."))


class Recorder:
    """A sync transporter that has nothing to do with algoliasearch's, and keeps what it is asked to send."""

    def __init__(self, config: Any = None) -> None:
        self.config = config
        self.calls: list[tuple[Any, str, RequestOptions, bool]] = []
        self.closed = 0

    def request(self, verb: Any, path: str, request_options: RequestOptions, use_read_transporter: bool) -> str:
        self.calls.append((verb, path, request_options, use_read_transporter))
        return "answer"

    def request_stream(
        self, verb: Any, path: str, request_options: RequestOptions, use_read_transporter: bool
    ) -> Iterator[str]:
        self.calls.append((verb, path, request_options, use_read_transporter))
        yield "event"

    def close(self) -> None:
        self.closed += 1


class AsyncRecorder(Recorder):
    """The same, async."""

    async def request(  # type: ignore[override]
        self, verb: Any, path: str, request_options: RequestOptions, use_read_transporter: bool
    ) -> str:
        return super().request(verb, path, request_options, use_read_transporter)

    async def request_stream(  # type: ignore[override]
        self, verb: Any, path: str, request_options: RequestOptions, use_read_transporter: bool
    ) -> AsyncIterator[str]:
        for event in super().request_stream(verb, path, request_options, use_read_transporter):
            yield event

    async def close(self) -> None:  # type: ignore[override]
        super().close()


def options(
    body: Any = None,
    headers: dict[str, Any] | None = None,
    config_headers: dict[str, Any] | None = None,
    query_parameters: dict[str, Any] | None = None,
) -> RequestOptions:
    """Request options as algoliasearch hands them to a transporter: the headers of config and call merged."""
    config = BaseConfig("APP", "key")
    config.headers = {"x-algolia-api-key": "key", **(config_headers or {})}
    return RequestOptions(
        config,
        headers={**config.headers, **(headers or {})},
        query_parameters=query_parameters,
        timeouts={"read": 1, "write": 2, "connect": 3},
        data=body if body is None or isinstance(body, str | bytes) else json.dumps(body),
    )


class Sent:
    """What a request became."""

    def __init__(self, before: RequestOptions, after: RequestOptions) -> None:
        self.options = after
        self.unchanged = after is before
        self.headers = after.headers
        self.data = after.data
        self.body = json.loads(after.data) if after.data else None
        # In whatever case: the tokens in the headers, and the addresses.
        self.tokens = [value for name, value in after.headers.items() if name.lower() == HEADER.lower()]
        self.addresses = [value for name, value in after.headers.items() if name.lower() == FORWARDED_FOR.lower()]

    @property
    def token(self) -> Any:
        assert len(self.tokens) <= 1
        return self.tokens[0] if self.tokens else None


def send(
    body: Any = None,
    *,
    path: str = QUERY,
    verb: Verb = Verb.POST,
    who: Identity | str | None = None,
    headers: dict[str, Any] | None = None,
    config_headers: dict[str, Any] | None = None,
    query_parameters: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Sent:
    """Send one request through both transporters, which must agree and change nothing they are given."""
    provider = TokenProvider(who)
    before = options(body, headers, config_headers, query_parameters)
    as_it_was = copy.deepcopy(before.to_dict() | {"_config": vars(before._config)["headers"]})

    recorder, async_recorder = Recorder(), AsyncRecorder()
    assert TokenAwareTransporterSync(recorder, provider, **kwargs).request(verb, path, before, True) == "answer"
    asynchronous = TokenAwareTransporter(async_recorder, provider, **kwargs)
    assert asyncio.run(asynchronous.request(verb, path, before, True)) == "answer"

    assert as_it_was == before.to_dict() | {"_config": vars(before._config)["headers"]}
    ((*what, after, reading),) = recorder.calls
    ((*async_what, async_after, async_reading),) = async_recorder.calls
    assert (what, reading) == (async_what, async_reading) == ([verb, path], True)
    assert (after.headers, after.data) == (async_after.headers, async_after.data)
    assert isinstance(after, RequestOptions)
    assert (after.timeouts, after.query_parameters) == (before.timeouts, before.query_parameters)
    return Sent(before, after)


# -- The header ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        (Verb.POST, QUERY),
        (Verb.POST, QUERIES),
        (Verb.POST, BROWSE),
        (Verb.POST, FACET),
        (Verb.POST, RECOMMEND),
        (Verb.POST, RUN),
        (Verb.GET, "/1/indexes/products/7"),
        (Verb.POST, BATCH),
        (Verb.DELETE, "/1/indexes/products"),
        (Verb.GET, "/a/route/of/next/year"),
    ],
)
def test_each_request_gets_the_header_and_nothing_else(verb: Verb, path: str) -> None:
    sent = send({"query": "shoe"}, verb=verb, path=path, who="u-1")

    assert sent.headers == {"x-algolia-api-key": "key", HEADER: "u-1"}
    assert sent.data == '{"query": "shoe"}'


@pytest.mark.parametrize("who", [None, Identity(), Identity(opted_out=True)])
def test_nobody_sends_what_algoliasearch_alone_would_send(who: Identity | None) -> None:
    assert send({"query": "shoe"}, who=who).unchanged


def test_opted_out_sends_neither_token_nor_address() -> None:
    who = Identity("u-1", "l-1", IP, opted_out=True)

    assert send({}, who=who).unchanged
    assert send({}, who=who, forward_client_ip=True, user_token_in="both").unchanged
    assert send({}, who=who, config_headers={HEADER: "config"}).tokens == []


def test_searches_carry_the_user_token_not_the_login() -> None:
    assert send({}, who=Identity("anon", "login")).token == "anon"


CALL = {HEADER: "call"}
CONFIG = {HEADER: "config"}


@pytest.mark.parametrize(
    ("who", "headers", "config_headers", "token"),
    [
        ("who", {}, {}, "who"),
        ("who", CALL, {}, "call"),
        ("who", {}, CONFIG, "who"),
        (None, {}, CONFIG, "config"),
        (None, CALL, CONFIG, "call"),
        ("who", CALL, CONFIG, "call"),
        # In any case, alone and beside one another.
        ("who", {"x-algolia-usertoken": "call"}, {}, "call"),
        ("who", {"X-ALGOLIA-USERTOKEN": "call"}, CONFIG, "call"),
        (None, {"x-algolia-usertoken": "call"}, CONFIG, "call"),
        ("who", {}, {"x-algolia-usertoken": "config"}, "who"),
        (None, {}, {"x-algolia-usertoken": "config"}, "config"),
        ("who", CALL, {"x-algolia-usertoken": "config"}, "call"),
        # Nobody is an answer, an opt-out too: the config is not asked.
        (Identity(), {}, CONFIG, None),
        (Identity(opted_out=True), {}, CONFIG, None),
        (Identity(), {}, {"x-algolia-usertoken": "config"}, None),
        (Identity(opted_out=True), CALL, CONFIG, "call"),
        # What says nothing is no answer of the call.
        ("who", {HEADER: None}, {}, "who"),
        ("who", {HEADER: ""}, {}, "who"),
        ("who", {HEADER: ""}, CONFIG, "who"),
        ("who", {"x-algolia-usertoken": ""}, CONFIG, "who"),
        (None, {"x-algolia-usertoken": None}, CONFIG, "config"),
        (None, {"x-algolia-usertoken": ""}, CONFIG, "config"),
        (None, {HEADER: ""}, {}, None),
        (None, {HEADER: None}, {}, None),
        (Identity(), {HEADER: None}, {}, None),
        (None, {}, {HEADER: ""}, None),
        ("who", {}, {HEADER: ""}, "who"),
        ("who", {}, {HEADER: None}, "who"),
        # Equal ones can't be told apart, and count as the config's.
        ("who", {HEADER: "config"}, CONFIG, "who"),
        (None, {HEADER: "config"}, CONFIG, "config"),
    ],
)
def test_who_wins_in_the_header(
    who: Any, headers: dict[str, Any], config_headers: dict[str, Any], token: str | None
) -> None:
    sent = send({"query": "shoe"}, who=who, headers=headers, config_headers=config_headers)

    assert sent.tokens == ([] if token is None else [token])
    assert sent.data == '{"query": "shoe"}'


@pytest.mark.parametrize("name", [HEADER, "x-algolia-usertoken", "X-ALGOLIA-userToken"])
def test_header_of_the_call_stays_as_it_is_written(name: str) -> None:
    assert send({}, who="who", headers={name: "call"}).unchanged


def test_header_of_the_call_may_have_a_name_in_bytes_as_requests_takes_it() -> None:
    headers: Any = {b"x-algolia-usertoken": "call", b"X-Other": "other"}
    given = options()
    given.headers |= {HEADER: "", **headers}
    transporter = TokenAwareTransporterSync(Recorder(), TokenProvider("who"))
    sent = transporter.apply_identity("POST", QUERY, given)

    assert sent.headers == {"x-algolia-api-key": "key", b"X-Other": "other", HEADER: "call"}


@pytest.mark.parametrize(
    "name", ["X-Algolia-UserToken2", "X-Algolia-User-Token", "X-Algolia-Secure-User-Token", "y" * 19]
)
def test_other_headers_of_a_call_are_left_alone(name: str) -> None:
    sent = send({}, who="who", headers={name: "other"})

    assert sent.headers == {"x-algolia-api-key": "key", name: "other", HEADER: "who"}


@pytest.mark.parametrize("value", [7, True, b"u-1", ["u-1"], 1.5])
def test_header_that_is_no_string_is_refused(value: Any) -> None:
    with pytest.raises(InvalidUserTokenError) as caught:
        send({}, who="who", headers={HEADER: value})

    assert str(caught.value) == (
        f"the header X-Algolia-UserToken in request_options must be a string, not {type(value).__name__}"
    )


def test_context_and_view_are_asked_at_each_call() -> None:
    recorder = Recorder()
    transporter = TokenAwareTransporterSync(recorder, TokenProvider("default"))
    view = TokenAwareTransporterSync(transporter, transporter.token_provider.with_identity("bound"))
    for sender in (transporter, view):
        sender.request(Verb.POST, QUERY, options({}), True)
        with identity_scope("context"):
            sender.request(Verb.POST, QUERY, options({}), True)
            sender.request(Verb.POST, QUERY, options({}, CALL), True)

    assert [call[2].headers[HEADER] for call in recorder.calls] == [
        "default",
        "context",
        "call",
        "bound",
        "bound",
        "call",
    ]


@pytest.mark.parametrize("who", [None, "u", Identity(), Identity(opted_out=True), Identity(client_ip=IP)])
@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
def test_provider_is_asked_once_for_each_request(who: Any, user_token_in: Any) -> None:
    answers: list[Any] = []

    def resolve() -> Any:
        answers.append(who)
        return who

    transporter = TokenAwareTransporterSync(Recorder(), TokenProvider(resolve=resolve), user_token_in=user_token_in)
    transporter.request(Verb.POST, QUERY, options({}), True)

    assert len(answers) == 1


def test_provider_is_not_asked_where_the_call_says_who() -> None:
    provider = TokenProvider(resolve=lambda: pytest.fail("asked"))  # type: ignore[arg-type, return-value]
    recorder = Recorder()
    transporter = TokenAwareTransporterSync(recorder, provider)
    transporter.request(Verb.POST, QUERY, options({}, CALL), True)
    transporter.request(Verb.POST, QUERY, options({"userToken": "u"}), True)

    assert [call[2].headers[HEADER] for call in recorder.calls] == ["call", "u"]


# -- The parameter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["who", None, Identity()])
@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (QUERY, {"userToken": "u"}),
        (QUERY, {"params": "query=x&userToken=u"}),
        (BROWSE, {"userToken": "u"}),
        (FACET, {"params": "userToken=u"}),
        (QUERIES, {"requests": [{"userToken": "u"}, {"params": "userToken=u"}]}),
        (RECOMMEND, {"requests": [{"queryParameters": {"userToken": "u"}}]}),
        (RUN, {"params": {"userToken": "u"}}),
        (RUN_FACET, {"params": {"searchQuery": {"userToken": "u"}}}),
    ],
)
def test_header_follows_the_parameter_of_the_call(who: Any, user_token_in: Any, path: str, body: Any) -> None:
    sent = send(body, path=path, who=who, user_token_in=user_token_in)

    writable = path not in (FACET, RUN_FACET)
    assert sent.token == (None if user_token_in == "parameter" and writable else "u")
    assert sent.data == json.dumps(body)


@pytest.mark.parametrize(
    ("headers", "config_headers"),
    [(CALL, {}), ({"x-algolia-usertoken": "call"}, {}), ({}, CONFIG), (CALL, {"x-algolia-usertoken": "config"})],
)
def test_parameter_beats_a_header_of_the_same_call(headers: Any, config_headers: Any) -> None:
    sent = send({"userToken": "u"}, who="who", headers=headers, config_headers=config_headers)

    assert sent.tokens == ["u"]


@pytest.mark.parametrize(
    ("tokens", "header", "parameter_header"),
    [
        (["a", "a"], "a", None),
        (["a", "b"], None, None),
        (["a", None], None, None),
        ([None, "a"], None, None),
        ([None, None], "who", None),
        (["who", None], None, None),
    ],
)
@pytest.mark.parametrize("headers", [{}, CONFIG], ids=["", "config"])
def test_no_header_where_the_requests_of_a_multi_query_differ(
    tokens: list[str | None], header: str | None, parameter_header: str | None, headers: Any
) -> None:
    body = {"requests": [{"query": "x", **({"userToken": token} if token else {})} for token in tokens]}
    sent = send(body, path=QUERIES, who="who", config_headers=headers)

    assert sent.token == header
    assert sent.data == json.dumps(body)
    assert send(body, path=QUERIES, who="who", user_token_in="parameter").token == parameter_header


@pytest.mark.parametrize("user_token_in", ["parameter", "both"])
def test_each_request_of_a_multi_query_is_filled_for_itself(user_token_in: Any) -> None:
    body = {"requests": [{"userToken": "a"}, {"query": "x"}, {"params": "query=y"}]}
    sent = send(body, path=QUERIES, who="w+", user_token_in=user_token_in)

    assert sent.body == {
        "requests": [
            {"userToken": "a"},
            {"query": "x", "userToken": "w+"},
            {"params": "query=y&userToken=w%2B"},
        ]
    }
    assert sent.token is None


@pytest.mark.parametrize(
    "token",
    ["a@b", "a\r\nX-Evil: 1", 7, "x" * 129],
)
def test_parameter_that_is_no_valid_token_stays_but_never_becomes_a_header(token: Any) -> None:
    sent = send({"userToken": token}, who="who", config_headers=CONFIG)

    assert sent.tokens == []
    assert sent.body == {"userToken": token}


@pytest.mark.parametrize("nothing", [None, ""])
def test_empty_parameter_is_no_answer(nothing: Any) -> None:
    assert send({"userToken": nothing}, who="who").token == "who"
    assert send({"userToken": None}, who="who", user_token_in="both").body == {"userToken": "who"}


def test_the_word_alone_is_no_parameter() -> None:
    body = {"query": "userToken", "filters": "userToken:u"}

    assert send(body, who="who").token == "who"


@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        (Verb.POST, BATCH, {"requests": [{"action": "addObject", "body": {"userToken": "data"}}]}),
        (Verb.PUT, "/1/indexes/products/7", {"userToken": "data"}),
        (Verb.POST, "/1/indexes/products", {"userToken": "data"}),
        (Verb.PUT, "/1/indexes/products/rules/r", {"consequence": {"params": {"userToken": "data"}}}),
        (Verb.POST, "/1/indexes/*/objects", {"requests": [{"userToken": "data"}]}),
        (Verb.POST, "/1/events", {"events": [{"userToken": "data"}]}),
    ],
)
def test_a_record_with_a_field_of_that_name_is_no_search(user_token_in: Any, verb: Verb, path: str, body: Any) -> None:
    sent = send(body, verb=verb, path=path, who="who", user_token_in=user_token_in)

    assert sent.token == "who"
    assert sent.data == json.dumps(body)


@pytest.mark.parametrize(
    ("path", "body", "written"),
    [
        (QUERY, {"query": "x"}, {"query": "x", "userToken": "who"}),
        (QUERY, None, {"userToken": "who"}),
        (QUERY, {"params": "query=x"}, {"params": "query=x&userToken=who"}),
        (BROWSE, {}, {"userToken": "who"}),
        (QUERIES, {"requests": [{}, {}]}, {"requests": [{"userToken": "who"}, {"userToken": "who"}]}),
        (RECOMMEND, {"requests": [{}]}, {"requests": [{"queryParameters": {"userToken": "who"}}]}),
        (RUN, {}, {"params": {"userToken": "who"}}),
    ],
)
def test_user_token_in_parameter_and_both(path: str, body: Any, written: Any) -> None:
    sent = send(body, path=path, who="who", user_token_in="parameter")
    assert (sent.body, sent.token) == (written, None)

    sent = send(body, path=path, who="who", user_token_in="both")
    assert (sent.body, sent.token) == (written, "who")

    sent = send(body, path=path, who="who", user_token_in="header")
    assert (sent.body, sent.token) == (body, "who")


@pytest.mark.parametrize("user_token_in", ["parameter", "both"])
@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        (Verb.POST, FACET, {"facetQuery": "x"}),
        (Verb.POST, FACET, {"params": "query=x"}),
        (Verb.POST, RUN_FACET, {"params": {"searchQuery": {}}}),
        (Verb.POST, QUERIES, {"requests": []}),
        (Verb.POST, BATCH, {"requests": [{"body": {}}]}),
        (Verb.GET, "/1/indexes/products", None),
        (Verb.GET, "/1/indexes/products/settings", None),
        (Verb.POST, QUERY, "{"),
        (Verb.POST, QUERY, "[1]"),
    ],
)
def test_a_request_without_a_field_for_the_user_token_keeps_the_header(
    user_token_in: Any, verb: Verb, path: str, body: Any
) -> None:
    before = options(body)
    recorder = Recorder()
    transporter = TokenAwareTransporterSync(recorder, TokenProvider("who"), user_token_in=user_token_in)
    transporter.request(verb, path, before, True)
    after = recorder.calls[0][2]

    assert after.headers[HEADER] == "who"
    assert after.data == before.data


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"params": "userToken=&query=x"}, {"params": "query=x&userToken=who"}),
        ({"params": "query=x&userToken"}, {"params": "query=x&userToken=who"}),
        ({"params": "user%54oken=&query=x"}, {"params": "query=x&userToken=who"}),
        ({"params": "query=x", "userToken": ""}, {"params": "query=x&userToken=who"}),
        ({"params": "userToken=", "userToken": None}, {"params": "userToken=who"}),
        ({"params": None, "userToken": ""}, {"params": None, "userToken": "who"}),
    ],
)
def test_no_empty_token_stays_beside_the_one_that_is_written(given: Any, written: Any) -> None:
    assert send(given, who="who", user_token_in="parameter").body == written


@pytest.mark.parametrize(
    ("path", "body"), [(RECOMMEND, {"requests": [{"queryParameters": None}]}), (RUN, {"params": None})]
)
def test_token_is_not_lost_where_the_parameters_are_null(path: str, body: Any) -> None:
    sent = send(body, path=path, who="who", user_token_in="parameter")

    assert sent.token == "who" or '"userToken": "who"' in sent.data


@pytest.mark.parametrize("who", [None, Identity(), Identity(client_ip=IP), Identity("u", opted_out=True)])
@pytest.mark.parametrize("user_token_in", ["parameter", "both"])
def test_no_parameter_is_written_where_the_user_is_nobody(who: Any, user_token_in: Any) -> None:
    assert send({"query": "x"}, who=who, user_token_in=user_token_in).data == '{"query": "x"}'


@pytest.mark.parametrize(
    ("headers", "config_headers", "who", "written", "tokens"),
    [
        (CALL, {}, "who", "call", ["call"]),  # the caller's header is the caller's
        ({}, CONFIG, None, "config", ["config"]),
        ({}, CONFIG, "who", "who", []),
        ({}, CONFIG, "config", "config", ["config"]),
    ],
)
def test_user_token_in_parameter_beside_headers(
    headers: Any, config_headers: Any, who: Any, written: str, tokens: list[str]
) -> None:
    sent = send({}, who=who, headers=headers, config_headers=config_headers, user_token_in="parameter")

    assert (sent.body, sent.tokens) == ({"userToken": written}, tokens)


def test_invalid_header_of_the_call_is_not_copied_into_the_body() -> None:
    sent = send({}, who="who", headers={HEADER: "a@b"}, user_token_in="both")

    assert (sent.body, sent.tokens) == ({}, ["a@b"])


def test_body_is_written_as_algoliasearch_serialises_it() -> None:
    body = {"query": "Crème 🍦 \ud800", "numericFilters": [1.50, -0.0, 1e30], "x": {"b": None, "a": True}, "": []}
    sent = send(body, who="who", user_token_in="parameter")

    assert sent.data == json.dumps({**body, "userToken": "who"})


# -- In the URL ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
@pytest.mark.parametrize(
    ("verb", "path", "body", "url", "header"),
    [
        (Verb.POST, QUERY, {}, "url", "url"),
        (Verb.POST, QUERY, {"userToken": "url"}, "url", "url"),
        (Verb.POST, QUERY, {"userToken": "body"}, "url", None),
        (Verb.POST, QUERY, {}, "a+/=", "a+/="),
        (Verb.POST, QUERY, {}, "a@b", None),
        (Verb.POST, QUERIES, {"requests": [{}, {"userToken": "a"}]}, "url", None),
        (Verb.POST, QUERIES, {"requests": [{}, {}]}, "url", "url"),
        (Verb.GET, "/1/indexes/products", None, "url", "url"),
        (Verb.GET, BROWSE, None, "url", "url"),
        (Verb.POST, BATCH, {}, "url", "who"),
        (Verb.GET, "/1/indexes/products/7", None, "url", "who"),
    ],
)
def test_header_follows_a_token_in_the_url(
    user_token_in: Any, verb: Verb, path: str, body: Any, url: str, header: str | None
) -> None:
    sent = send(body, verb=verb, path=path, who="who", query_parameters={"userToken": url}, user_token_in=user_token_in)

    assert sent.token == header
    assert sent.body == body


@pytest.mark.parametrize(
    ("verb", "path", "body", "header"),
    [
        (Verb.POST, f"{QUERY}?userToken=url", {}, "url"),
        (Verb.POST, f"{QUERY}?x=1&userToken=a%2B", {}, "a+"),
        (Verb.POST, f"{QUERY}?userToken=url", {"userToken": "body"}, None),
        (Verb.GET, "/1/indexes/products?userToken=url", None, "url"),
        (Verb.POST, f"{BATCH}?userToken=url", {}, "who"),
        (Verb.POST, "/1/indexes/userToken/query", {}, "who"),
        (Verb.POST, f"{QUERY}?xuserToken=url", {}, "who"),
    ],
)
def test_header_follows_a_token_in_the_path(verb: Verb, path: str, body: Any, header: str | None) -> None:
    sent = send(body, verb=verb, path=path, who="who")

    assert (sent.token, sent.body) == (header, body)


# Browsers send headers in the URL, and Algolia takes them from there.
@pytest.mark.parametrize("name", [HEADER, "x-algolia-usertoken", "X-ALGOLIA-USERTOKEN"])
@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
@pytest.mark.parametrize(
    ("verb", "path"), [(Verb.POST, QUERY), (Verb.POST, FACET), (Verb.POST, BATCH), (Verb.GET, "/1/indexes/products")]
)
def test_header_follows_one_in_the_url(name: str, user_token_in: Any, verb: Verb, path: str) -> None:
    written = {"userToken": "a+/="} if path == QUERY and user_token_in != "header" else {}
    for given in ({"query_parameters": {name: "a+/="}}, {"path": f"{path}?x=1&{name}=a%2B%2F%3D"}):
        sent = send({}, verb=verb, who="who", user_token_in=user_token_in, **{"path": path, **given})
        alone = user_token_in == "parameter" and path == QUERY  # as with a token in the header, the parameter is enough

        assert sent.tokens == ([] if alone else ["a+/="])
        assert sent.body == written


@pytest.mark.parametrize(
    ("path", "body", "headers", "url", "header"),
    [
        (QUERY, {}, {HEADER: "call"}, "url", "url"),  # the one in the URL cannot be changed
        (QUERY, {}, {HEADER: "url"}, "url", "url"),
        (QUERY, {}, {}, "", "who"),
        (QUERY, {}, {HEADER: "call"}, "", "call"),
        (QUERY, {}, {}, "a@b", None),
        (BATCH, {}, {HEADER: "call"}, "a@b", None),
        (QUERY, {"userToken": "url"}, {}, "url", "url"),
        (QUERY, {"userToken": "body"}, {}, "url", None),
        (QUERIES, {"requests": [{}, {"userToken": "url"}]}, {}, "url", None),
        (QUERIES, {"requests": [{"userToken": "a"}, {"userToken": "a"}]}, {}, "url", None),
        (f"{QUERY}?userToken=url", {}, {}, "url", "url"),
        (f"{QUERY}?userToken=other", {}, {}, "url", None),
        (f"{QUERY}?x-algolia-usertoken=other", {}, {}, "url", None),
        (BATCH, {"requests": [{"body": {"userToken": "stored"}}]}, {}, "url", "url"),
    ],
)
def test_no_other_token_is_sent_beside_a_header_in_the_url(
    path: str, body: Any, headers: Any, url: str, header: str | None
) -> None:
    query_parameters = {"x-algolia-usertoken": url}
    sent = send(body, path=path, who="who", headers=headers, query_parameters=query_parameters)

    assert (sent.token, sent.body) == (header, body)


@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
@pytest.mark.parametrize("name", ["userToken", HEADER])
def test_header_follows_a_token_in_a_dict_that_algoliasearch_puts_into_the_url(user_token_in: Any, name: str) -> None:
    given = options()
    given.data = {"query": "shoe", name: "url"}
    transporter = TokenAwareTransporterSync(Recorder(), TokenProvider("who"), user_token_in=user_token_in)
    sent = transporter.apply_identity("GET", "/1/indexes/products", given)

    assert (sent.headers[HEADER], sent.data) == ("url", {"query": "shoe", name: "url"})


def test_a_dict_in_the_place_of_a_body_keeps_the_header() -> None:
    given = options()
    given.data = {"query": "shoe"}
    transporter = TokenAwareTransporterSync(Recorder(), TokenProvider("who"), user_token_in="both")
    sent = transporter.apply_identity("GET", "/1/indexes/products", given)

    assert (sent.headers[HEADER], sent.data) == ("who", {"query": "shoe"})


def test_other_query_parameters_play_no_part() -> None:
    assert send({}, who="who", query_parameters={"query": "userToken"}).token == "who"


# -- The address ---------------------------------------------------------------------------------------------------


def test_address_stands_in_for_the_token_of_a_search() -> None:
    sent = send({"query": "x"}, who=Identity(client_ip=IP))

    assert sent.headers == {"x-algolia-api-key": "key", FORWARDED_FOR: IP}
    assert sent.data == '{"query": "x"}'


@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
@pytest.mark.parametrize("headers", [{}, {"x-own": "1"}, {HEADER: ""}], ids=["", "own", "empty"])
def test_no_address_is_sent_beside_a_token(user_token_in: Any, headers: Any) -> None:
    who = Identity("u", client_ip=IP)

    assert send({}, who=who, user_token_in=user_token_in, headers=headers).addresses == []


@pytest.mark.parametrize("path", [QUERY, QUERIES, BROWSE, FACET, RECOMMEND, RUN, RUN_FACET])
@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
def test_address_stands_in_on_every_kind_of_search(path: str, user_token_in: Any) -> None:
    assert send({}, path=path, who=Identity(client_ip=IP), user_token_in=user_token_in).addresses == [IP]


@pytest.mark.parametrize("forward_client_ip", [False, True])
@pytest.mark.parametrize(("verb", "path"), [(Verb.POST, BATCH), (Verb.GET, "/1/indexes/products/settings")])
def test_address_is_sent_with_searches_only(verb: Verb, path: str, forward_client_ip: bool) -> None:
    who = Identity(client_ip=IP)

    assert send({}, verb=verb, path=path, who=who, forward_client_ip=forward_client_ip).unchanged


def test_forward_client_ip_sends_the_address_beside_the_token() -> None:
    sent = send({}, who=Identity("u", client_ip=IP), forward_client_ip=True)
    assert (sent.token, sent.addresses) == ("u", [IP])

    sent = send({}, who=Identity("u", client_ip=IP), forward_client_ip=True, user_token_in="parameter")
    assert (sent.token, sent.addresses, sent.body) == (None, [IP], {"userToken": "u"})

    assert send({}, who="u", forward_client_ip=True).addresses == []
    assert send({}, path=BATCH, who=Identity("u", client_ip=IP), forward_client_ip=True).addresses == []


@pytest.mark.parametrize("name", [FORWARDED_FOR, "x-forwarded-for", "X-FORWARDED-FOR"])
@pytest.mark.parametrize("forward_client_ip", [False, True])
@pytest.mark.parametrize("in_config", [False, True])
def test_address_of_the_caller_stays(name: str, forward_client_ip: bool, in_config: bool) -> None:
    given = {"config_headers" if in_config else "headers": {name: "198.51.100.1"}}

    sent = send({}, who=Identity(client_ip=IP), forward_client_ip=forward_client_ip, **given)  # type: ignore[arg-type]
    assert sent.unchanged
    sent = send({}, who=Identity("u", client_ip=IP), forward_client_ip=forward_client_ip, **given)  # type: ignore[arg-type]
    assert (sent.token, sent.addresses) == ("u", ["198.51.100.1"])


def test_address_alone_is_an_answer_so_the_config_is_not_asked() -> None:
    sent = send({}, who=Identity(client_ip=IP), config_headers=CONFIG)

    assert (sent.tokens, sent.addresses) == ([], [IP])


def test_address_is_not_sent_for_a_call_that_says_who() -> None:
    who = Identity(client_ip=IP)

    assert send({}, who=who, headers=CALL).unchanged
    assert send({"userToken": "u"}, who=who).addresses == []


PRIVATE = ["10.1.2.3", "192.168.0.7", "127.0.0.1", "100.64.0.1", "::1", "fd00::7", "fe80::7", "::ffff:10.1.2.3"]


@pytest.mark.parametrize("client_ip", PRIVATE)
@pytest.mark.parametrize("forward_client_ip", [False, True])
@pytest.mark.parametrize("on_missing", ["ignore", "warn", "raise"])
def test_a_private_address_is_never_forwarded_and_no_miss(
    client_ip: str, forward_client_ip: bool, on_missing: Any
) -> None:
    options: dict[str, Any] = {"forward_client_ip": forward_client_ip, "on_missing_user_token": on_missing}

    assert send({}, who=Identity(client_ip=client_ip), **options).unchanged
    sent = send({}, who=Identity("u", client_ip=client_ip), **options)
    assert (sent.token, sent.addresses) == ("u", [])


def test_a_private_address_is_an_answer_so_the_config_is_not_asked() -> None:
    sent = send({}, who=Identity(client_ip="10.1.2.3"), config_headers=CONFIG)

    assert (sent.tokens, sent.addresses) == ([], [])


# -- Nobody --------------------------------------------------------------------------------------------------------

REPORTED = [
    (QUERY, {}),
    (QUERIES, {"requests": [{}]}),
    (FACET, {}),
    (RECOMMEND, {"requests": [{}]}),
    (RUN, {}),
    (RUN_FACET, {}),
]


@pytest.mark.parametrize(("path", "body"), REPORTED)
def test_search_for_nobody_known_is_reported(path: str, body: Any) -> None:
    assert send(body, path=path).unchanged
    assert send(body, path=path, on_missing_user_token="ignore").unchanged
    message = f"POST {path} has no user token: set one with identity_scope(), or search as Identity() for nobody"
    with pytest.raises(MissingUserTokenError) as caught:
        send(body, path=path, on_missing_user_token="raise")
    assert str(caught.value) == message
    with pytest.warns(MissingUserTokenWarning) as caught_warnings:
        sent = send(body, path=path, on_missing_user_token="warn")
    assert {str(warning.message) for warning in caught_warnings} == {message}
    assert sent.unchanged


@pytest.mark.parametrize("verb", [Verb.POST, "POST"])
def test_report_names_verb_and_path_but_nothing_that_was_asked_for(verb: Any) -> None:
    with pytest.raises(MissingUserTokenError, match=f"^POST {QUERY} has no user token"):
        send({}, verb=verb, path=f"{QUERY}?query=private", on_missing_user_token="raise")


def test_get_search_for_nobody_known_is_reported() -> None:
    with pytest.raises(MissingUserTokenError, match=r"^GET /1/indexes/products has no user token"):
        send(verb=Verb.GET, path="/1/indexes/products", on_missing_user_token="raise")


@pytest.mark.parametrize("on_missing", ["warn", "raise"])
@pytest.mark.parametrize(
    ("verb", "path"),
    [
        (Verb.POST, BROWSE),
        (Verb.GET, BROWSE),
        (Verb.POST, BATCH),
        (Verb.GET, "/1/indexes/products/task/7"),
        (Verb.PUT, "/1/indexes/products/settings"),
        (Verb.POST, "/1/events"),
    ],
)
def test_exports_writes_and_the_rest_are_never_reported(on_missing: Any, verb: Verb, path: str) -> None:
    assert send({}, verb=verb, path=path, on_missing_user_token=on_missing).unchanged


@pytest.mark.parametrize("on_missing", ["warn", "raise"])
@pytest.mark.parametrize(
    "known",
    [
        {"who": "u"},
        {"who": Identity()},
        {"who": Identity(opted_out=True)},
        {"who": Identity(client_ip=IP)},
        {"headers": CALL},
        {"config_headers": CONFIG},
        {"body": {"userToken": "u"}},
        {"body": {"params": "userToken=u"}},
        {"query_parameters": {"userToken": "u"}},
    ],
)
def test_any_answer_is_no_miss(on_missing: Any, known: dict[str, Any]) -> None:
    send(on_missing_user_token=on_missing, **known)


def test_multi_query_of_which_only_some_have_a_token_is_reported() -> None:
    body = {"requests": [{"userToken": "u"}, {}]}
    with pytest.raises(MissingUserTokenError):
        send(body, path=QUERIES, on_missing_user_token="raise")


@pytest.mark.usefixtures("_mutmut_is_no_caller")
async def test_warning_names_the_line_that_searches() -> None:
    config = SearchConfig("A", "k")
    sync_client = TokenAwareClientSync.create_with_config(
        config, EchoTransporterSync(config), on_missing_user_token="warn"
    )
    async_client = TokenAwareClient.create_with_config(config, EchoTransporter(config), on_missing_user_token="warn")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            first = line()
            sync_client.search_single_index_with_http_info("products")
            sync_client.with_identity(None).search_single_index_with_http_info("products")
            await async_client.search_single_index_with_http_info("products")

    assert [(warning.filename, warning.lineno - first) for warning in caught] == [(__file__, n) for n in (1, 2, 3)]


def line() -> int:
    return sys._getframe(1).f_lineno


def test_warning_can_be_made_an_error_and_ignored() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingUserTokenWarning)
        assert send({}, on_missing_user_token="warn").unchanged
        warnings.simplefilter("error", MissingUserTokenWarning)
        with pytest.raises(MissingUserTokenWarning):
            send({}, on_missing_user_token="warn")


def searches_of_many_indices(count: int) -> dict[Any, Any]:
    """What Python remembers after searches of that many indices, in three lines, of which two are of one kind."""
    client = TokenAwareClientSync(transporter=EchoTransporterSync(ECHOED), config=ECHOED, on_missing_user_token="warn")
    lines: dict[str, Any] = {"client": client, "count": count, "__name__": "an.application"}
    exec(
        """for number in range(count):
            client.search_single_index_with_http_info(f"tenant-{number}")
            client.search_single_index_with_http_info(f"other-{number}")
            client.search_for_facet_values_with_http_info(f"tenant-{number}", f"facet-{number}")""",
        lines,
    )
    return {key: value for key, value in lines["__warningregistry__"].items() if key != "version"}


ECHOED = SearchConfig("A", "k")


@pytest.mark.usefixtures("_mutmut_is_no_caller")
@pytest.mark.parametrize("action", ["default", "module", "once", "always"])
def test_warnings_do_not_pile_up_with_the_number_of_indices(action: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        few = len(searches_of_many_indices(2))
        many = len(searches_of_many_indices(200))

    assert few == many <= 5  # three lines, and with "module" the two kinds
    texts = [str(warning.message) for warning in caught]
    if action == "default":
        assert [text.split()[1] for text in texts[:3]] == [
            "/1/indexes/tenant-0/query",
            "/1/indexes/other-0/query",
            "/1/indexes/tenant-0/facets/facet-0/query",
        ]
        assert len(texts) == 6
    if action == "always":  # each names its own index
        assert len(set(texts)) == 600


@pytest.mark.usefixtures("_mutmut_is_no_caller")
def test_a_warning_can_be_filtered_by_its_text_compared_and_pickled() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", r"POST /1/indexes/tenant-1/query has no user token", MissingUserTokenWarning)
        searches_of_many_indices(2)
    (first, _, _, other, _) = [warning.message for warning in caught]

    assert str(pickle.loads(pickle.dumps(first))) == str(first)
    assert str(other).startswith("POST /1/indexes/other-1/query ")
    text = first.args[0]
    assert text == str(first)
    assert text != str(other)


@pytest.mark.usefixtures("_mutmut_is_no_caller")
def test_each_kind_of_search_in_one_line_is_reported_once() -> None:
    client = TokenAwareClientSync(transporter=EchoTransporterSync(ECHOED), config=ECHOED, on_missing_user_token="warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for index in ("a", "b"):
            client.search_single_index_with_http_info(index), client.search_for_facet_values_with_http_info(index, "f")

    assert [str(warning.message).split()[1] for warning in caught] == [
        "/1/indexes/a/query",
        "/1/indexes/a/facets/f/query",
    ]


# -- Streams -------------------------------------------------------------------------------------------------------


def test_the_user_of_a_stream_is_decided_when_it_is_opened() -> None:
    recorder = Recorder()
    transporter = TokenAwareTransporterSync(recorder, TokenProvider())
    with identity_scope("opened"):
        stream = transporter.request_stream(Verb.POST, "/1/agents/a/completions", options({}), True)
    with identity_scope("consumed"):
        assert list(stream) == ["event"]

    ((verb, path, sent, reading),) = recorder.calls
    assert (verb, path, reading) == (Verb.POST, "/1/agents/a/completions", True)
    assert sent.headers[HEADER] == "opened"


async def test_the_user_of_an_async_call_is_decided_when_it_is_made() -> None:
    recorder = AsyncRecorder()
    transporter = TokenAwareTransporter(recorder, TokenProvider())
    with identity_scope("made"):
        stream = transporter.request_stream(Verb.POST, "/1/agents/a/completions", options({}), False)
        pending = transporter.request(Verb.POST, QUERY, options({}), False)
    with identity_scope("awaited"):
        assert [event async for event in stream] == ["event"]
        assert await pending == "answer"

    assert [(*what, sent.headers[HEADER], reading) for *what, sent, reading in recorder.calls] == [
        (Verb.POST, "/1/agents/a/completions", "made", False),
        (Verb.POST, QUERY, "made", False),
    ]


@pytest.mark.parametrize("asks", [asyncio.iscoroutinefunction, inspect.iscoroutinefunction])
def test_requests_of_an_async_transporter_are_those_of_coroutine_functions(asks: Any) -> None:
    if asks is inspect.iscoroutinefunction and sys.version_info < (3, 12):
        pytest.skip("only a function that is `async def` is one, to this Python")
    transporter = TokenAwareTransporter(AsyncRecorder(), TokenProvider())
    sync_transporter = TokenAwareTransporterSync(Recorder(), TokenProvider())

    assert asks(transporter.request)
    assert asks(TokenAwareTransporter.request)
    assert asks(transporter.close)
    assert not asks(transporter.request_stream)
    assert not asks(sync_transporter.request)
    assert not asks(sync_transporter.close)


@pytest.mark.skipif(not hasattr(EchoTransporter, "request_stream"), reason="this algoliasearch has no streams")
async def test_streams_of_algoliasearch_carry_the_header() -> None:
    config = BaseConfig("APP", "key")
    from algoliasearch.http.hosts import Host, HostsCollection

    config.hosts = HostsCollection([Host("localhost")])
    with identity_scope("u"):
        events = TokenAwareTransporterSync(EchoTransporterSync(config), TokenProvider()).request_stream(
            Verb.POST, "/1/x", options({}), True
        )
        async_events = TokenAwareTransporter(EchoTransporter(config), TokenProvider()).request_stream(
            Verb.POST, "/1/x", options({}), True
        )
    for event in [*events, *[event async for event in async_events]]:
        assert json.loads(event.data)["headers"][HEADER] == "u"


# -- A secured key -------------------------------------------------------------------------------------------------

SIGNATURE = b"0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("key", "is_somebodys"),
    [
        (base64.b64encode(SIGNATURE + b"userToken=u").decode(), True),
        (base64.b64encode(SIGNATURE + b"filters=a%3Ab&userToken=u&validUntil=1").decode(), True),
        (base64.b64encode(SIGNATURE + b"filters=caf\xe9&userToken=u").decode(), True),
        (base64.b64encode(SIGNATURE + b"filters=userToken%3Du").decode(), False),
        (base64.b64encode(b"userToken=u").decode(), False),
        ("0123456789abcdef" * 2, False),
        ("0123456789abcdef" * 8, False),
        ("no base 64", False),
        ("cl\xe9", False),
        ("", False),
        (None, False),
    ],
)
def test_a_search_is_somebodys_with_a_key_that_is_bound_to_a_user_token(key: Any, is_somebodys: bool) -> None:
    sent = send({}, headers={"X-Algolia-API-Key": key}, config_headers={}, searches_without_user="no_analytics")

    assert sent.unchanged == is_somebodys


# -- What is sent on -----------------------------------------------------------------------------------------------


def test_options_handed_on_are_the_givens_but_for_headers_and_data() -> None:
    before = options({}, query_parameters={"a": "b"})
    before.added_next_year = "kept"  # type: ignore[attr-defined]
    recorder = Recorder()
    TokenAwareTransporterSync(recorder, TokenProvider("u")).request(Verb.POST, QUERY, before, False)
    after = recorder.calls[0][2]

    assert after is not before
    assert after.headers is not before.headers
    assert (after._config, after.data) == (before._config, before.data)
    assert after.added_next_year == "kept"  # type: ignore[attr-defined]
    for name in ("not_there", "__not_there__"):
        with pytest.raises(AttributeError, match=name):
            getattr(after, name)
    assert recorder.calls[0][3] is False


def test_options_handed_on_can_be_copied_pickled_and_changed_by_a_transporter() -> None:
    before = options({"query": "x"})
    recorder = Recorder()
    TokenAwareTransporterSync(recorder, TokenProvider("u")).request(Verb.POST, QUERY, before, True)
    after = recorder.calls[0][2]
    for again in (copy.copy(after), copy.deepcopy(after), pickle.loads(pickle.dumps(after))):
        assert (again.headers, again.data, again.timeouts) == (after.headers, after.data, after.timeouts)
    after.headers["content-encoding"] = "gzip"
    after.data = b"gzip"
    assert before.headers == {"x-algolia-api-key": "key"}
    assert before.data == '{"query": "x"}'


def test_bytes_are_sent_as_they_are() -> None:
    recorder = Recorder()
    TokenAwareTransporterSync(recorder, TokenProvider("u")).request(Verb.POST, QUERY, options(b"\x1f\x8b"), True)

    assert recorder.calls[0][2].data == b"\x1f\x8b"
    assert recorder.calls[0][2].headers[HEADER] == "u"


# -- Around any transporter ----------------------------------------------------------------------------------------


def test_transporters_of_ours_are_transporters_of_theirs() -> None:
    assert issubclass(TokenAwareTransporter, Transporter)
    assert issubclass(TokenAwareTransporterSync, TransporterSync)
    config = BaseConfig("APP", "key")
    assert TokenAwareTransporterSync(TransporterSync(config), TokenProvider()).config is config


def test_twice_does_not_pile_up_and_the_outer_one_decides() -> None:
    recorder = Recorder()
    once = TokenAwareTransporterSync(recorder, TokenProvider("inner"), on_missing_user_token="raise")
    twice = TokenAwareTransporterSync(once, TokenProvider("outer"), user_token_in="both")
    thrice = TokenAwareTransporterSync(twice, TokenProvider())
    twice.request(Verb.POST, QUERY, options({}), True)
    thrice.request(Verb.POST, QUERY, options({}), True)

    sent, bare = recorder.calls[0][2], recorder.calls[1][2]
    assert (sent.headers[HEADER], sent.data) == ("outer", '{"userToken": "outer"}')
    assert HEADER not in bare.headers
    assert vars(twice)["_transporter"] is vars(thrice)["_transporter"] is recorder


@pytest.mark.parametrize("transporter_class", [TokenAwareTransporter, TokenAwareTransporterSync])
def test_each_name_that_a_transporter_class_lists_can_be_read_from_it(transporter_class: type) -> None:
    assert [name for name in dir(transporter_class) if not hasattr(transporter_class, name)] == []


def test_what_a_custom_transporter_has_besides_can_be_reached() -> None:
    recorder = Recorder(config="its config")
    transporter = TokenAwareTransporterSync(recorder, TokenProvider())

    assert transporter.calls is recorder.calls
    assert transporter.config == "its config"
    with pytest.raises(AttributeError, match="not_there"):
        transporter.not_there  # noqa: B018


def test_a_transporter_with_slots_will_do_too() -> None:
    class Slotted:
        __slots__ = ("config", "region")

    transporter = TokenAwareTransporterSync(Slotted(), TokenProvider())  # type: ignore[arg-type]
    transporter.region = "eu"  # type: ignore[attr-defined]

    assert vars(transporter)["_transporter"].region == transporter.region == "eu"


async def test_close_closes_what_is_inside() -> None:
    recorder, async_recorder = Recorder(), AsyncRecorder()
    TokenAwareTransporterSync(recorder, TokenProvider()).close()
    await TokenAwareTransporter(async_recorder, TokenProvider()).close()

    assert (recorder.closed, async_recorder.closed) == (1, 1)


# -- What is set on it, patched and deleted ------------------------------------------------------------------------


class WithPing(TransporterSync):
    def ping(self) -> str:
        return "pong"


class AsyncWithPing(Transporter):
    def ping(self) -> str:
        return "pong"


@pytest.fixture(params=["async", "sync"])
def transporter(request: pytest.FixtureRequest) -> Any:
    """Ours, around one of algoliasearch's kind that has an attribute and a method of its own."""
    config = BaseConfig("APP", "key")
    transporter: Any
    if request.param == "async":
        transporter = TokenAwareTransporter(AsyncWithPing(config), TokenProvider())
    else:
        transporter = TokenAwareTransporterSync(WithPing(config), TokenProvider())
    vars(transporter)["_transporter"].of_my_own = 1
    return transporter


@pytest.mark.parametrize("name", ["_session", "_timeout", "_retry_strategy", "of_my_own"])
def test_an_attribute_set_patched_or_deleted_is_that_of_the_transporter_inside(transporter: Any, name: str) -> None:
    inside = vars(transporter)["_transporter"]
    before, value = vars(inside).copy(), object()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transporter, name, value)
        assert getattr(inside, name) is getattr(transporter, name) is value
    assert vars(inside) == before
    with mock.patch.object(transporter, name, value), mock.patch.object(transporter, name, None):
        assert getattr(inside, name) is getattr(transporter, name) is None
    assert vars(inside) == before
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(transporter, name)
        assert not hasattr(transporter, name)
        assert not hasattr(inside, name)
    assert vars(inside) == before
    for set_attribute in (setattr, object.__setattr__):
        set_attribute(transporter, name, value)
        assert vars(inside) == {**before, name: value}
    delattr(transporter, name)
    assert name not in vars(inside)
    with pytest.raises(AttributeError, match=name):
        delattr(transporter, name)


@pytest.mark.parametrize("name", ["get_proxy", "build_url", "prepare", "ping"])
def test_a_method_that_is_patched_is_that_of_the_transporter_inside(transporter: Any, name: str) -> None:
    inside = vars(transporter)["_transporter"]
    method = getattr(inside, name)
    before = vars(inside).copy()
    assert getattr(transporter, name) == method

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transporter, name, mock.sentinel.mine)
        assert getattr(inside, name) is getattr(transporter, name) is mock.sentinel.mine
    assert getattr(inside, name) == getattr(transporter, name) == method
    if pytest.version_tuple >= (9, 2):  # older ones leave the method in the instance
        assert vars(inside) == before
    with mock.patch.object(transporter, name) as mine:
        assert getattr(inside, name) is getattr(transporter, name) is mine
    assert getattr(inside, name) == getattr(transporter, name) == method


def test_an_attribute_that_was_not_there_is_set_inside_and_goes_again(transporter: Any) -> None:
    inside = vars(transporter)["_transporter"]
    with mock.patch.object(transporter, "new", 7, create=True):
        assert inside.new == transporter.new == 7
    assert not hasattr(inside, "new")


@pytest.mark.parametrize(
    "name", ["token_provider", "request", "request_stream", "close", "apply_identity", "_transporter"]
)
def test_an_attribute_of_our_transporter_is_set_on_it_and_put_back(transporter: Any, name: str) -> None:
    inside = vars(transporter)["_transporter"]
    before, before_inside = vars(transporter).copy(), vars(inside).copy()

    for undo in (pytest.MonkeyPatch.context, contextlib.ExitStack):
        with undo() as patch:
            if isinstance(patch, pytest.MonkeyPatch):
                patch.setattr(transporter, name, mock.sentinel.mine)
            else:
                patch.enter_context(mock.patch.object(transporter, name, mock.sentinel.mine))
            assert getattr(transporter, name) is mock.sentinel.mine
            assert vars(inside) == before_inside
        assert vars(transporter) == before


async def test_a_mock_of_an_async_request_is_async_and_of_a_sync_one_sync() -> None:
    config = SearchConfig("APP", "key")
    answer = ApiResponse(verb=Verb.POST, path=QUERY, status_code=200, data="{}", raw_data="{}")
    client = TokenAwareClient.create_with_config(config)
    sync_client = TokenAwareClientSync.create_with_config(config)

    for autospec in (None, True):
        with mock.patch.object(client._transporter, "request", autospec=autospec) as request:
            assert isinstance(request, mock.AsyncMock) or autospec
            request.return_value = answer
            assert await client.search_single_index_with_http_info("products") is answer
            assert await client.with_identity("u").search_single_index_with_http_info("products") is answer
            assert request.await_count == 2
            assert request.call_args.kwargs["request_options"].headers[HEADER] == "u"
        with mock.patch.object(sync_client._transporter, "request", autospec=autospec) as request:
            assert not isinstance(request, mock.AsyncMock)
            request.return_value = answer
            assert sync_client.search_single_index_with_http_info("products") is answer
            assert request.call_count == 1
    with mock.patch.object(client._transporter, "close") as close:
        assert isinstance(close, mock.AsyncMock)
        await client.close()
        close.assert_awaited_once()


@pytest.mark.parametrize("name", ["request", "request_stream"])
def test_a_mock_answers_a_view_and_gets_what_the_view_would_send(name: str) -> None:
    transporter = TokenAwareTransporterSync(Recorder(), TokenProvider())
    with mock.patch.object(transporter, name) as mine:
        view = TokenAwareTransporterSync(transporter, TokenProvider("u"), user_token_in="both")
        assert getattr(view, name)(Verb.POST, QUERY, options({}), False) is mine.return_value

    sent = mine.call_args.kwargs.pop("request_options")
    assert mine.call_args.kwargs == {"verb": Verb.POST, "path": QUERY, "use_read_transporter": False}
    assert (sent.headers[HEADER], sent.data) == ("u", '{"userToken": "u"}')


async def test_a_view_made_after_a_mock_is_undone_calls_as_itself() -> None:
    config = SearchConfig("APP", "key")
    client = TokenAwareClient(transporter=EchoTransporter(config), config=config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client._transporter, "request", mock.AsyncMock())
    before = client._transporter.request
    client._transporter.request = mock.AsyncMock()
    client._transporter.request = before  # as older versions of pytest put it back

    response = await client.with_identity("u").search_single_index_with_http_info("products")
    assert response.headers[HEADER] == "u"


def test_a_spy_on_request_calls_on() -> None:
    config = SearchConfig("APP", "key")
    client = TokenAwareClientSync(transporter=EchoTransporterSync(config), config=config, user_token="u")
    with mock.patch.object(client._transporter, "request", wraps=client._transporter.request) as spy:
        assert client.search_single_index_with_http_info("products").headers[HEADER] == "u"
    spy.assert_called_once()


async def test_a_mocked_session_lets_no_request_out() -> None:
    config = SearchConfig("APP", "key")
    client = TokenAwareClient.create_with_config(config, user_token="u")
    sync_client = TokenAwareClientSync.create_with_config(config, user_token="u")
    session = mock.MagicMock()
    session.request.side_effect = ConnectionError("mocked")
    with mock.patch.object(client._transporter, "_session", session), pytest.raises(ConnectionError, match="mocked"):
        await client.with_identity("u-1").search_single_index("products")
    assert session.request.call_args.kwargs["headers"][HEADER] == "u-1"

    sync_session = mock.MagicMock()
    sync_session.send.side_effect = ConnectionError("mocked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_client._transporter, "_session", sync_session)
        with pytest.raises(ConnectionError, match="mocked"):
            sync_client.with_identity("u-1").search_single_index("products")
    assert sync_session.prepare_request.call_args.args[0].headers[HEADER] == "u-1"
    assert client._transporter._session is sync_client._transporter._session is None


async def test_a_session_of_ones_own_is_used_and_closed_with_the_client(algolia: LocalAlgolia) -> None:
    session = requests.Session()
    session.headers["x-own"] = "sync"
    with TokenAwareClientSync.create_with_config(algolia.search_config()) as sync_client:
        sync_client._transporter._session = session
        sync_client.search_single_index("products")
        with mock.patch.object(sync_client._transporter, "_session", requests.Session()) as other:
            other.headers["x-own"] = "other"
            sync_client.search_single_index("products")
            other.close()
        sync_client.search_single_index("products")
    async with TokenAwareClient.create_with_config(algolia.search_config()) as client:
        await client.search_single_index("products")
        client._transporter._session = own = aiohttp.ClientSession(headers={"x-own": "async"})
        await client.search_single_index("products")
        await client.with_identity("u").search_single_index("products")
    assert own.closed
    async with client:
        await client.search_single_index("products")
    gc.collect()  # what was left open would warn

    assert [request.headers.get("x-own") for request in algolia.requests] == [
        "sync",
        "other",
        "sync",
        None,
        "async",
        "async",
        None,
    ]


async def test_a_search_goes_on_after_the_session_was_deleted(algolia: LocalAlgolia) -> None:
    async with TokenAwareClient.create_with_config(algolia.search_config()) as client:
        await client.search_single_index("products")
        del client._transporter._session
        assert not hasattr(client._transporter, "_session")
        await client.search_single_index("products")

    assert len(algolia.requests) == 2


async def test_what_is_set_while_algolia_is_mocked_is_there_afterwards(algolia: LocalAlgolia) -> None:
    session = requests.Session()
    session.headers["x-own"] = "1"
    with TokenAwareClientSync.create_with_config(algolia.search_config()) as client:
        with respx.mock(using="algolia") as router:
            router.route().respond(json={"hits": [], "query": "", "params": ""})
            client._transporter._session = session
            client.search_single_index("products")
            assert len(algolia.requests) == 0
        assert client._transporter._session is session
        client.search_single_index("products")

    assert [request.headers.get("x-own") for request in algolia.requests] == ["1"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_child_keeps_the_settings_of_a_session_of_ones_own(algolia: LocalAlgolia) -> None:
    done = run_program("programs/fork_with_a_session_of_ones_own.py", algolia.port, algolia.app_id, algolia.api_key)

    assert done.stderr == ""
    assert [search.query for search in algolia.searches] == ["parent", "child", "parent"]
    assert [request.headers.get("x-own") for request in algolia.requests] == ["1"] * 3


# -- Copies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_transporter_can_be_copied_and_pickled(again: Any) -> None:
    transporter = again(
        TokenAwareTransporterSync(
            Recorder(), TokenProvider("u"), user_token_in="both", on_missing_user_token="raise", forward_client_ip=True
        )
    )
    assert transporter.request(Verb.POST, QUERY, options({}), True) == "answer"
    assert transporter.calls[0][2].data == '{"userToken": "u"}'
    assert transporter.calls[0][2].headers[HEADER] == "u"


class CopiesItself:
    """Decides itself what a copy of it is."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self


def test_a_copy_is_ours_also_around_what_copies_itself() -> None:
    class Transporter(CopiesItself, Recorder): ...

    class Options(CopiesItself, RequestOptions): ...

    recorder = Transporter()
    transporter = copy.deepcopy(TokenAwareTransporterSync(recorder, TokenProvider("u")))
    transporter.request(Verb.POST, QUERY, Options(BaseConfig("APP", "key"), headers={}), True)

    assert type(transporter) is TokenAwareTransporterSync
    assert copy.deepcopy(recorder.calls[0][2]).headers == {HEADER: "u"}


def test_half_made_transporter_has_no_attributes() -> None:
    empty = TokenAwareTransporterSync.__new__(TokenAwareTransporterSync)
    with pytest.raises(AttributeError, match=r"^'TokenAwareTransporterSync' object has no attribute 'calls'$"):
        empty.calls  # noqa: B018


def test_errors_of_the_transporter_inside_reach_the_caller() -> None:
    class Failing(Recorder):
        def request(self, *_: Any, **__: Any) -> ApiResponse[str]:  # type: ignore[override]
            raise ConnectionError("down")

    with pytest.raises(ConnectionError, match="down"):
        TokenAwareTransporterSync(Failing(), TokenProvider()).request(Verb.POST, QUERY, options({}), True)


# -- Wrong arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transporter_class", [TokenAwareTransporter, TokenAwareTransporterSync])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"token_provider": "u"}, TypeError, "token_provider must be a TokenProvider, not str"),
        ({"token_provider": None}, TypeError, "token_provider must be a TokenProvider, not NoneType"),
        (
            {"user_token_in": "cookie"},
            ValueError,
            "user_token_in must be one of 'header', 'parameter', 'both', not another string, of 6 characters",
        ),
        (
            {"user_token_in": None},
            ValueError,
            "user_token_in must be one of 'header', 'parameter', 'both', not NoneType",
        ),
        ({"user_token_in": 7}, ValueError, "user_token_in must be one of 'header', 'parameter', 'both', not int"),
        (
            {"on_missing_user_token": "fail"},
            ValueError,
            "on_missing_user_token must be one of 'ignore', 'warn', 'raise', not another string, of 4 characters",
        ),
    ],
)
def test_wrong_arguments_of_a_transporter_are_named(
    transporter_class: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        transporter_class(**{"transporter": Recorder(), "token_provider": TokenProvider(), **arguments})

    assert str(caught.value) == message


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_forward_client_ip_is_a_bool(value: Any) -> None:
    with pytest.raises(TypeError, match=f"^forward_client_ip must be True or False, not {type(value).__name__}$"):
        TokenAwareTransporterSync(TransporterSync(BaseConfig("A", "k")), TokenProvider(), forward_client_ip=value)


def test_a_streamed_search_without_a_token_is_missed_like_any_other() -> None:
    transporter = TokenAwareTransporterSync(
        EchoTransporterSync(BaseConfig("A", "k")), TokenProvider(), on_missing_user_token="raise"
    )
    if not hasattr(EchoTransporterSync, "request_stream"):
        pytest.skip("this algoliasearch has no streams")
    options = RequestOptions(BaseConfig("A", "k"), headers={})

    with pytest.raises(MissingUserTokenError, match=r"^POST /1/indexes/i/query has no user token"):
        transporter.request_stream(Verb.POST, "/1/indexes/i/query", options, True)


# -- However a token is spelt ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "header"),
    [
        ("1/indexes/products/query", {"params": "query=x&user%54oken=ben"}, "ben"),
        ("1/indexes/products/query", {"params": "%75serToken=ben"}, "ben"),
        ("1/indexes/products/query", {"userToken": "ben", "params": "userToken=ben"}, "ben"),
        ("1/indexes/products/query", {"userToken": "", "params": "userToken=ben"}, "ben"),
        ("1/indexes/products/query", {"userToken": "", "params": "userToken="}, "ada"),
        ("1/indexes/products/query", {"params": "query=50%25&page=1"}, "ada"),
        ("1/indexes/products/query?user%54oken=ben", {"query": "x"}, "ben"),
        ("1/indexes/products/query?userToken=ben", {"userToken": "ben"}, "ben"),
        # One query names two: they leave as they are written, and no header does.
        ("1/indexes/products/query", {"userToken": "ben", "params": "user%54oken=eve"}, None),
        ("1/indexes/products/query", {"params": "userToken=ben&userToken=eve"}, None),
        ("1/indexes/products/query?userToken=eve", {"userToken": "ben"}, None),
    ],
)
@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
def test_a_token_is_a_token_however_it_is_spelt(path: str, body: Any, header: str | None, user_token_in: Any) -> None:
    config = SearchConfig("APP", "key")
    client = TokenAwareClientSync(transporter=EchoTransporterSync(config), config=config, user_token_in=user_token_in)
    with identity_scope("ada"):
        answer = client.custom_post_with_http_info(path, body=body)

    if header != "ada":  # the caller has named a user, and so nothing of the body changes
        assert json.loads(answer.data) == body
        if user_token_in == "parameter" and "?" not in path:
            header = None  # the body says it
    elif user_token_in == "parameter":
        header = None
    assert answer.headers.get("X-Algolia-UserToken") == header
