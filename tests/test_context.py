from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import sys
import threading
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from program_files import run_program

from algolia_usertoken import (
    Identity,
    InvalidUserTokenError,
    TokenProvider,
    bind,
    current_identity,
    identity_scope,
    set_authenticated_user_token,
    set_user_token,
)
from algolia_usertoken.context import LOGGED_OUT, STATE_KEY, RequestFrame, as_of_now, current_request

pytestmark = pytest.mark.oldest_versions


@pytest.fixture(autouse=True)
def _nobody_said_anything() -> Iterator[None]:
    assert current_identity() is None
    yield
    assert current_identity() is None


def in_a_copy(function: Callable[[], Any]) -> Any:
    """What `function` gives, in a copy of the context, so that what it sets does not stay."""
    return contextvars.copy_context().run(function)


def in_a_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


# -- with identity_scope(…) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "current"),
    [
        ("u-1", Identity("u-1")),
        (Identity("u-1", "l-1"), Identity("u-1", "l-1")),
        (Identity(), Identity()),
        (None, None),
    ],
)
def test_a_scope_says_who_the_user_is(given: Any, current: Identity | None) -> None:
    with identity_scope(given) as identity:
        assert identity == current
        assert current_identity() == current
    assert current_identity() is None


@pytest.mark.parametrize("given", ["a@b", "", 7, b"u"])
def test_scope_refuses_what_is_no_identity_before_anything_changes(given: Any) -> None:
    with pytest.raises(InvalidUserTokenError, match=r"^identity "):
        identity_scope(given)


def test_scopes_nest_and_restore() -> None:
    with identity_scope("outer"):
        with identity_scope("inner"):
            assert current_identity() == Identity("inner")
            with identity_scope(None):
                assert current_identity() is None
            assert current_identity() == Identity("inner")
        assert current_identity() == Identity("outer")


def test_scope_ends_with_an_error_too_and_lets_it_through() -> None:
    with identity_scope("outer"):
        with pytest.raises(ZeroDivisionError), identity_scope("inner"):
            raise ZeroDivisionError
        assert current_identity() == Identity("outer")


def test_one_scope_may_be_entered_again_also_inside_itself() -> None:
    scope = identity_scope("u-1")
    for _ in range(2):
        with scope, identity_scope("between"), scope:
            assert current_identity() == Identity("u-1")
            with scope:
                pass
            assert current_identity() == Identity("u-1")
    with identity_scope("outer"):
        with scope, scope:
            pass
        assert current_identity() == Identity("outer")


def test_one_scope_may_be_used_in_several_threads_at_once() -> None:
    scope = identity_scope("u-1")
    barrier = threading.Barrier(8)

    def serve(number: int) -> list[Identity | None]:
        seen = []
        for _ in range(200):
            with identity_scope(f"outer-{number}"):
                barrier.wait()
                with scope:
                    seen.append(current_identity())
                seen.append(current_identity())
        return [*dict.fromkeys(seen), current_identity()]

    with ThreadPoolExecutor(8) as pool:
        for number, seen in enumerate(pool.map(serve, range(8))):
            assert seen == [Identity("u-1"), Identity(f"outer-{number}"), None]


def test_a_scope_may_end_in_a_copy_of_the_context_it_began_in() -> None:
    scope = identity_scope("u-1")
    with scope:

        def end_and_look() -> Identity | None:
            scope.__exit__(None, None, None)
            return current_identity()

        assert in_a_copy(end_and_look) is None
        assert current_identity() == Identity("u-1")


def test_a_scope_that_ends_in_a_foreign_context_leaves_that_one_alone() -> None:
    scope = identity_scope("theirs")

    def elsewhere() -> Identity | None:
        with identity_scope("mine"):
            scope.__exit__(None, None, None)
            return current_identity()

    contextvars.Context().run(scope.__enter__)
    assert in_a_copy(elsewhere) == Identity("mine")
    scope.__exit__(None, None, None)  # and where there is none at all


def test_what_was_set_inside_a_scope_ends_with_it() -> None:
    with identity_scope("outer"):
        with identity_scope("inner"):
            set_user_token("changed")
            set_authenticated_user_token("login")
            assert current_identity() == Identity("changed", "login")
        assert current_identity() == Identity("outer")


# -- set_user_token, set_authenticated_user_token ------------------------------------------------------------------


def test_setters_hold_for_the_rest_of_the_context() -> None:
    def serve() -> Identity | None:
        set_user_token("u-1")
        assert current_identity() == Identity("u-1")
        set_authenticated_user_token("l-1")
        assert current_identity() == Identity("u-1", "l-1")
        set_user_token("u-2")
        return current_identity()

    assert in_a_copy(serve) == Identity("u-2", "l-1")


@pytest.mark.parametrize("setter", [set_user_token, set_authenticated_user_token])
@pytest.mark.parametrize("token", ["a@b", "", 7, "x" * 129])
def test_setters_refuse_an_invalid_token_and_change_nothing(setter: Callable[[Any], None], token: Any) -> None:
    with identity_scope(Identity("u-1", "l-1")):
        with pytest.raises(InvalidUserTokenError, match=r"^(authenticated_)?user_token "):
            setter(token)
        assert current_identity() == Identity("u-1", "l-1")


def test_each_setter_keeps_what_the_others_have_set() -> None:
    with identity_scope(Identity("u-1", "l-1", "203.0.113.7", True)):
        set_user_token("u-2")
        assert current_identity() == Identity("u-2", "l-1", "203.0.113.7", True)
        set_authenticated_user_token("l-2")
        assert current_identity() == Identity("u-2", "l-2", "203.0.113.7", True)
        set_user_token(None)
        set_authenticated_user_token(None)
        assert current_identity() == Identity(client_ip="203.0.113.7", opted_out=True)


def test_logout_keeps_the_user_token() -> None:
    with identity_scope("anon"):
        set_authenticated_user_token("login")
        set_authenticated_user_token(None)
        assert current_identity() == Identity("anon")


@pytest.mark.parametrize(
    ("scope", "after"),
    [
        (None, None),  # nobody had an answer, and nobody has one again
        (Identity(), Identity()),  # known to be nobody
        ("u-1", Identity()),  # was known, and no longer is
        (Identity(None, "l-1"), None),  # only the login was known: nothing is left to say
        (Identity("u-1", "l-1"), Identity()),
    ],
)
def test_logout_of_the_last_token_falls_back_to_what_the_scope_said(scope: Any, after: Identity | None) -> None:
    with identity_scope(scope):
        set_user_token("u-2")
        set_authenticated_user_token("l-2")
        set_authenticated_user_token(None)
        assert current_identity() == Identity("u-2")
        set_user_token(None)
        assert current_identity() == after


def test_logout_outside_any_scope_is_no_answer() -> None:
    def serve() -> list[Identity | None]:
        seen = []
        set_authenticated_user_token(None)
        seen.append(current_identity())
        set_authenticated_user_token("login")
        seen.append(current_identity())
        set_authenticated_user_token(None)
        seen.append(current_identity())
        return seen

    assert in_a_copy(serve) == [None, Identity(authenticated_user_token="login"), None]


def test_setters_in_a_scope_without_an_answer_do_not_reach_the_outer_one() -> None:
    with identity_scope(Identity("outer", "outer-login")):
        with identity_scope(None):
            set_user_token("inner")
            assert current_identity() == Identity("inner")
        assert current_identity() == Identity("outer", "outer-login")


# -- Threads and tasks ---------------------------------------------------------------------------------------------


def test_a_new_thread_starts_without_an_identity() -> None:
    with identity_scope("u-1"):
        assert in_a_thread(current_identity) is None
        assert in_a_thread(lambda: set_user_token("theirs")) is None
        assert current_identity() == Identity("u-1")


async def test_tasks_and_to_thread_carry_the_context_along() -> None:
    async def ask() -> Identity | None:
        await asyncio.sleep(0)
        return current_identity()

    with identity_scope("u-1"):
        task = asyncio.create_task(ask())
    assert await task == Identity("u-1")
    with identity_scope("u-2"):
        assert await asyncio.to_thread(current_identity) == Identity("u-2")
        assert await asyncio.gather(ask(), ask()) == [Identity("u-2")] * 2


async def test_tasks_do_not_see_one_another() -> None:
    async def serve(token: str) -> bool:
        with identity_scope(token):
            for i in range(20):
                await asyncio.sleep(0)
                if i == 10:
                    set_authenticated_user_token(f"{token}-login")
                identity = current_identity()
                if identity != Identity(token, f"{token}-login" if i >= 10 else None):
                    return False
        return current_identity() is None

    assert all(await asyncio.gather(*(serve(f"u-{i}") for i in range(50))))


async def test_what_a_task_sets_in_a_scope_stays_in_that_task() -> None:
    async def login() -> None:
        set_user_token("theirs")

    with identity_scope("mine"):
        await asyncio.create_task(login())
        assert current_identity() == Identity("mine")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_of_a_pool_starts_without_the_identity_of_who_used_it_first(method: str) -> None:
    run_program("programs/identity_in_process_pools.py", "multiprocessing", method)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_of_billiard_starts_without_an_identity_too() -> None:
    pytest.importorskip("billiard")
    run_program("programs/identity_in_process_pools.py", "billiard", "fork")


# -- @identity_scope(…) --------------------------------------------------------------------------------------------


def test_decorated_function_runs_as_the_identity_at_every_call() -> None:
    @identity_scope("job")
    def ask(first: int, *, second: int) -> tuple[Identity | None, int]:
        """Asks."""
        identity = current_identity()
        set_user_token("changed")
        return identity, first + second

    assert [ask(1, second=2), ask(3, second=4)] == [(Identity("job"), 3), (Identity("job"), 7)]
    assert current_identity() is None
    assert (ask.__name__, ask.__doc__) == ("ask", "Asks.")
    assert list(inspect.signature(ask).parameters) == ["first", "second"]


def test_decorated_function_restores_after_an_error() -> None:
    @identity_scope("job")
    def fail() -> None:
        raise ZeroDivisionError

    with identity_scope("outer"):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert current_identity() == Identity("outer")


def test_decorated_method_knows_its_object() -> None:
    class Job:
        name = "nightly"

        @identity_scope("job")
        def run(self) -> tuple[str, Identity | None]:
            return self.name, current_identity()

    assert Job().run() == ("nightly", Identity("job"))


class AsyncJob:
    async def __call__(self) -> Identity | None:
        await asyncio.sleep(0)
        return current_identity()

    async def run(self) -> Identity | None:
        return await self()


async def ask_later(token: str | None = None) -> Identity | None:
    await asyncio.sleep(0)
    return current_identity()


@pytest.mark.parametrize(
    "function",
    [
        ask_later,
        functools.partial(ask_later, "u"),
        AsyncJob(),
        AsyncJob().run,
        functools.partial(AsyncJob()),
    ],
    ids=["function", "partial", "object", "method", "partial of an object"],
)
async def test_decorated_async_callables_run_as_the_identity_to_their_end(function: Any) -> None:
    decorated = identity_scope("job")(function)

    assert await decorated() == Identity("job")
    with identity_scope("outer"):
        pending = decorated()
        assert current_identity() == Identity("outer")
        assert await pending == Identity("job")
        assert current_identity() == Identity("outer")


async def test_decorated_async_function_is_one_for_frameworks_too() -> None:
    assert inspect.iscoroutinefunction(identity_scope("job")(ask_later))
    assert identity_scope("job")(ask_later).__name__ == "ask_later"


async def test_decorated_async_function_restores_after_errors_and_cancellation() -> None:
    seen = []

    @identity_scope("job")
    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append(current_identity())

    with identity_scope("outer"):
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert current_identity() == Identity("outer")
    assert seen == [Identity("job")]


JOB = Identity("job")


def bind_for_job(function: Any) -> Any:
    with identity_scope(JOB):
        return bind(function)


def test_decorated_generator_runs_in_the_scope_but_not_its_consumer() -> None:
    @identity_scope("job")
    def pages(count: int) -> Generator[Identity | None, None, str]:
        for _ in range(count):
            yield current_identity()
        return "end"

    with identity_scope("outer"):
        generator = pages(2)
        assert next(generator) == Identity("job")
        assert current_identity() == Identity("outer")
        assert next(generator) == Identity("job")
        with pytest.raises(StopIteration) as stop:
            next(generator)
        assert stop.value.value == "end"
        assert current_identity() == Identity("outer")
        assert list(pages(3)) == [Identity("job")] * 3


def who_twice() -> Generator[Identity | None, None, str]:
    yield current_identity()
    yield current_identity()
    return "end"


async def who_twice_later() -> AsyncGenerator[Identity | None, None]:
    yield current_identity()
    await asyncio.sleep(0)
    yield current_identity()


class Pages:
    def __call__(self) -> Generator[Identity | None, None, str]:
        return (yield from who_twice())


class PagesLater:
    async def __call__(self) -> AsyncGenerator[Identity | None, None]:
        async for who in who_twice_later():
            yield who


@pytest.mark.parametrize("decorate", [identity_scope("job"), bind_for_job], ids=["scope", "bind"])
@pytest.mark.parametrize(
    "function",
    [
        who_twice,
        functools.partial(who_twice),
        Pages(),
        Pages().__call__,
        functools.partial(Pages()),
        lambda: who_twice(),
    ],
    ids=["function", "partial", "object", "method", "partial of an object", "lambda"],
)
def test_whatever_returns_a_generator_has_its_steps_in_the_scope(decorate: Any, function: Any) -> None:
    with identity_scope("outer"):
        generator = decorate(function)()
        assert [next(generator), current_identity(), next(generator)] == [JOB, Identity("outer"), JOB]
        with pytest.raises(StopIteration, match="end"):
            next(generator)


@pytest.mark.parametrize("decorate", [identity_scope("job"), bind_for_job], ids=["scope", "bind"])
@pytest.mark.parametrize(
    "function",
    [
        who_twice_later,
        functools.partial(who_twice_later),
        PagesLater(),
        PagesLater().__call__,
        functools.partial(PagesLater()),
        lambda: who_twice_later(),
    ],
    ids=["function", "partial", "object", "method", "partial of an object", "lambda"],
)
async def test_whatever_returns_an_async_generator_has_its_steps_in_the_scope(decorate: Any, function: Any) -> None:
    with identity_scope("outer"):
        seen = []
        async for who in decorate(function)():
            seen += [who, current_identity()]
        assert seen == [JOB, Identity("outer")] * 2


@types.coroutine
def who_in_the_old_style() -> Generator[Any, Any, Identity | None]:
    yield from asyncio.sleep(0).__await__()
    return current_identity()


@pytest.mark.parametrize("decorate", [identity_scope("job"), bind_for_job], ids=["scope", "bind"])
async def test_a_generator_that_can_be_awaited_runs_in_the_scope(decorate: Any) -> None:
    with identity_scope("outer"):
        assert await decorate(lambda: who_in_the_old_style())() == JOB
        assert current_identity() == Identity("outer")


def test_decorated_generator_may_be_sent_to_thrown_into_and_closed() -> None:
    log: list[Any] = []

    @identity_scope("job")
    def echo() -> Generator[Any, Any, None]:
        received = None
        try:
            while True:
                try:
                    received = yield received
                except KeyError as error:
                    received = error
                log.append(current_identity())
        finally:
            log.append(("closed", current_identity()))

    generator = echo()
    next(generator)
    assert generator.send("a") == "a"
    error = KeyError("x")
    assert generator.throw(error) is error
    assert current_identity() is None
    generator.close()
    assert log == [Identity("job"), Identity("job"), ("closed", Identity("job"))]
    with pytest.raises(StopIteration):
        next(generator)


def test_decorated_generator_lets_errors_out_and_restores() -> None:
    @identity_scope("job")
    def fail() -> Generator[int, None, None]:
        yield 1
        raise ZeroDivisionError

    @identity_scope("job")
    def stubborn() -> Generator[int, None, None]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    with identity_scope("outer"):
        generator = fail()
        next(generator)
        with pytest.raises(ZeroDivisionError):
            next(generator)
        assert current_identity() == Identity("outer")
        generator = stubborn()
        next(generator)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            generator.close()
        assert current_identity() == Identity("outer")


def test_two_decorated_generators_may_interleave() -> None:
    @identity_scope("a")
    def first() -> Iterator[Identity | None]:
        while True:
            yield current_identity()

    @identity_scope("b")
    def second() -> Iterator[Identity | None]:
        while True:
            yield current_identity()

    one, two = first(), second()
    assert [next(one), next(two), next(one), next(two)] == [Identity("a"), Identity("b")] * 2


async def test_decorated_async_generator_runs_in_the_scope_but_not_its_consumer() -> None:
    @identity_scope("job")
    async def pages(count: int) -> AsyncIterator[Identity | None]:
        for _ in range(count):
            await asyncio.sleep(0)
            yield current_identity()

    with identity_scope("outer"):
        seen = []
        async for identity in pages(3):
            seen.append((identity, current_identity()))
        assert seen == [(Identity("job"), Identity("outer"))] * 3
        assert current_identity() == Identity("outer")


async def test_decorated_async_generator_may_be_sent_to_thrown_into_and_closed() -> None:
    log: list[Any] = []

    @identity_scope("job")
    async def echo() -> AsyncGenerator[Any, Any]:
        received = None
        try:
            while True:
                try:
                    received = yield received
                except KeyError as error:
                    received = error
                log.append(current_identity())
        finally:
            await asyncio.sleep(0)
            log.append(("closed", current_identity()))

    generator = echo()
    await generator.asend(None)
    assert await generator.asend("a") == "a"
    error = KeyError("x")
    assert await generator.athrow(error) is error
    assert current_identity() is None
    await generator.aclose()
    assert log == [Identity("job"), Identity("job"), ("closed", Identity("job"))]
    with pytest.raises(StopAsyncIteration):
        await generator.asend(None)


async def test_decorated_async_generator_lets_errors_out() -> None:
    @identity_scope("job")
    async def fail() -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    with identity_scope("outer"):
        pages = fail().__aiter__()
        assert await pages.__anext__() == 1
        assert current_identity() == Identity("outer")
        with pytest.raises(ZeroDivisionError):
            await pages.__anext__()
        assert current_identity() == Identity("outer")


def test_decorated_generators_are_such_for_frameworks_too() -> None:
    decorate = identity_scope("job")

    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncIterator[int]:
        yield 1

    assert inspect.isgeneratorfunction(decorate(generator))
    assert inspect.isasyncgenfunction(decorate(async_generator))


# -- bind ----------------------------------------------------------------------------------------------------------


def test_bind_carries_the_identity_into_a_thread() -> None:
    with identity_scope(Identity("u-1", "l-1", "203.0.113.7")):
        bound = bind(current_identity)
    seen = []
    thread = threading.Thread(target=bind(lambda: seen.append(bound())))
    thread.start()
    thread.join()

    assert seen == [Identity("u-1", "l-1", "203.0.113.7")]


def test_bind_holds_for_every_call_and_whatever_was_set_in_the_thread() -> None:
    def serve() -> Identity | None:
        identity = current_identity()
        set_user_token("changed")
        return identity

    with ThreadPoolExecutor(1) as pool:
        with identity_scope("u-1"):
            futures = [pool.submit(bind(serve)), pool.submit(serve), pool.submit(bind(serve))]
        assert [future.result() for future in futures] == [Identity("u-1"), None, Identity("u-1")]


def test_bind_takes_the_identity_of_now() -> None:
    with identity_scope("u-1"):
        bound = bind(current_identity)
        with identity_scope("u-2"):
            assert bound() == Identity("u-1")
        set_user_token("u-3")
        assert bound() == Identity("u-1")
    assert bound() == Identity("u-1")


def test_bind_of_nothing_is_no_answer_even_where_somebody_is_known() -> None:
    bound = bind(current_identity)
    with identity_scope("u-1"):
        assert bound() is None


async def test_bind_works_for_executors_and_async_functions() -> None:
    with identity_scope("u-1"):
        bound, bound_async = bind(current_identity), bind(ask_later)

    assert await asyncio.get_running_loop().run_in_executor(None, bound) == Identity("u-1")
    assert await bound_async() == Identity("u-1")


class TestArgumentsReachWhatIsDecorated:
    def test_if_it_is_a_function(self) -> None:
        assert identity_scope("u")(lambda a, *, b: (a, b))(1, b=2) == (1, 2)

    async def test_if_it_is_a_coroutine_function(self) -> None:
        @identity_scope("u")
        async def decorated(a: int, *, b: int) -> tuple[int, int]:
            return a, b

        assert await decorated(1, b=2) == (1, 2)

    def test_if_it_is_a_generator_function(self) -> None:
        @identity_scope("u")
        def decorated(a: int, *, b: int) -> Iterator[int]:
            yield a
            yield b

        assert list(decorated(1, b=2)) == [1, 2]

    async def test_if_it_is_an_async_generator_function(self) -> None:
        @identity_scope("u")
        async def decorated(a: int, *, b: int) -> AsyncIterator[int]:
            yield a
            yield b

        assert [item async for item in decorated(1, b=2)] == [1, 2]


def test_a_scope_that_ends_inside_of_others_ends_those_only() -> None:
    with identity_scope("outer"):
        first, second, third = identity_scope("first"), identity_scope("second"), identity_scope("third")
        for scope in (first, second, third):
            scope.__enter__()

        second.__exit__(None, None, None)
        assert current_identity() == Identity("first")

        first.__exit__(None, None, None)
        assert current_identity() == Identity("outer")


# -- The frame of a web request ------------------------------------------------------------------------------------


@contextmanager
def request(identity: Identity | str = "visitor") -> Iterator[RequestFrame]:
    """A request, as an integration serves it."""
    frame = RequestFrame(Identity(identity) if isinstance(identity, str) else identity)
    frame.enter()
    try:
        yield frame
    finally:
        frame.leave()
        frame.close()


def login(token: str | None) -> Identity | None:
    set_authenticated_user_token(token)
    return current_identity()


async def login_async(token: str | None) -> Identity | None:
    set_authenticated_user_token(token)
    await asyncio.sleep(0)
    return current_identity()


class TestRequest:
    def test_says_who_the_user_is_until_it_ends(self) -> None:
        with identity_scope("outer"):
            with request() as frame:
                assert current_identity() == Identity("visitor")
                assert current_request() is frame
            assert current_identity() == Identity("outer")
            assert current_request() is None

    async def test_what_its_task_sets_holds_in_its_tasks_and_threads_that_run_already(self) -> None:
        go_on = asyncio.Event()

        async def wait_and_look() -> Identity | None:
            await go_on.wait()
            return current_identity()

        with request() as frame:
            task = asyncio.create_task(wait_and_look())
            thread_context = contextvars.copy_context()
            await asyncio.sleep(0)
            login("user")
            go_on.set()

            assert await task == Identity("visitor", "user")
            assert in_a_thread(lambda: thread_context.run(current_identity)) == Identity("visitor", "user")
            assert frame.identity == Identity("visitor", "user")

    async def test_what_a_plain_view_sets_in_a_thread_holds_for_the_rest_of_it(self) -> None:
        with request() as frame:
            assert await asyncio.to_thread(login, "user") == Identity("visitor", "user")
            assert current_identity() == Identity("visitor", "user")
            assert await asyncio.to_thread(current_identity) == Identity("visitor", "user")
            assert await login_async(None) == Identity("visitor")
            assert await asyncio.to_thread(current_identity) == Identity("visitor")
            assert await asyncio.to_thread(login, "another") == await asyncio.create_task(ask_later())
            assert frame.identity == Identity("visitor", "another")

    async def test_what_another_task_sets_stays_with_it_and_its_threads(self) -> None:
        async def act_for(token: str) -> list[Identity | None]:
            set_user_token(token)
            await asyncio.sleep(0)
            seen = [
                current_identity(),
                await asyncio.to_thread(current_identity),
                await asyncio.create_task(ask_later()),
            ]
            await asyncio.to_thread(login, f"{token}-login")
            return [*seen, current_identity()]

        with request() as frame:
            answers = await asyncio.gather(*(act_for(f"u-{number}") for number in range(50)))

            for number, seen in enumerate(answers):
                assert seen == [Identity(f"u-{number}")] * 3 + [Identity(f"u-{number}", f"u-{number}-login")]
            assert current_identity() == frame.identity == Identity("visitor")

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager tasks before Python 3.12")
    async def test_what_an_eager_task_sets_stays_with_it(self) -> None:
        async def act_for(token: str) -> Identity | None:
            set_user_token(token)
            await asyncio.sleep(0)
            return current_identity()

        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        with request() as frame:
            answers = await asyncio.gather(*(act_for(f"u-{number}") for number in range(50)))

        assert answers == [Identity(f"u-{number}") for number in range(50)]
        assert frame.identity == Identity("visitor")

    async def test_what_is_set_in_a_copy_of_the_context_stays_in_it(self) -> None:
        with request() as frame:
            context = contextvars.copy_context()
            assert context.run(login, "user") == context.run(current_identity) == Identity("visitor", "user")
            assert current_identity() == frame.identity == Identity("visitor")

    async def test_a_task_of_another_task_has_a_frame_of_its_own_too(self) -> None:
        async def outer() -> list[Identity | None]:
            await login_async("outer")
            inner = await asyncio.create_task(login_async("inner"))
            return [inner, current_identity()]

        with request():
            assert await asyncio.create_task(outer()) == [Identity("visitor", "inner"), Identity("visitor", "outer")]

    async def test_fifty_tasks_in_scopes_stay_fifty_users(self) -> None:
        async def act_for(token: str) -> bool:
            with identity_scope(token):
                await asyncio.sleep(0)
                await asyncio.to_thread(login, "in-a-thread")  # in the scope, and in that thread's context alone
                set_authenticated_user_token(f"{token}-login")
                await asyncio.sleep(0)
                seen = [current_identity(), await asyncio.to_thread(current_identity)]
            return seen == [Identity(token, f"{token}-login")] * 2 and current_identity() == Identity("visitor")

        with request():
            assert all(await asyncio.gather(*(act_for(f"u-{number}") for number in range(50))))
            assert current_identity() == Identity("visitor")

    async def test_a_scope_in_its_own_task_ends_with_what_was_set_in_it(self) -> None:
        with request() as frame:
            with identity_scope("somebody-else"):
                login("theirs")
                assert await asyncio.to_thread(login, "in-a-thread") == Identity("somebody-else", "in-a-thread")
                assert current_identity() == Identity("somebody-else", "theirs")
                assert current_request() is frame
            assert current_identity() == frame.identity == Identity("visitor")

    async def test_two_threads_that_set_each_go_on_with_their_own(self) -> None:
        barrier = threading.Barrier(2)

        def act_for(token: str) -> list[Identity | None]:
            seen = []
            for step in range(20):
                set_user_token(f"{token}-{step}")
                barrier.wait()
                seen.append(current_identity())
                barrier.wait()
            return seen

        with request():
            one, two = await asyncio.gather(asyncio.to_thread(act_for, "one"), asyncio.to_thread(act_for, "two"))

            assert one == [Identity(f"one-{step}") for step in range(20)]
            assert two == [Identity(f"two-{step}") for step in range(20)]
            assert current_identity() in (Identity("one-19"), Identity("two-19"))

    async def test_a_change_in_a_thread_starts_from_what_that_thread_has_set(self) -> None:
        def act_for(token: str, barrier: threading.Barrier) -> Identity | None:
            set_user_token(token)
            barrier.wait()
            return login(f"{token}-login")

        with request():
            barrier = threading.Barrier(2)
            answers = await asyncio.gather(*(asyncio.to_thread(act_for, token, barrier) for token in ("one", "two")))

        assert answers == [Identity("one", "one-login"), Identity("two", "two-login")]

    def test_threads_of_a_request_without_a_loop_change_it(self) -> None:
        with request() as frame:
            context = contextvars.copy_context()
            assert in_a_thread(lambda: context.run(login, "user")) == Identity("visitor", "user")
            assert current_identity() == frame.identity == Identity("visitor", "user")
            assert login(None) == Identity("visitor")

    def test_a_loop_in_a_request_without_one_changes_its_own(self) -> None:
        with request() as frame:
            context = contextvars.copy_context()
            assert in_a_thread(lambda: context.run(asyncio.run, login_async("user"))) == Identity("visitor", "user")
            assert current_identity() == frame.identity == Identity("visitor")

    def test_an_async_view_of_a_sync_framework_changes_it(self) -> None:
        """asgiref runs it in a loop in another thread, and copies the context back."""
        with request():
            assert async_to_sync(login_async)("user") == Identity("visitor", "user")
            assert current_identity() == Identity("visitor", "user")
            assert login("another") == current_identity() == Identity("visitor", "another")
            assert async_to_sync(ask_later)() == Identity("visitor", "another")

    async def test_what_asgiref_copies_back_from_a_thread_follows_the_request(self) -> None:
        with request():
            await sync_to_async(login)("first")
            assert current_identity() == Identity("visitor", "first")
            await asyncio.to_thread(login, "second")
            assert current_identity() == Identity("visitor", "second")
            assert await asyncio.create_task(ask_later()) == Identity("visitor", "second")
            await login_async(None)
            assert await sync_to_async(current_identity)() == Identity("visitor")

    async def test_a_callback_of_the_loop_changes_its_own_context(self) -> None:
        """It is no thread without a loop: two callbacks of one request act for two users."""
        seen: list[Identity | None] = []

        def act_for(token: str) -> None:
            set_user_token(token)
            seen.append(login(f"{token}-login"))

        with request() as frame:
            for token in ("one", "two"):
                asyncio.get_running_loop().call_soon(act_for, token)
            await asyncio.sleep(0)

            assert seen == [Identity("one", "one-login"), Identity("two", "two-login")]
            assert current_identity() == frame.identity == Identity("visitor")

    async def test_two_requests_in_the_same_thread_share_nothing(self) -> None:
        with ThreadPoolExecutor(1) as pool:

            async def serve(number: int) -> list[Identity | None]:
                loop = asyncio.get_running_loop()
                with request(f"u-{number}"):
                    await asyncio.sleep(0)
                    await loop.run_in_executor(pool, contextvars.copy_context().run, login, f"l-{number}")
                    await asyncio.sleep(0)
                    in_thread = await loop.run_in_executor(pool, contextvars.copy_context().run, current_identity)
                    return [in_thread, current_identity()]

            answers = await asyncio.gather(*(asyncio.create_task(serve(number)) for number in range(50)))

        assert answers == [[Identity(f"u-{number}", f"l-{number}")] * 2 for number in range(50)]

    async def test_after_its_end_nobody_changes_it(self) -> None:
        ended = asyncio.Event()

        async def stay() -> list[Identity | None]:
            await ended.wait()
            before = current_identity()
            threads = [await asyncio.to_thread(login, "in-a-thread"), current_identity()]
            return [before, *threads, await login_async("in-a-task"), current_identity()]

        with request() as frame:
            task = asyncio.create_task(stay())
            context = contextvars.copy_context()
            await asyncio.to_thread(login, "user")
            in_task = asyncio.create_task(self.logged_in_until(ended))
            await asyncio.sleep(0)
        ended.set()

        visitor = Identity("visitor", "user")
        assert await task == [
            visitor,
            Identity("visitor", "in-a-thread"),
            visitor,
            Identity("visitor", "in-a-task"),
            Identity("visitor", "in-a-task"),
        ]
        assert await in_task == [Identity("visitor", "task"), Identity("visitor")]
        assert context.run(login, "late") == Identity("visitor", "late")
        assert context.run(current_identity) == Identity("visitor", "late")
        assert frame.identity == visitor
        assert context.run(current_request) is None

    @staticmethod
    async def logged_in_until(ended: asyncio.Event) -> list[Identity | None]:
        seen = [await login_async("task")]
        await ended.wait()
        return [*seen, login(None)]

    async def test_a_scope_around_it_may_end_in_a_task_that_has_set_somebody(self) -> None:
        scope = identity_scope("around")

        async def log_in_and_leave() -> Identity | None:
            login("user")
            scope.__exit__(None, None, None)
            return current_identity()

        with scope, request():
            assert await asyncio.create_task(log_in_and_leave()) is None
            assert current_identity() == Identity("visitor")

    def test_once_closed_keeps_nothing_alive(self) -> None:
        """A server may begin a request in the context of an earlier one; that must not become a chain."""

        def serve(token: str) -> RequestFrame:
            with request(token) as frame:
                contexts.append(contextvars.copy_context())
            return frame

        contexts = [contextvars.Context()]
        frames = [contexts[-1].run(serve, f"u-{number}") for number in range(3)]

        assert [frame.outer for frame in frames] == [None] * 3
        assert frames[0]._token is None  # which holds the context that it belongs to

    def test_resumed_elsewhere_it_is_the_same_one(self) -> None:
        with request() as frame:
            pass
        frame = RequestFrame(Identity("visitor"))
        with identity_scope("before"):
            with frame.resumed():
                login("user")
                assert current_request() is frame
            assert current_identity() == Identity("before")
        assert frame.identity == Identity("visitor", "user")

    async def test_resumed_in_another_task_that_one_serves_it_meanwhile(self) -> None:
        """As a middleware inside another does, where the application runs in a task of its own."""

        async def serve() -> list[Identity | None]:
            with frame.resumed():
                seen = [await login_async("user"), frame.identity]
                identity_scope("of-nobody-here").__exit__(None, None, None)
                with frame.resumed():
                    seen.append(await asyncio.to_thread(login, "in-a-thread"))
            return [*seen, current_identity()]

        with identity_scope("around") as around, request() as frame:
            seen = await asyncio.create_task(serve())
            assert seen == [Identity("visitor", "user")] * 2 + [Identity("visitor", "in-a-thread")] * 2
            assert login(None) == frame.identity == Identity("visitor")
            with identity_scope("inside"), frame.resumed():
                assert current_identity() == Identity("inside")
                set_authenticated_user_token("inside-too")
                assert frame.identity == Identity("visitor")
        assert around == Identity("around")

    def test_resumed_where_it_is_in_force_it_is_not_around_itself(self) -> None:
        """Who looked for the end of a scope that was opened elsewhere would never come to an end."""
        with identity_scope("around"), request() as frame:
            around = frame.outer
            with frame.resumed():
                assert frame.outer is around
                identity_scope("opened-elsewhere").__exit__(None, None, None)
            assert frame.outer is around

    async def test_keeps_the_state_of_an_asgi_scope_up_to_date(self) -> None:
        state: dict[str, Any] = {}
        with request() as frame:
            frame.state = state
            await asyncio.to_thread(login, "user")
            assert state == {STATE_KEY: Identity("visitor", "user")}
            await asyncio.create_task(login_async("in-a-task"))
            login(None)
            assert state == {STATE_KEY: Identity("visitor")}

    def test_refuses_an_invalid_token_and_changes_nothing(self) -> None:
        with request() as frame:
            for setter in (set_user_token, set_authenticated_user_token):
                with pytest.raises(InvalidUserTokenError):
                    setter("a@b")
            assert current_identity() == frame.identity == Identity("visitor")


class TestLogout:
    """Who was known by the login alone: `resolve` is asked again, and the default is somebody else."""

    provider = TokenProvider("nightly-report", resolve=lambda: None)
    resolving = TokenProvider("nightly-report", resolve=lambda: "resolved")

    def test_in_a_request_leaves_nobody_and_asks_resolve_again(self) -> None:
        with request(Identity(None, "login")):
            set_authenticated_user_token(None)
            assert current_identity() == Identity()
            assert self.provider.identity() == Identity()
            assert TokenProvider("nightly-report").identity() == Identity()
            assert self.resolving.identity() == Identity("resolved")

    def test_in_a_scope_leaves_no_answer_and_asks_the_default_too(self) -> None:
        with identity_scope(Identity(None, "login")):
            set_authenticated_user_token(None)
            assert current_identity() is None
            assert self.provider.identity() == Identity("nightly-report")
            assert self.resolving.identity() == Identity("resolved")

    def test_in_a_scope_of_a_request(self) -> None:
        with request("visitor"), identity_scope(Identity(None, "login")):
            set_authenticated_user_token(None)
            assert self.provider.identity() == Identity("nightly-report")
            assert self.resolving.identity() == Identity("resolved")

    @pytest.mark.parametrize("known", [Identity(), Identity("visitor"), Identity("visitor", "login")])
    def test_of_anybody_else_is_an_answer(self, known: Identity) -> None:
        with request(known):
            login("login")
            set_user_token(None)
            set_authenticated_user_token(None)
            assert self.resolving.identity() == Identity()

    def test_and_then_a_login_of_another_is_that_one_until_the_next_logout(self) -> None:
        with request(Identity(None, "login")):
            set_authenticated_user_token(None)
            assert login("another") == Identity(None, "another")
            assert self.resolving.identity() == Identity("resolved", "another")
            set_authenticated_user_token(None)
            assert self.resolving.identity() == Identity("resolved")

    async def test_in_a_task_of_a_request_holds_in_that_task_alone(self) -> None:
        async def log_out() -> Identity | None:
            set_authenticated_user_token(None)
            return self.resolving.identity()

        with request(Identity(None, "login")):
            assert await asyncio.create_task(log_out()) == Identity("resolved")
            assert self.resolving.identity() == Identity("resolved", "login")
            assert await asyncio.to_thread(login, None) == Identity()
            assert self.resolving.identity() == Identity("resolved")
            task = asyncio.create_task(ask_later())
        assert await task is LOGGED_OUT

    async def test_in_a_task_of_its_own_after_another_login(self) -> None:
        async def log_in_and_out() -> list[Identity | None]:
            return [login("another"), login(None), self.resolving.identity()]

        with request(Identity(None, "login")):
            another = Identity(None, "another")
            assert await asyncio.create_task(log_in_and_out()) == [another, Identity(), Identity("resolved")]

    def test_after_the_request_leaves_nobody_as_well(self) -> None:
        with request(Identity(None, "login")):
            context = contextvars.copy_context()
        context.run(set_authenticated_user_token, None)
        assert context.run(self.resolving.identity) == Identity("resolved")
        assert context.run(TokenProvider("nightly-report").identity) == Identity()

    def test_goes_along_with_bind(self) -> None:
        with request(Identity(None, "login")):
            set_authenticated_user_token(None)
            bound = bind(self.resolving.identity)
            assert in_a_thread(bound) == Identity("resolved")
            assert in_a_thread(bind(TokenProvider("nightly-report").identity)) == Identity()
            assert in_a_thread(bind(current_identity, self.resolving)) == Identity("resolved")


async def test_the_request_ends_in_a_copy_of_its_context_too() -> None:
    frame = RequestFrame(Identity("visitor"))
    frame.enter()
    copied = contextvars.copy_context()

    def leave_after_a_login_in_a_thread() -> Identity | None:
        login("user")
        frame.leave()
        return current_identity()

    assert await asyncio.to_thread(copied.run, leave_after_a_login_in_a_thread) is None


async def test_what_runs_as_of_now_sees_nobody_who_came_later() -> None:
    async def who() -> Identity | None:
        return current_identity()

    before = as_of_now(who)
    with identity_scope("visitor"):
        assert await before() is None
        assert current_identity() == Identity("visitor")


def test_a_task_of_trio_that_sets_a_user_keeps_it_to_itself() -> None:
    trio = pytest.importorskip("trio")
    seen = {}

    async def set_and_look(token: str) -> None:
        set_user_token(token)
        await trio.sleep(0)
        identity = current_identity()
        seen[token] = identity.user_token if identity is not None else None

    async def serve() -> None:
        with request() as frame:
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(set_and_look, f"u-{number}")
            assert frame.identity == Identity("visitor")
            await trio.to_thread.run_sync(login, "user")
            assert current_identity() == Identity("visitor", "user")

    trio.run(serve)

    assert seen == {f"u-{number}": f"u-{number}" for number in range(10)}


def test_where_trio_is_loaded_but_does_not_run_a_thread_has_no_event_loop() -> None:
    pytest.importorskip("trio")

    def serve() -> RequestFrame:
        with request() as frame:
            contextvars.copy_context().run(login, "user")
        return frame

    assert contextvars.copy_context().run(serve).identity == Identity("visitor", "user")


def test_a_program_without_trio_has_no_event_loop_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "trio", raising=False)

    def serve() -> RequestFrame:
        with request() as frame:
            contextvars.copy_context().run(login, "user")
        return frame

    assert contextvars.copy_context().run(serve).identity == Identity("visitor", "user")
