"""Who wins, in any nesting: a model of the rules, and what clients really send."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import pytest
from algoliasearch.http.transporter import EchoTransporter
from algoliasearch.http.transporter_sync import EchoTransporterSync
from algoliasearch.search.config import SearchConfig
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from algolia_usertoken import (
    Identity,
    TokenAwareClient,
    TokenAwareClientSync,
    TokenProvider,
    bind,
    current_identity,
    identity_scope,
    set_authenticated_user_token,
    set_user_token,
)
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

HEADER = "X-Algolia-UserToken"
FORWARDED_FOR = "X-Forwarded-For"

fewer = settings(max_examples=max(1, settings().max_examples // 4))

# Few, so that the same one often comes from two sides.
tokens = st.sampled_from(["a", "b", "c", "d/+="])
addresses = st.sampled_from(["203.0.113.7", "2001:db8::7"])
identities = st.builds(
    Identity,
    st.none() | tokens,
    st.none() | tokens.map("login-".__add__).map(lambda token: token[:7]),
    st.none() | addresses,
    st.sampled_from([False, False, False, True]),
)
answers = st.one_of(st.none(), st.just(Identity()), tokens, identities)


# -- The rules -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Who says what, beside the call itself."""

    views: tuple[Any, ...] = ()  # the innermost is the last
    context: Identity | None = None
    resolve: Any = None
    default: Any = None
    config: str | None = None
    user_token_in: Any = "header"
    forward_client_ip: bool = False


@dataclass(frozen=True)
class Call:
    """A call, and what it says itself: a token for each of its queries, and headers."""

    kind: str = "query"
    parameters: tuple[str | None, ...] = (None,)
    form: str = "field"  # or "params": where those tokens stand
    headers: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Leaving(NamedTuple):
    """What a request carries."""

    header: str | None
    parameters: list[str | None]
    forwarded_for: str | None


def who(answer: Any) -> Identity | None:
    """An answer as an identity: a login without a user token is one."""
    if isinstance(answer, str):
        return Identity(answer)
    return answer and replace(answer, user_token=answer.user_token or answer.authenticated_user_token)


def winner(world: World) -> Identity | None:
    for view in reversed(world.views):
        if view is not None:
            return who(view)
    context = world.context
    if context is not None:
        resolved = who(world.resolve) if isinstance(world.resolve, str) else world.resolve
        if context.user_token is None and context.authenticated_user_token is not None and resolved is not None:
            if resolved.opted_out:  # who is logged in may still have opted out
                return resolved
            context = replace(context, user_token=resolved.user_token)
        return who(context)
    return who(world.resolve if world.resolve is not None else world.default)


def expected(world: World, call: Call) -> Leaving:
    own, parameters, address = call.header(HEADER), list(call.parameters), call.header(FORWARDED_FOR)
    token: str | None = None
    if parameters and all(parameters):
        pass  # the call has said it all
    elif own and own != world.config:
        token = own
    else:
        identity = winner(world)
        if identity is None:
            token = world.config
        elif not identity.opted_out:
            token = identity.user_token
            if call.kind != "record" and (token is None or world.forward_client_ip):
                address = address or identity.client_ip
    has_field = call.kind not in ("facet", "record")
    if has_field and world.user_token_in != "header":
        parameters = [parameter or token for parameter in parameters]
    header = token
    if any(parameters):
        header = parameters[0] if len(set(parameters)) == 1 else None
        headers = {**({HEADER: world.config} if world.config else {}), **dict(call.headers)}
        if world.user_token_in == "parameter" and has_field and all(parameters) and header not in headers.values():
            header = None  # it would say it twice
    return Leaving(header, parameters, address)


# -- Calls, and what becomes of them -------------------------------------------------------------------------------


@st.composite
def calls(draw: Any) -> Call:
    kind = draw(st.sampled_from(["query", "query", "queries", "queries", "browse", "facet", "record", "stored"]))
    form = "params" if kind == "facet" else draw(st.sampled_from(["field", "params"]))
    headers = {}
    if draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from([HEADER, HEADER.lower(), HEADER.upper()]))
        # An empty one that stands over the config's would take that away.
        headers[name] = draw(tokens if name == HEADER else tokens | st.just(""))
    if draw(st.integers(0, 4)) == 0:
        headers[draw(st.sampled_from([FORWARDED_FOR, FORWARDED_FOR.lower()]))] = "192.0.2.1"
    if kind in ("record", "stored"):
        return Call("record", (), kind, tuple(headers.items()))
    count = draw(st.integers(1, 3)) if kind == "queries" else 1
    maybe = st.none() | tokens if draw(st.booleans()) else st.none()
    return Call(kind, tuple(draw(maybe) for _ in range(count)), form, tuple(headers.items()))


worlds = st.builds(
    World,
    views=st.lists(answers, max_size=2).map(tuple),
    context=identities | st.none(),
    resolve=answers,
    default=answers,
    config=st.none() | tokens,
    user_token_in=st.sampled_from(["header", "parameter", "both"]),
    forward_client_ip=st.booleans(),
)


def query(call: Call, token: str | None) -> dict[str, Any]:
    if call.form == "params":
        return {"params": "hitsPerPage=1" + (f"&userToken={token}".replace("+", "%2B") if token else "")}
    return {"query": "shoe"} | ({"userToken": token} if token else {})


def perform(client: Any, call: Call) -> Any:
    """Make the call, which must not change what it is given; the answer, or what gives it."""
    queries = [query(call, token) for token in call.parameters]
    options = {"headers": dict(call.headers)}
    method, arguments = {
        "query": ("search_single_index_with_http_info", ["products", *queries]),
        "queries": ("search_with_http_info", [{"requests": [{"indexName": "products", **each} for each in queries]}]),
        "browse": ("browse_with_http_info", ["products", *queries]),
        "facet": ("search_for_facet_values_with_http_info", ["products", "brand", *queries]),
        # A record with a field of that name is no search.
        "record": ("get_object_with_http_info", ["products", "1"])
        if call.form == "record"
        else ("save_object_with_http_info", ["products", {"userToken": "stored"}]),
    }[call.kind]
    as_they_were = copy.deepcopy((arguments, options, client._config.headers))
    answer = getattr(client, method)(*arguments, request_options=options)

    def unchanged(answer: Any) -> Any:
        assert (arguments, options, client._config.headers) == as_they_were
        return answer

    async def awaited() -> Any:
        return unchanged(await answer)

    return awaited() if hasattr(answer, "__await__") else unchanged(answer)


def leaving(call: Call, headers: Any, data: Any) -> Leaving:
    """What a request carries, read from the request itself."""

    def value_of(name: str) -> str | None:
        values = [value for key, value in headers.items() if key.lower() == name.lower()]
        assert len(values) <= 1
        return values[0] if values else None

    def token_of(parameters: dict[str, Any]) -> str | None:
        in_params = parse_qs(parameters.get("params", "")).get("userToken", [])
        assert len(in_params) + ("userToken" in parameters) <= 1
        return parameters["userToken"] if "userToken" in parameters else next(iter(in_params), None)

    body = json.loads(data) if data else {}
    if call.kind == "record":
        assert body == ({} if call.form == "record" else {"userToken": "stored"})
        queries = []
    else:
        queries = body["requests"] if call.kind == "queries" else [body]
    return Leaving(value_of(HEADER), [token_of(query) for query in queries], value_of(FORWARDED_FOR))


def check(world: World, call: Call, left: Leaving) -> None:
    assert left == expected(world, call)
    # Whatever the model says: a header never contradicts the parameters.
    assert left.header is None or {left.header}.issuperset(filter(None, left.parameters))
    # And what the caller wrote is still there.
    assert all(left == own for left, own in zip(left.parameters, call.parameters, strict=True) if own)


def keywords(world: World) -> dict[str, Any]:
    return {
        "token_provider": TokenProvider(world.default, resolve=lambda: world.resolve),
        "user_token_in": world.user_token_in,
        "forward_client_ip": world.forward_client_ip,
    }


def config_of(world: World, config: SearchConfig) -> SearchConfig:
    config.headers = {**config.headers, **({HEADER: world.config} if world.config else {})}
    return config


class Echoes:
    """A sync and an async client that send nothing, and their views."""

    def __init__(self, world: World) -> None:
        config = config_of(world, SearchConfig("APP", "key"))
        self.sync: Any = TokenAwareClientSync(transporter=EchoTransporterSync(config), config=config, **keywords(world))
        self.asynchronous: Any = TokenAwareClient(transporter=EchoTransporter(config), config=config, **keywords(world))

    def view(self, identity: Any) -> Echoes:
        view = copy.copy(self)
        view.sync = self.sync.with_identity(identity)
        view.asynchronous = self.asynchronous.with_identity(identity)
        return view

    def send(self, call: Call) -> Leaving:
        answer = perform(self.sync, call)
        return leaving(call, answer.headers, answer.data)

    async def send_async(self, call: Call) -> Leaving:
        answer = await perform(self.asynchronous, call)
        return leaving(call, answer.headers, answer.data)


# -- Any nesting ---------------------------------------------------------------------------------------------------


class Scope:
    """What one scope says, by the rules."""

    def __init__(self, given: Any) -> None:
        self.given = self.current = Identity(given) if isinstance(given, str) else given

    def set(self, **token: str | None) -> None:
        changed = replace(self.current or Identity(), **token)
        # Nothing left to say, where nothing was said, or the login only: no answer again.
        said_nothing_else = self.given is None or (
            self.given.user_token is None and self.given.authenticated_user_token is not None
        )
        self.current = None if said_nothing_else and changed == Identity() else changed


def in_thread(function: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(function()))
    thread.start()
    thread.join()
    (answer,) = answers  # or the thread failed
    return answer


class Nesting(RuleBasedStateMachine):
    """Scopes, views and calls in any order, in this thread and in others."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.before = current_identity()
        self.managers = [identity_scope(None)]  # so that set_user_token ends with the example
        self.managers[0].__enter__()
        self.scopes = [Scope(None)]

    @initialize(world=worlds)
    def start(self, world: World) -> None:
        self.world = replace(world, views=(), context=None)
        self.clients = [Echoes(self.world)]
        self.views: list[Any] = []

    def teardown(self) -> None:
        self.managers[0].__exit__(None, None, None)
        self.loop.close()
        assert current_identity() is self.before

    def world_in(self, context: Identity | None) -> World:
        return replace(self.world, views=tuple(self.views), context=context)

    @invariant()
    def the_context_is_as_the_rules_say(self) -> None:
        assert current_identity() == self.scopes[-1].current

    @rule(identity=answers)
    def enter(self, identity: Any) -> None:
        self.managers.append(identity_scope(identity))
        self.scopes.append(Scope(identity))
        assert self.managers[-1].__enter__() == self.scopes[-1].current

    @precondition(lambda self: len(self.scopes) > 1)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """One, or one with others left open inside it."""
        number = len(self.scopes) - data.draw(st.sampled_from([1, 1, 1, 2]))
        number = max(1, number)
        self.managers[number].__exit__(None, None, None)
        del self.managers[number:], self.scopes[number:]

    @rule(token=st.none() | tokens)
    def set_user_token(self, token: str | None) -> None:
        set_user_token(token)
        self.scopes[-1].set(user_token=token)

    @rule(token=st.none() | tokens)
    def set_authenticated_user_token(self, token: str | None) -> None:
        set_authenticated_user_token(token)
        self.scopes[-1].set(authenticated_user_token=token)

    @precondition(lambda self: len(self.views) < 3)
    @rule(identity=answers)
    def view(self, identity: Any) -> None:
        self.clients.append(self.clients[-1].view(identity))
        self.views.append(identity)

    @precondition(lambda self: self.views)
    @rule()
    def close_view(self) -> None:
        self.clients.pop().sync.close()
        self.views.pop()

    @rule(call=calls())
    def call(self, call: Call) -> None:
        world = self.world_in(self.scopes[-1].current)
        check(world, call, self.clients[-1].send(call))
        check(world, call, self.loop.run_until_complete(self.clients[-1].send_async(call)))

    @rule(call=calls(), identity=answers)
    def call_in_a_decorated_function(self, call: Call, identity: Any) -> None:
        world = self.world_in(Scope(identity).current)
        check(world, call, identity_scope(identity)(self.clients[-1].send)(call))
        asynchronous = identity_scope(identity)(self.clients[-1].send_async)(call)
        check(world, call, self.loop.run_until_complete(asynchronous))

    @rule(call=calls(), bound=st.booleans(), token=st.just(...) | st.none() | tokens)
    def call_in_a_thread(self, call: Call, bound: bool, token: Any) -> None:
        scope = Scope(self.scopes[-1].current if bound else None)

        def work() -> Leaving:
            if token is not ...:
                set_user_token(token)
                scope.set(user_token=token)
            return self.clients[-1].send(call)

        left = in_thread(bind(work) if bound else work)
        check(self.world_in(scope.current), call, left)

    @rule(first=calls(), second=calls(), token=st.none() | tokens)
    def call_in_tasks(self, first: Call, second: Call, token: str | None) -> None:
        """Each task begins as the one that made it, and what it sets is its own."""
        scope = copy.copy(self.scopes[-1])
        scope.set(user_token=token)

        async def changed() -> Leaving:
            set_user_token(token)
            await asyncio.sleep(0)
            return await self.clients[-1].send_async(first)

        async def unchanged() -> Leaving:
            await asyncio.sleep(0)
            return await self.clients[-1].send_async(second)

        async def both() -> Any:
            return await asyncio.gather(changed(), unchanged())

        left_first, left_second = self.loop.run_until_complete(both())
        check(self.world_in(scope.current), first, left_first)
        check(self.world_in(self.scopes[-1].current), second, left_second)


TestNesting = Nesting.TestCase
TestNesting.settings = settings(fewer, stateful_step_count=25)


@given(worlds, calls())
@example(World(context=Identity(None, "login"), resolve=Identity("visitor", opted_out=True)), Call())
def test_all_levels_at_once_have_the_winner_that_the_rules_name(world: World, call: Call) -> None:
    """The same without a nesting, but with all levels at once."""
    clients = Echoes(world)
    for view in world.views:
        clients = clients.view(view)
    with identity_scope(world.context):
        check(world, call, clients.send(call))
        check(world, call, asyncio.run(clients.send_async(call)))
    assert current_identity() is None


@given(st.lists(st.tuples(st.booleans(), st.none() | tokens), max_size=5))
def test_what_is_set_outside_of_any_scope(steps: list[tuple[bool, str | None]]) -> None:
    def run() -> None:
        scope = Scope(None)
        for login, token in steps:
            if login:
                set_authenticated_user_token(token)
                scope.set(authenticated_user_token=token)
            else:
                set_user_token(token)
                scope.set(user_token=token)
            assert current_identity() == scope.current

    contextvars.copy_context().run(run)
    assert current_identity() is None


@given(identities, st.lists(st.tuples(st.booleans(), st.none() | tokens), max_size=5))
@example(Identity(None, "login"), [(True, None)])
@example(Identity(None, "login", "203.0.113.7"), [(True, None)])
def test_what_is_set_in_a_scope(given_identity: Identity, steps: list[tuple[bool, str | None]]) -> None:
    scope = Scope(given_identity)
    with identity_scope(given_identity):
        for login, token in steps:
            if login:
                set_authenticated_user_token(token)
                scope.set(authenticated_user_token=token)
            else:
                set_user_token(token)
                scope.set(user_token=token)
            assert current_identity() == scope.current


# -- Over HTTP -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1", "brand": "Larkfoot"}])
        algolia.save_objects("products", [{"objectID": "2", "brand": "Fernhill"}])
        yield algolia


@fewer
@given(worlds, calls())
def test_the_winner_of_all_levels_arrives_over_http(server: LocalAlgolia, world: World, call: Call) -> None:
    async def send() -> None:
        config = config_of(world, server.search_config())
        async with TokenAwareClient.create_with_config(config, **keywords(world)) as client:
            for view in world.views:
                client = client.with_identity(view)
            await perform(client, call)

    server.clear()
    with identity_scope(world.context):
        with TokenAwareClientSync.create_with_config(
            config_of(world, server.search_config()), **keywords(world)
        ) as client:
            for view in world.views:
                client = client.with_identity(view)
            perform(client, call)
        asyncio.run(send())

    for request in server.requests:
        check(world, call, leaving(call, request.headers, request.body))
    assert len(server.requests) == 2
