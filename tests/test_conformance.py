"""Every method of every client that algoliasearch ships sends what it always sent, and one header.

The clients and their methods are found in the installed algoliasearch, and the arguments are made from the signatures,
so that a new version's new methods are covered the day it is installed.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import pkgutil
import random
import typing
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import algoliasearch
import pytest
from algoliasearch.http.api_response import ApiResponse
from algoliasearch.http.transporter import Transporter
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.search.client import SearchClient, SearchClientSync

from algolia_usertoken import TokenAwareClient, TokenAwareClientSync, TokenProvider, make_token_aware

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning"),  # old methods are methods, too
    pytest.mark.oldest_versions,
    pytest.mark.adds_no_coverage,
    pytest.mark.slow,
]

HEADER, TOKEN = "X-Algolia-UserToken", "visitor-1"

# Methods that send nothing, and why. What is in none of them and sends nothing fails the test.
SEND_NOTHING = {
    "add_user_agent": "changes the config",
    "close": "closes connections",
    "create_temporary_name": "makes a name",
    "create_with_config": "makes a client; see test_clients.py",
    "forge_secured_user_token": "signs a token",
    "generate_secured_api_key": "signs a key",
    "get_secured_api_key_remaining_validity": "reads a key",
    "set_client_api_key": "changes the config",
    "set_transformation_options": "makes another client inside",
}

# Arguments that mean something to the client itself. All others are made from their types.
ARGUMENTS: dict[str, Any] = {
    "batch_size": 1,
    "max_retries": 5,
    "objects": [{"objectID": "1", "userToken": "a field of a record"}, {"objectID": "2"}],
    "operation": "add",
    "region": "us",
    "scopes": ["settings", "rules"],
}


class Sent(NamedTuple):
    """What a client gave its transporter."""

    verb: str
    path: str
    query_parameters: dict[str, Any]
    data: Any
    timeouts: dict[str, Any]
    use_read_transporter: bool
    stream: bool
    headers: list[tuple[str, Any]]  # in their order


class _Recorder:
    """Keeps each request and answers so that what polls or pages does it twice, and ends."""

    config: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sent: list[Sent] = []

    def keep(self, verb: str, path: str, options: Any, use_read_transporter: bool, *, stream: bool = False) -> None:
        # New versions number the calls of their helpers by chance: Request-ID.
        headers = [(name, "by chance" if name.lower() == "request-id" else options.headers[name])
                   for name in options.headers]  # fmt: skip
        values = (options.query_parameters, options.data, options.timeouts)
        self.sent.append(Sent(str(verb), path, *values, use_read_transporter, stream, headers))

    def answer(self, verb: str, path: str) -> ApiResponse[str]:
        times = sum(sent.path == path for sent in self.sent)
        date = "2026-01-01T00:00:00Z"
        hits = 1000 if times == 1 and path.endswith("/search") else 1  # a full page is followed by another
        answer = {
            "acl": [],
            "createdAt": date,
            "deletedAt": date,
            "eventID": "event",
            "events": [],
            "hits": [{"objectID": "1", "type": "synonym", "consequence": {}}] * hits,
            "nbHits": hits,
            "nbPages": 2,
            "objectIDs": ["1"],
            "page": times - 1,
            "pendingTask": False,
            "processingTimeMS": 1,
            "publishedAt": date,
            "query": "",
            "params": "",
            "runID": "run",
            "status": "published" if times > 1 else "notPublished",
            "taskID": 1,
            "updatedAt": date,
            "value": "key",
            "validity": 0,
        }
        if "/events/" in path:
            answer |= {"status": "created", "type": "fetch", "batchSize": 1, "data": {}}
        if "/keys/" in path:
            answer["createdAt"] = 1
        if path.endswith("/browse") and times == 1:
            answer["cursor"] = "more"
        data = json.dumps(answer)
        return ApiResponse(verb=verb, path=path, status_code=200, data=data, raw_data=data)


class RecorderSync(_Recorder, TransporterSync):
    def request(self, verb: Any, path: str, request_options: Any, use_read_transporter: bool) -> Any:
        self.keep(verb, path, request_options, use_read_transporter)
        return self.answer(verb, path)

    def request_stream(self, verb: Any, path: str, request_options: Any, use_read_transporter: bool) -> Any:
        self.keep(verb, path, request_options, use_read_transporter, stream=True)
        yield from ()


class Recorder(_Recorder, Transporter):
    async def request(self, verb: Any, path: str, request_options: Any, use_read_transporter: bool) -> Any:
        self.keep(verb, path, request_options, use_read_transporter)
        return self.answer(verb, path)

    async def request_stream(self, verb: Any, path: str, request_options: Any, use_read_transporter: bool) -> Any:
        self.keep(verb, path, request_options, use_read_transporter, stream=True)
        for nothing in ():
            yield nothing


def client_modules() -> Iterable[ModuleType]:
    for package in pkgutil.iter_modules(algoliasearch.__path__):
        if package.ispkg and package.name != "http":
            yield importlib.import_module(f"algoliasearch.{package.name}.client")


def client_classes() -> list[type]:
    return [
        value
        for module in client_modules()
        for name, value in vars(module).items()
        if name.endswith(("Client", "ClientSync")) and inspect.isclass(value) and value.__module__ == module.__name__
    ]


def public_methods(client_class: type) -> list[str]:
    return [name for name in dir(client_class) if not name.startswith("_") and callable(getattr(client_class, name))]


def config_of(client_class: type) -> Any:
    """A config of the client's own kind, which no other client shares."""
    config_class = typing.get_type_hints(client_class.create_with_config)["config"]  # type: ignore[attr-defined]
    region = {"region": "us"} if "region" in inspect.signature(config_class).parameters else {}
    config = config_class("app", "key", **region)
    if issubclass(client_class, SearchClient | SearchClientSync):
        config_module = importlib.import_module("algoliasearch.search.config")
        config.transformation_options = config_module.TransformationOptions("us")
    return config


def value_of(hint: Any) -> Any:
    """A value of a type: of a union, the first that can be made of enum, dict, the rest. Ellipsis is none."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)] or [hint]
    if typing.get_origin(hint) is list:
        item = value_of(kinds[0])
        return item if item is ... else [item, item]
    if typing.get_origin(hint) is dict:
        return {"name": "a value: ü & é"}
    if hint is str:
        return "a text/ü"
    if hint is bool:
        return True
    if hint is int:
        return 7
    if inspect.isclass(hint):
        return next(iter(hint)).value if issubclass(hint, enum.Enum) else ...
    if typing.get_origin(hint) is not typing.Union and type(hint).__name__ != "UnionType":
        return (lambda *_: None) if "Callable" in str(hint) else ...
    made = [value_of(kind) for kind in kinds if not (kind is str and len(kinds) > 1)]
    return next((value for value in made if value is not ...), ...)


def arguments_of(method: Callable[..., Any], everything: bool) -> dict[str, Any]:
    """Arguments for a method: what it needs, or all that it takes, request options included."""
    arguments: dict[str, Any] = {}
    hints = typing.get_type_hints(method)
    for name, parameter in inspect.signature(method).parameters.items():
        needed = parameter.default is parameter.empty
        if name == "request_options":
            value: Any = {
                "headers": {"X-Own": "own"},
                "query_parameters": {"own": "a b"},
                "timeouts": {"read": 11, "write": 12, "connect": 13},
            }
        else:
            value = ARGUMENTS[name] if name in ARGUMENTS else value_of(hints.get(name))
        if needed and value is ...:
            pytest.fail(f"no value for {name}: {hints.get(name)} of {method.__qualname__}", pytrace=False)
        if needed or (everything and value is not ...):
            arguments[name] = value
    return arguments


async def sent_by(client: Any, method_name: str, recorder: _Recorder, everything: bool) -> tuple[str, list[Sent]]:
    """The error of a call, if it ended with one, and what it sent."""
    recorder.sent = []
    random.seed(1)  # names of temporary indices
    error = ""
    method = getattr(client, method_name)
    try:
        result = method(**arguments_of(method, everything))
        if inspect.isawaitable(result):
            await result
        elif inspect.isasyncgen(result):
            _ = [event async for event in result]
        elif inspect.isgenerator(result):
            _ = list(result)
    except Exception as exception:  # the answers are made up: not all of them can be read
        error = f"{type(exception).__name__}: {exception}"
    return error, recorder.sent


@pytest.fixture
def recorder(client_class: type, monkeypatch: pytest.MonkeyPatch) -> _Recorder:
    """The transporter of both clients, and of what a search client pushes records with."""
    is_async = inspect.iscoroutinefunction(client_class.close)  # type: ignore[attr-defined]
    recorder: _Recorder = (Recorder if is_async else RecorderSync)(config_of(client_class))
    monkeypatch.setattr(f"algoliasearch.ingestion.client.{type(recorder).__bases__[1].__name__}", lambda _: recorder)
    return recorder


def clients(client_class: type, recorder: _Recorder) -> tuple[Any, Any]:
    """A plain client and a token-aware one."""
    plain = client_class(transporter=recorder, config=config_of(client_class))
    if issubclass(client_class, SearchClient):
        return plain, TokenAwareClient(transporter=recorder, config=config_of(client_class), user_token=TOKEN)
    if issubclass(client_class, SearchClientSync):
        return plain, TokenAwareClientSync(transporter=recorder, config=config_of(client_class), user_token=TOKEN)
    other = client_class(transporter=recorder, config=config_of(client_class))
    return plain, make_token_aware(other, TokenProvider(TOKEN))


@pytest.mark.parametrize("everything", [False, True], ids=["required arguments", "all arguments"])
@pytest.mark.parametrize("client_class", client_classes(), ids=lambda client_class: client_class.__name__)
async def test_each_method_sends_what_it_always_sent_and_one_header(
    client_class: type, everything: bool, recorder: _Recorder
) -> None:
    plain, aware = clients(client_class, recorder)
    methods = public_methods(client_class)
    covered = set()

    for name in methods:
        if name in SEND_NOTHING:
            continue
        plain_error, expected = await sent_by(plain, name, recorder, everything)
        error, sent = await sent_by(aware, name, recorder, everything)

        assert expected, f"{name} sent nothing: {plain_error}"
        assert error == plain_error, name
        assert sent == [one._replace(headers=[*one.headers, (HEADER, TOKEN)]) for one in expected], name
        if f"{name}_with_http_info" not in methods and not name.endswith("_with_http_info"):
            assert not error, f"the helper {name} did not end well"
        covered.add(name)

    assert len(covered) == len(methods) - len(SEND_NOTHING.keys() & set(methods))
    assert len(covered) >= 10


@pytest.mark.parametrize("client_class", client_classes(), ids=lambda client_class: client_class.__name__)
async def test_methods_that_are_not_tried_send_nothing(client_class: type, recorder: _Recorder) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "create_with_config": {"config": config_of(client_class), "transporter": recorder},
        "forge_secured_user_token": {"secret_key": "sk", "key_id": "id", "user_id": "user"},
        "set_transformation_options": {"transformation_options": getattr(recorder.config, "transformation_options", 0)},
    }
    left_out = [name for name in public_methods(client_class) if name in SEND_NOTHING]

    for client in clients(client_class, recorder):
        for name in left_out:
            method = getattr(client, name)
            try:
                result = method(**arguments.get(name) or arguments_of(method, everything=False))
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                assert name in ("get_secured_api_key_remaining_validity", "forge_secured_user_token"), error  # noqa: PT017

    assert left_out
    assert recorder.sent == []


def test_all_clients_of_algoliasearch_are_found() -> None:
    names = {client_class.__name__ for client_class in client_classes()}

    assert {"SearchClient", "RecommendClientSync", "CompositionClient", "InsightsClientSync"} <= names
    assert {name.removesuffix("Sync") for name in names} == {name for name in names if not name.endswith("Sync")}
    assert sum(len(public_methods(client_class)) for client_class in client_classes()) > 1000


def test_helpers_are_covered_to_their_end() -> None:
    """What the comparison above rests on: pages and polls go on after the first request."""
    recorder = RecorderSync(config_of(SearchClientSync))
    client = SearchClientSync(transporter=recorder, config=config_of(SearchClientSync))
    client.browse_objects("products", aggregator=lambda _: None)
    client.browse_rules("products", aggregator=lambda _: None)
    client.browse_synonyms("products", aggregator=lambda _: None)
    client.wait_for_task("products", 1)

    paths = [sent.path.removeprefix("/1/indexes/products/") for sent in recorder.sent]
    assert paths == [path for path in ("browse", "rules/search", "synonyms/search", "task/1") for _ in range(2)]
