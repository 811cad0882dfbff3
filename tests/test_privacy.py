"""Nothing personal in a log: what is refused, or raised by the application's own functions, is quoted nowhere.

Values that are nobody's business (an e-mail address above all) go through every public door, as every kind of value.
Then nothing that was logged, warned of or printed may hold one, nor any exception, in whatever attribute or link.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import enum
import inspect
import io
import json
import logging
import traceback
import typing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import probe_django  # sets Django up
import pytest
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.http.transporter import EchoTransporter
from algoliasearch.http.transporter_sync import EchoTransporterSync
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.search.config import SearchConfig
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from flask import Flask

import algolia_usertoken as ours
from algolia_usertoken import browser, errors
from algolia_usertoken.cli import main
from algolia_usertoken.integrations import asgi, celery, flask, wsgi
from algolia_usertoken.integrations.django import IdentityMiddleware
from algolia_usertoken.integrations.django.checks import check_middleware, check_settings
from algolia_usertoken.integrations.relay import EventsRelay
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

SECRETS = {
    "e-mail": "jane.doe@example.com",
    "IPv4": "203.0.113.77",
    "IPv6": "2001:db8:85a3::8a2e:370:7334",
    "cookie": "anonymous-5c3f8f2e.8a1d-4f6b",
}


class Speaks:
    """An object that says the secret whatever it is asked."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __str__(self) -> str:
        return self.secret

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return self.secret


class Text(str):
    __slots__ = ()


SHAPES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "subclass of str": Text,
    "enum": lambda secret: enum.Enum("Enum", {"MEMBER": secret}, type=str).MEMBER,
    "text around it": lambda secret: f"user {secret}\n",
    "bytes": str.encode,
    "list": lambda secret: [secret],
    "tuple": lambda secret: (secret, 1),
    "key": lambda secret: {secret: 1},
    "value": lambda secret: {"userToken": secret},
    "nested": lambda secret: [{"objectIDs": [{"a": (secret,)}]}],
    "object": Speaks,
    "exception": ValueError,
    "JSON": lambda secret: f'{{"hits": "{secret}"',
}


VALUES = [shape(SECRETS["e-mail"]) for shape in SHAPES.values()] + list(SECRETS.values())[1:]
# Each secret and its greater parts, however it is written.
FORMS = {
    form.lower()
    for secret in SECRETS.values()
    for form in (secret, secret.rpartition("@")[0] or secret, quote(secret, safe=""), secret[:16], secret[4:])
}


def texts_of(error: BaseException | None, seen: set[int] | None = None) -> Iterator[str]:
    """All that an exception says, and those that it is chained to, for whoever looks."""
    seen = set() if seen is None else seen
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error))
    for linked in (error.__cause__, error.__context__):
        yield from texts_of(linked, seen)


class Watch(logging.Handler):
    """Gathers what is logged, with its tracebacks, warned of, and raised."""

    def __init__(self) -> None:
        super().__init__(level=1)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))
        self.texts += texts_of(record.exc_info[1] if record.exc_info else None)

    def on_error(self, error: Exception, events: Any) -> None:
        self.texts += texts_of(error)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
            return asyncio.run(result) if inspect.iscoroutine(result) else result
        except Exception as error:
            self.texts += texts_of(error)
            return None


@pytest.fixture
def watch(capfd: pytest.CaptureFixture[str]) -> Iterator[Watch]:
    """At the end, nothing that was said may hold one of the secrets."""
    watch = Watch()
    every = [logging.getLogger(name) for name in (*logging.root.manager.loggerDict, None)]
    levels = {logger: logger.level for logger in every}
    logging.root.addHandler(watch)
    for logger in every:
        if logger.name.startswith("algolia") or logger is logging.root:
            logger.setLevel(1)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield watch
    finally:
        logging.root.removeHandler(watch)
        for logger, level in levels.items():
            logger.setLevel(level)
    watch.texts += [*map(str, warned), *capfd.readouterr()]
    for text in watch.texts:
        assert not any(form in text.lower() for form in FORMS), text


def doors_of(name: str, table: Any) -> Any:
    """Parametrizes a test with the rows of a table, which also are the names of its cases."""
    rows = [pytest.param(row, id=row) for row in table]
    return pytest.mark.parametrize(name, rows)


# -- Every callable of the package, every parameter -------------------------------------------------------------------


EVENT = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": ["1"]}
SEARCH = ("POST", "/1/indexes/products/query")


def search_config() -> SearchConfig:
    return SearchConfig("APP", "key")


# A good value of each parameter that must be given, to go with a bad one of another.
GOOD: dict[str, Callable[[], Any]] = {
    "batch": lambda: ours.Batch([], b""),
    "config": search_config,
    "client": lambda: ours.TokenAwareClientSync("APP", "key", EchoTransporterSync(search_config())),
    "event": lambda: EVENT,
    "event_name": lambda: "Seen",
    "filters": lambda: ["brand:Larkfoot"],
    "function": lambda: print,
    "identity": lambda: None,
    "mapping": dict,
    "index_name": lambda: "products",
    "insights_events": lambda: {"events": [EVENT]},
    "object_data": lambda: [{"price": 1}],
    "object_id": lambda: "1",
    "object_ids": lambda: ["1"],
    "options": lambda: ours.TokenAwareClientSync("APP", "key")._transporter.config,
    "parent_api_key": lambda: "key",
    "path": lambda: "unused",
    "positions": lambda: [1],
    "query_id": lambda: "0" * 32,
    "references": list,
    "restrictions": dict,
    "results": lambda: {"index": "products", "hits": []},
    "secret": lambda: "a secret",
    "signum": lambda: 0,
    "text": lambda: "1" * 60,
    "timeout": lambda: 0.0,
    "token": lambda: "u-1",
    "token_provider": lambda: ours.TokenProvider("u-1"),
    "transporter": lambda: EchoTransporterSync(search_config()),
    "user_id": lambda: "7",
    "value": lambda: "u-1",
}
NO_DOORS = {"Batch", "Delivery", "EventOptions", "EventStats", *(name for name in dir(errors) if name in ours.__all__)}
# Not ours: what algoliasearch does with it. And what waits, or ends the test.
NOT_CALLED = {"close_on_signal", "hang", "release", "set_client_api_key", "set_transformation_options"}


def made(kind: type, watch: Watch, tmp_path: Path) -> Iterator[Any]:
    """Objects whose methods are doors."""
    if kind is ours.EventSender:
        for strict in (False, True):
            options: dict[str, Any] = {"user_token": "u-1", "background": False, "strict": strict}
            yield kind(delivery=ours.MemoryDelivery(), on_error=watch.on_error, **options)
        yield kind(delivery=ours.MemoryDelivery(), background=False, on_error=watch.on_error)  # nobody's
    elif kind in (ours.TokenAwareClient, ours.TokenAwareInsightsClient):
        yield kind("APP", "key", transporter=EchoTransporter(search_config()), user_token="u-1")
    elif kind in (ours.TokenAwareClientSync, ours.TokenAwareInsightsClientSync):
        yield kind("APP", "key", transporter=EchoTransporterSync(search_config()), user_token="u-1")
    elif kind is ours.HitReference:
        yield kind(None, "products", "1", user_token="u-1")
    elif kind is ours.QueryMemory:
        yield kind({})
    elif kind is ours.DeadLetters:
        yield kind(tmp_path / "letters.ndjson")
    elif kind in (ours.TokenProvider, ours.MemoryDelivery):
        yield kind()
    elif kind is ours.SQLiteOutbox:
        yield kind(tmp_path / "outbox.db")


def values_for(name: str) -> list[Any]:
    """The names of events and indices may be quoted, where they are valid and no e-mail addresses, and so may paths."""
    if name in ("path", "request_options"):  # the latter is algoliasearch's
        return []
    if name in ("event_name", "index_name", "eventName", "index"):
        return [shape(SECRETS["e-mail"]) for shape in SHAPES.values()]
    return VALUES


def doors() -> Iterator[str]:
    """ "name(parameter" of each function and class, "Class.name(parameter" of each method."""
    for name in ours.__all__:
        thing = getattr(ours, name)
        if name in NO_DOORS or not callable(thing) or typing.is_typeddict(thing):
            continue
        yield from (f"{name}({parameter}" for parameter in inspect.signature(thing).parameters)
        for method in dir(thing) if inspect.isclass(thing) else ():
            function = getattr(thing, method)
            if method.startswith("_") or method in NOT_CALLED or not callable(function):
                continue
            if not str(getattr(function, "__module__", "")).startswith("algolia_usertoken"):
                continue
            parameters = list(inspect.signature(function).parameters)
            yield from (f"{name}.{method}({parameter}" for parameter in parameters if parameter != "self")


@pytest.mark.slow
@doors_of("door", sorted(set(doors())))
def test_no_parameter_of_a_public_function_is_quoted(
    door: str, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    called, _, bad = door.partition("(")
    name, _, method = called.partition(".")
    for value in values_for(bad):
        thing = getattr(ours, name)
        for function in [getattr(one, method) for one in made(thing, watch, tmp_path)] if method else [thing]:
            parameters = inspect.signature(function).parameters.values()
            positional: list[Any] = []
            named: dict[str, Any] = {}
            for parameter in parameters:
                if parameter.kind is parameter.VAR_POSITIONAL:
                    positional += [value] if parameter.name == bad else []
                elif parameter.name == bad or parameter.default is parameter.empty:
                    given = value if parameter.name == bad else GOOD[parameter.name]()
                    if parameter.kind is parameter.KEYWORD_ONLY:
                        named[parameter.name] = given
                    else:
                        positional.append(given)
                elif parameter.kind is not parameter.KEYWORD_ONLY and bad in [one.name for one in parameters]:
                    positional.append(parameter.default)
            result = watch.call(function, *positional, **named)
            if isinstance(result, ours.EventSender):
                watch.call(result.close)


# -- Fields of an event, whatever way it takes ------------------------------------------------------------------------

FIELDS = (
    *("eventType", "eventName", "eventSubtype", "index", "objectIDs", "filters", "positions", "queryID", "objectData"),
    *("value", "currency", "timestamp", "userToken", "authenticatedUserToken", "algoliaSource", "colour"),
)
OF_PURCHASE = {**EVENT, "eventType": "conversion", "eventSubtype": "purchase"}


def altered(field: str, value: Any) -> Iterator[Any]:
    if isinstance(value, collections.abc.Hashable):
        yield {**EVENT, value: 1}
        yield {**OF_PURCHASE, "objectData": [{value: 1}]}
    yield value
    yield {**EVENT, field: value}
    yield {**OF_PURCHASE, field: value}
    yield {**OF_PURCHASE, "objectData": [{field: value}]}
    yield {**EVENT, "objectIDs": ["1", value]}
    yield {**EVENT, "objectIDs": None, "filters": ["brand:Larkfoot", value]}
    yield {**EVENT, "eventType": "instantsearch", field: value}


@pytest.mark.slow
@doors_of("field", FIELDS)
def test_no_field_of_an_event_is_quoted(field: str, watch: Watch, tmp_path: Path) -> None:
    for kind in (ours.EventSender, ours.TokenAwareInsightsClientSync):
        for sends in made(kind, watch, tmp_path):
            for value in values_for(field):
                for event in altered(field, value):
                    if isinstance(sends, ours.EventSender):
                        watch.call(sends.send, event)
                    else:
                        watch.call(sends.push_events, {"events": [event]})
            watch.call(sends.close)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("outbox", [False, True])
def test_an_event_that_has_no_json_form_is_not_quoted(secret: str, outbox: bool, watch: Watch, tmp_path: Path) -> None:
    value = SECRETS[secret]
    in_file = ours.SQLiteOutbox(tmp_path / "outbox.db") if outbox else None
    delivery = ours.MemoryDelivery()
    sender = ours.EventSender(
        delivery=delivery, outbox=in_file, user_token="u", background=False, on_error=watch.on_error
    )
    for bad in (Speaks(value), {Speaks(value): 1}, f"{value}\ud800", {value}, {(value, 1): 1}, float("nan")):
        data: dict[str, Any] = {"price": "1"}
        event = {**OF_PURCHASE, "objectIDs": [value], "objectData": [data], "algoliaSource": [value]}
        watch.call(sender.send, {**event, "objectIDs": [value if isinstance(bad, (Speaks, set)) else str(bad)]})
        watch.call(sender.send, {**event, "objectIDs": ["1"], "colour": bad})
        watch.call(sender.flush)
    watch.call(sender.close)

    assert sender.stats.refused + sender.stats.rejected >= 6


# -- What others say: Algolia, a delivery, the application's functions ------------------------------------------------

SAYINGS = (
    "userToken '{}' is invalid",
    'The value "{}" is not valid for objectIDs',
    "objectIDs: {} is unknown",
    "objectIDs: {}",
    '{{"objectIDs":["{}"]}} is bad',
    "cut off: '{:.14}",
    "quoted {quoted}",
)


def sayings(secret: str) -> list[str]:
    return [saying.format(secret, quoted=quote(secret, safe="")) for saying in SAYINGS]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429, 503])
def test_what_algolia_says_of_an_event_is_not_quoted(
    secret: str, status: int, watch: Watch, algolia: LocalAlgolia
) -> None:
    value = SECRETS[secret]
    for saying in sayings(value):
        algolia.fail_next(status, body={"message": saying, "status": status})
        options: dict[str, Any] = {"user_token": "u", "background": False, "max_retry_time": 0}
        sender = ours.EventSender(config=algolia.insights_config(), on_error=watch.on_error, **options)
        assert sender.send({**EVENT, "objectIDs": [value]})
        sender.close()
        assert sender.stats.failed + sender.stats.rejected == 1

    assert any(str(status) in text for text in watch.texts)


@pytest.mark.parametrize("secret", ["e-mail", "cookie"])
def test_a_request_that_cannot_be_made_is_not_quoted(secret: str, watch: Watch) -> None:
    for headers in ({"X-Note": f"{SECRETS[secret]}\n"}, {"X-Note": f"{SECRETS[secret]}\u2028"}, {"X-Note": "fine"}):
        config = InsightsConfig("APP", "key")
        config.hosts = HostsCollection([Host("127.0.0.1", scheme="http", port=1)])
        config.headers.update(headers)
        sender = ours.EventSender(
            config=config, user_token="u", background=False, on_error=watch.on_error, max_retry_time=0
        )
        sender.send({**EVENT, "objectIDs": [SECRETS[secret]]})
        sender.close()
        assert sender.stats.failed == 1


ERRORS = (
    *(ours.BatchRejectedError, ours.DeliveryError, ours.RetryableDeliveryError, ours.UnauthorizedDeliveryError),
    *(OSError, ValueError, KeyError),
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("error", ERRORS)
def test_what_a_delivery_of_the_applications_own_says_is_not_quoted(
    secret: str, error: type[Exception], watch: Watch
) -> None:
    """Its exception is the application's own, and `on_error` gets it as it is; the log must not quote it."""
    for saying in sayings(SECRETS[secret]):
        delivery = ours.MemoryDelivery()
        delivery.fail_next(error(saying), times=2)
        sender = ours.EventSender(delivery=delivery, user_token="u", background=False, max_retry_time=0)
        assert sender.send({**EVENT, "objectIDs": [SECRETS[secret]]})
        sender.close()
        assert sender.stats.failed + sender.stats.rejected == 1


@pytest.mark.parametrize("secret", SECRETS)
def test_what_functions_of_the_application_raise_is_not_quoted(secret: str, watch: Watch) -> None:
    def fails(*_: Any) -> Any:
        try:
            raise LookupError(SECRETS[secret])
        except LookupError as error:
            raise KeyError(SECRETS[secret]) from error

    def fails_too(error: Exception, events: Any) -> None:
        watch.on_error(error, events)
        fails()

    for strict in (False, True):
        provider = ours.TokenProvider(resolve=fails)
        with ours.EventSender(
            delivery=ours.MemoryDelivery(), token_provider=provider, on_error=fails_too, strict=strict
        ) as sender:
            watch.call(sender.send, EVENT)
            watch.call(sender.viewed_object_ids, "Seen", "products", ["1"])
            watch.call(sender.clicked, "Clicked", ours.HitReference(None, "products", "1"))
            assert strict or sender.stats.refused == 3

    assert any("resolve() raised KeyError in test_privacy.py, line " in text for text in watch.texts)
    assert any("on_error raised KeyError" in text and "in fails" in text for text in watch.texts)


def test_what_resolve_returns_and_a_call_says_is_not_quoted(watch: Watch) -> None:
    for value in VALUES:
        provider = ours.TokenProvider(resolve=lambda value=value: value)
        watch.call(provider.identity)
        transporter = EchoTransporterSync(search_config())
        client = ours.TokenAwareClientSync("APP", "key", transporter, token_provider=provider)
        watch.call(client.search_single_index, "products", {"query": "x"})
        for header in ("X-Algolia-UserToken", "x-algolia-usertoken"):
            watch.call(client.search_single_index, "products", {"query": "x"}, {"headers": {header: value}})
        watch.call(client.insights.push_events, {"events": [EVENT]})
        options: dict[str, Any] = {"token_provider": provider, "background": False, "on_error": watch.on_error}
        sender = ours.EventSender(delivery=ours.MemoryDelivery(), **options)
        watch.call(sender.send, EVENT)
        watch.call(sender.close)


# -- The page, the task queue, the command line -----------------------------------------------------------------------


def test_settings_and_script_for_the_page_quote_nothing(watch: Watch) -> None:
    for value in VALUES:
        for function in (browser.settings, browser.script):
            watch.call(function, value)
            watch.call(function, host=value)


def relays(watch: Watch) -> Iterator[EventsRelay]:
    for strict in (False, True):
        options: dict[str, Any] = {"background": False, "strict": strict, "on_error": watch.on_error}
        with ours.EventSender(delivery=ours.MemoryDelivery(), **options) as events:
            yield EventsRelay(events)


@pytest.mark.slow
@doors_of("field", (*FIELDS, "events"))
def test_what_a_page_sends_to_the_relay_is_not_quoted(field: str, watch: Watch) -> None:
    for taken in relays(watch):
        for value in values_for(field):
            with contextlib.suppress(TypeError, ValueError):  # what is no JSON no page can send
                for event in altered(field, value):
                    body = json.dumps({"events": [event], field: value}).encode()
                    for whose in (None, "u-1"):
                        with ours.identity_scope(whose):
                            answer = taken.handle(body, origin="https://shop", host="shop")
                        assert answer.status in (200, 422)
                        watch.texts.append(answer.message)  # the page may log it


@doors_of("place", ("body", "origin", "host", "fetch_site"))
def test_the_headers_of_a_request_to_the_relay_are_not_quoted(place: str, watch: Watch) -> None:
    for taken in relays(watch):
        for value in VALUES:
            asked = {"body": b"{}", "origin": "https://shop", "host": "shop", "fetch_site": None, place: value}
            answer = watch.call(taken.handle, **asked)
            watch.texts.append(str(answer))


@doors_of("option", ("events", "origins", "max_bytes"))
def test_the_arguments_of_a_relay_are_not_quoted(option: str, watch: Watch) -> None:
    for taken in relays(watch):
        for value in VALUES:
            for given in (value, [value], [f"https://{value}", "x"]) if option == "origins" else (value,):
                watch.call(EventsRelay, **{"events": taken._events, option: given})
            for adapter in (taken.asgi, taken.wsgi, taken.flask, taken.aiohttp):
                watch.call(adapter, value)


def test_celery_s_integration_quotes_nothing(watch: Watch) -> None:
    for value in VALUES:
        fields = ("user_token", "authenticated_user_token", "client_ip", "opted_out", "name")
        for header in (value, *({field: value} for field in fields)):
            watch.call(celery._as_identity, header)
        for function in (celery.install, celery.uninstall, celery.CeleryDelivery):
            watch.call(function, value)


COMMANDS = (
    "{}",
    "token {}",
    "token anonymous {}",
    "token anonymous --user={}",
    "token validate {} u-1 {}",
    "token validate u-1 {}x --{}",
    "token pseudonymous {}",
    "token pseudonymous 7 {}",
    "token pseudonymous 7 --prefix {} --secret-file {file}",
    "token pseudonymous {} --prefix {} --secret-file {file}",
    "token pseudonymous 7 --secret-file {}",
    "check --region {}",
    "check --host {}@127.0.0.1:1",
    "check --host http://127.0.0.1/{}",
    "check --json={}",
    "check {} --index products",
    "check --app-id {} --api-key k --index products",
    "check --app-id APP --api-key {}\n --index products",
    "check --app-id APP --api-key k --index products",
    "send --region {} {file}",
    "send --dry-run --index {} {file}",
    "send --app-id {} --api-key k {file}",
    "send --dry-run={} {file}",
    "erase --region {} u-1",
    "erase {} --host 127.0.0.1:9 --outbox {file} --dead-letters {file}",
    "erase u-1 {} --host 127.0.0.1:9",
    "serve --port {}",
    "serve {}",
    "demo {}",
)


@doors_of("command", COMMANDS)
def test_the_command_line_quotes_no_secret(
    command: str, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("a secret")
    for secret in SECRETS.values():
        monkeypatch.setenv("ALGOLIA_REGION", secret)
        value = f"{secret} " if "validate" in command else secret
        with contextlib.suppress(SystemExit):
            main([part.replace("{file}", str(file)).replace("{}", value) for part in command.split(" ")])


def test_lines_of_the_input_are_not_quoted(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("u-1\n" + "\n".join(SECRETS.values())))

    assert main(["token", "validate", "-"]) == 1


@pytest.mark.parametrize("dry_run", [True, False])
def test_no_value_of_a_file_of_events_is_quoted(dry_run: bool, watch: Watch, tmp_path: Path) -> None:
    lines: list[str] = []
    for value in VALUES:
        for field in FIELDS:
            for event in altered(field, value if field not in ("eventName", "index") else SECRETS["e-mail"]):
                with contextlib.suppress(TypeError, ValueError):
                    lines += [json.dumps(event), json.dumps({"time": value, "reason": value, "event": event})]
                    lines.append(lines[-1][:-1])
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join([*lines, *SECRETS.values()]), encoding="utf-8")
    with LocalAlgolia() as algolia:
        assert main(["send", str(file), "--host", f"127.0.0.1:{algolia.port}", *["--dry-run"][:dry_run]]) == 1


@pytest.mark.parametrize("kind", ["directory", "file", "missing"])
def test_dead_letters_that_can_or_can_not_be_written(kind: str, watch: Watch, tmp_path: Path) -> None:
    path = tmp_path / "failed.ndjson"
    if kind == "directory":
        path.mkdir()
    letters = ours.DeadLetters(path / "there" if kind == "missing" else path, max_bytes=10_000)
    for value in VALUES:
        for event in altered("userToken", value):
            letters(errors.InvalidEventError("no"), [event])
            letters(LookupError(value), [event, {**EVENT, "objectIDs": [str(value) * 1000]}])


# -- The middlewares --------------------------------------------------------------------------------------------------

FUNCTIONS = ("authenticated_user_token", "set_cookie", "opted_out")
# What each web integration is given: by a visitor, by the application's functions, by who sets it up.
PLACES = (
    *("cookie sent", "header sent", "address"),
    *(f"{function} {what}" for function in FUNCTIONS for what in ("returns", "raises")),
    *(f"option {name}" for name in (*FUNCTIONS, "cookie", "header", "client_ip")),
)


def options_for(place: str, value: Any) -> dict[str, Any]:
    name, _, what = place.partition(" ")
    options: dict[str, Any] = {"header": "X-User", "client_ip": True}
    if what == "returns":
        options[name] = lambda request: value
    elif what == "raises":

        def fails(request: Any) -> Any:
            try:
                raise LookupError(value)
            except LookupError as error:
                raise KeyError(value) from error

        options[name] = fails
    elif name == "option":
        options[what] = value
    return options


def sent(place: str, secret: str) -> tuple[str, str, str]:
    """Cookie, header and address of the visitor."""
    cookie = f"_ALGOLIA={secret}" if place == "cookie sent" else "theme=dark"
    return cookie, secret if place == "header sent" else "", secret if place == "address" else "203.0.113.5"


def visit_asgi(place: str, secret: str, options: dict[str, Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request"}

    cookie, header, address = sent(place, secret)
    headers = [(b"cookie", cookie.encode()), (b"x-user", header.encode())]
    scope = {"type": "http", "headers": headers, "client": (f"{address}x", 1), "scheme": "https", "path": "/"}
    asyncio.run(asgi.IdentityMiddleware(app, **options)(scope, nothing, nothing))


def visit_wsgi(place: str, secret: str, options: dict[str, Any]) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    cookie, header, address = sent(place, secret)
    environ = {"HTTP_COOKIE": cookie, "HTTP_X_USER": header, "REMOTE_ADDR": f"{address}x", "wsgi.url_scheme": "https"}
    wsgi.IdentityMiddleware(app, **options)(environ, lambda *_: lambda _: None)


def visit_flask(place: str, secret: str, options: dict[str, Any]) -> None:
    app = Flask("privacy")
    app.add_url_rule("/", view_func=lambda: "page")
    flask.init_app(app, **options)
    cookie, header, address = sent(place, secret)
    environ = {"REMOTE_ADDR": f"{address}x", "HTTP_COOKIE": cookie, "HTTP_X_USER": header}
    assert app.test_client(use_cookies=False).get("/", environ_base=environ).text == "page"


def visit_django(place: str, secret: str, options: dict[str, Any]) -> None:
    settings = {name.upper(): value for name, value in options.items()}
    if place.startswith("option"):
        settings[secret] = 1
    cookie, header, address = sent(place, secret)
    for given in (settings, {name: value for name, value in settings.items() if name != secret}, options.get("cookie")):
        with override_settings(ALGOLIA_USERTOKEN=given):
            for problem in [*check_settings(), *check_middleware()]:  # which Django prints
                logging.warning("%s %s", problem.msg, problem.hint)
            request = RequestFactory().get("/", HTTP_COOKIE=cookie, HTTP_X_USER=header, REMOTE_ADDR=f"{address}x")
            with contextlib.suppress(AttributeError):
                IdentityMiddleware(lambda request: HttpResponse("page"))(request)


VISITS = {"asgi": visit_asgi, "wsgi": visit_wsgi, "flask": visit_flask, "django": visit_django}


@pytest.mark.slow
@doors_of("door", [f"{visit} {place}" for visit in VISITS for place in PLACES])
def test_the_middlewares_quote_nothing_of_a_request(door: str, watch: Watch) -> None:
    visit, _, place = door.partition(" ")
    for secret in SECRETS.values():
        for shape in SHAPES.values() if " sent" not in place and place != "address" else [str]:
            watch.call(VISITS[visit], place, secret, options_for(place, shape(secret)))


def test_django_is_set_up_for_these_tests() -> None:
    assert probe_django.settings.configured
