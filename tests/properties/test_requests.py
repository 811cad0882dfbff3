"""Web requests in any interleaving: tasks, threads and scopes of several at once, against a model of the rules."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from algolia_usertoken import (
    Identity,
    current_identity,
    identity_scope,
    set_authenticated_user_token,
    set_user_token,
)
from algolia_usertoken.context import RequestFrame

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

T = TypeVar("T")


# -- The rules -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Shared:
    """Who a request, or a task of it that has set somebody, is served as."""

    identity: Identity
    given: Identity
    owner: Place
    request: Request


@dataclass(eq=False)
class Request:
    number: int
    is_open: bool = True


@dataclass(frozen=True, eq=False)
class Layer:
    """What one place sees: of a request (`shared`), of its own (`own`), or of a scope."""

    shared: Shared | None
    own: Identity | None = None
    scope: Any = None
    in_thread_only: bool = False  # what a thread has set beside its request, for itself

    @property
    def identity(self) -> Identity | None:
        return self.own if self.shared is None or self.own is not None else self.shared.identity


@dataclass(eq=False)
class Place:
    """A task or a thread, and what it sees: the innermost layer is the last."""

    request: Request
    runner: TaskRunner | ThreadRunner
    layers: list[Layer] = field(default_factory=list)

    def run(self, function: Callable[[], T]) -> T:
        return self.runner.run(function)

    def set(self, **token: str | None) -> None:
        layer = self.layers[-1]
        identity = replace(layer.identity or Identity(), **token)
        shared = layer.shared
        if shared is None:
            given = layer.scope._identity
            login_only = given is not None and given.user_token is None and given.authenticated_user_token is not None
            nothing_left = identity == Identity() and (given is None or login_only)
            self.layers[-1] = replace(layer, own=None if nothing_left else identity)
        elif not shared.request.is_open:
            self.layers[-1] = Layer(shared, identity)
        elif shared.owner is self:
            shared.identity = identity
        elif isinstance(self.runner, ThreadRunner):
            shared.identity = identity
            self.layers[-1] = Layer(shared, identity, in_thread_only=True)
        else:
            self.layers[-1] = Layer(Shared(identity, shared.given, self, shared.request))

    def seen_elsewhere(self) -> list[Layer]:
        """What a task or thread that is started here begins with."""
        return [Layer(layer.shared) if layer.in_thread_only else layer for layer in self.layers]


# -- Real tasks and threads, that do one thing after the other -----------------------------------------------------


class ThreadRunner:
    def __init__(self, context: contextvars.Context) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=context.run, args=(self._work,))
        self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._answers.put(job())

    def run(self, job: Callable[[], T]) -> T:
        self._jobs.put(job)
        return self._answers.get(timeout=60)

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join()


class TaskRunner:
    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._jobs: asyncio.Queue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = asyncio.Queue()
        self._task = context.run(loop.create_task, self._work())

    async def _work(self) -> None:
        while (item := await self._jobs.get()) is not None:
            job, answer = item
            answer.set_result(job())

    def run(self, job: Callable[[], T]) -> T:
        answer = self._loop.create_future()
        self._jobs.put_nowait((job, answer))
        return self._loop.run_until_complete(answer)

    def stop(self) -> None:
        self._jobs.put_nowait(None)
        self._loop.run_until_complete(self._task)


# -- Any interleaving ----------------------------------------------------------------------------------------------


class Requests(RuleBasedStateMachine):
    places = Bundle("places")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.all: list[Place] = []
        self.number = 0

    def teardown(self) -> None:
        for place in self.all:
            place.runner.stop()
        self.loop.close()

    def token(self, request: Request) -> str:
        """One that nobody else has, and that says whose it is."""
        self.number += 1
        return f"{request.number}-{self.number}"

    def start(self, request: Request, in_thread: bool, context: contextvars.Context, layers: list[Layer]) -> Place:
        runner = ThreadRunner(context) if in_thread else TaskRunner(self.loop, context)
        place = Place(request, runner, layers)
        self.all.append(place)
        return place

    @rule(target=places, known=st.sampled_from(["token", "login", "both", "nobody"]), in_thread=st.booleans())
    def begin_a_request(self, known: str, in_thread: bool) -> Place:
        self.number += 1
        request = Request(self.number)
        identity = Identity(
            self.token(request) if known in ("token", "both") else None,
            self.token(request) if known in ("login", "both") else None,
        )
        place = self.start(request, in_thread, contextvars.Context(), [])

        def serve() -> RequestFrame:
            frame = RequestFrame(identity)
            frame.enter()
            return frame

        frame = place.run(serve)
        request.frame = frame  # type: ignore[attr-defined]
        place.layers.append(Layer(Shared(identity, identity, place, request)))
        return place

    @rule(target=places, place=places, in_thread=st.booleans())
    def start_a_task_or_a_thread(self, place: Place, in_thread: bool) -> Place:
        context = place.run(contextvars.copy_context)
        return self.start(place.request, in_thread, context, place.seen_elsewhere())

    @rule(place=places, what=st.sampled_from(["token", "login"]), logout=st.booleans())
    def set(self, place: Place, what: str, logout: bool) -> None:
        token = None if logout else self.token(place.request)
        if what == "token":
            place.run(lambda: set_user_token(token))
            place.set(user_token=token)
        else:
            place.run(lambda: set_authenticated_user_token(token))
            place.set(authenticated_user_token=token)

    @rule(place=places, known=st.sampled_from(["token", "login", "nobody", "no answer"]))
    def enter_a_scope(self, place: Place, known: str) -> None:
        scope = identity_scope(
            {
                "token": Identity(self.token(place.request)),
                "login": Identity(None, self.token(place.request)),
                "nobody": Identity(),
                "no answer": None,
            }[known]
        )
        place.run(scope.__enter__)
        place.layers.append(Layer(None, scope._identity, scope))

    @rule(place=places)
    def leave_a_scope(self, place: Place) -> None:
        """One that was entered here, or that was inherited."""
        scope = place.layers[-1].scope
        if scope is not None:
            place.run(lambda: scope.__exit__(None, None, None))
            del place.layers[-1]

    @rule(place=consumes(places))
    def end_its_request(self, place: Place) -> None:
        place.request.frame.close()  # type: ignore[attr-defined]
        place.request.is_open = False

    @invariant()
    def everybody_is_as_the_rules_say(self) -> None:
        for place in self.all:
            seen = place.run(current_identity)
            assert seen == place.layers[-1].identity
            # Whatever the model says: nobody ever sees what belongs to another request.
            for token in (seen.user_token, seen.authenticated_user_token) if seen is not None else ():
                assert token is None or token.partition("-")[0] == str(place.request.number)


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=max(1, settings().max_examples // 4), stateful_step_count=25)
