from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from algolia_usertoken import (
    Identity,
    InvalidUserTokenError,
    bind,
    current_identity,
    identity_scope,
    set_authenticated_user_token,
    set_user_token,
)


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
def test_scope_says_who(given: Any, current: Identity | None) -> None:
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


def test_setters_keep_the_rest() -> None:
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


def test_threads_start_with_nothing() -> None:
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


async def test_what_a_task_sets_stays_in_it() -> None:
    async def login() -> None:
        set_user_token("theirs")

    with identity_scope("mine"):
        await asyncio.create_task(login())
        assert current_identity() == Identity("mine")


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
    def test_function(self) -> None:
        assert identity_scope("u")(lambda a, *, b: (a, b))(1, b=2) == (1, 2)

    async def test_coroutine(self) -> None:
        @identity_scope("u")
        async def decorated(a: int, *, b: int) -> tuple[int, int]:
            return a, b

        assert await decorated(1, b=2) == (1, 2)

    def test_generator(self) -> None:
        @identity_scope("u")
        def decorated(a: int, *, b: int) -> Iterator[int]:
            yield a
            yield b

        assert list(decorated(1, b=2)) == [1, 2]

    async def test_async_generator(self) -> None:
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
