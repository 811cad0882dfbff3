from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

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
from algolia_usertoken.provider import one_provider

pytestmark = pytest.mark.oldest_versions

IP = "203.0.113.7"


class Resolve:
    """A `resolve` that counts its calls."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        return self.answer


@pytest.mark.parametrize(
    ("context", "resolved", "default", "expected"),
    [
        # Nobody knows.
        (None, None, None, None),
        # Each level, where those before have no answer.
        (None, None, "default", Identity("default")),
        (None, "resolved", "default", Identity("resolved")),
        ("context", "resolved", "default", Identity("context")),
        # Identity() is an answer: nobody.
        (None, None, Identity(), Identity()),
        (None, Identity(), "default", Identity()),
        (Identity(), "resolved", "default", Identity()),
        # The first answer is taken whole.
        (Identity("context"), Identity("r", "r-login", IP), Identity("d", "d-login"), Identity("context")),
        (Identity(client_ip=IP), "resolved", "default", Identity(client_ip=IP)),
        (Identity(opted_out=True), "resolved", "default", Identity(opted_out=True)),
        (None, Identity(client_ip=IP), "default", Identity(client_ip=IP)),
        (Identity("c", "c-login", IP), "resolved", None, Identity("c", "c-login", IP)),
        # The exception: a context that knows the login but no user token.
        (Identity(None, "login"), "resolved", "default", Identity("resolved", "login")),
        (Identity(None, "login", IP), Identity("r", "r-login", "::1"), None, Identity("r", "login", IP)),
        (Identity(None, "login"), None, "default", Identity("login", "login")),
        (Identity(None, "login"), None, None, Identity("login", "login")),
        (Identity(None, "login"), Identity(), "default", Identity("login", "login")),
        (Identity(None, "login"), Identity(None, "r-login"), "default", Identity("login", "login")),
        (Identity(None, "login"), Identity("r", opted_out=True), "default", Identity("r", opted_out=True)),
        (Identity(None, "login", IP, True), None, None, Identity("login", "login", IP, True)),
        # A login alone is the user token too, wherever it comes from.
        (None, Identity(None, "r-login"), "default", Identity("r-login", "r-login")),
        (None, None, Identity(None, "d-login", IP), Identity("d-login", "d-login", IP)),
    ],
)
def test_the_context_wins_over_resolve_and_resolve_over_the_default(
    context: Any, resolved: Any, default: Any, expected: Identity | None
) -> None:
    provider = TokenProvider(default, resolve=Resolve(resolved))
    with identity_scope(context):
        assert provider.identity() == expected
    if resolved is None:
        with identity_scope(context):
            assert TokenProvider(default).identity() == expected


def test_provider_of_nothing_asks_the_context() -> None:
    provider = TokenProvider()

    assert provider.identity() is None
    with identity_scope("u-1"):
        assert provider.identity() == Identity("u-1")
        set_authenticated_user_token("login")
        set_user_token(None)
        assert provider.identity() == Identity("login", "login")


@pytest.mark.parametrize(
    ("context", "calls"),
    [(None, 1), (Identity(None, "login"), 1), ("u-1", 0), (Identity(), 0), (Identity(client_ip=IP), 0)],
)
def test_resolve_is_asked_once_and_only_where_it_matters(context: Any, calls: int) -> None:
    resolve = Resolve("resolved")
    with identity_scope(context):
        TokenProvider(resolve=resolve).identity()

    assert resolve.calls == calls


def test_resolve_is_asked_for_each_request() -> None:
    answers: Iterator[str | None] = iter(["a", "b", None])
    provider = TokenProvider("default", resolve=lambda: next(answers))

    assert [provider.identity() for _ in range(3)] == [Identity("a"), Identity("b"), Identity("default")]


@pytest.mark.parametrize("answer", ["", "a@b", 7, False, b"u", ["u"]])
@pytest.mark.parametrize("context", [None, Identity(None, "login")])
def test_bad_answer_of_resolve_is_an_error_that_says_where_it_comes_from(answer: Any, context: Any) -> None:
    provider = TokenProvider("default", resolve=lambda: answer)
    with (
        identity_scope(context),
        pytest.raises(InvalidUserTokenError, match=r"^the value that resolve\(\) returned "),
    ):
        provider.identity()


def test_error_in_resolve_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        TokenProvider("default", resolve=lambda: 1 / 0).identity()  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("default", ["", "a@b", 7, b"u"])
def test_an_invalid_default_of_a_provider_is_refused(default: Any) -> None:
    with pytest.raises(InvalidUserTokenError, match=r"^default "):
        TokenProvider(default)


@pytest.mark.parametrize("resolve", ["u-1", 7, Identity("u")])
def test_a_resolve_that_is_no_function_is_refused(resolve: Any) -> None:
    with pytest.raises(TypeError, match=rf"^resolve must be callable, not {type(resolve).__name__}$"):
        TokenProvider(resolve=resolve)


# -- Views ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ("bound", Identity("bound")),
        (Identity("bound", "login", IP), Identity("bound", "login", IP)),
        (Identity(None, "login"), Identity("login", "login")),
        (Identity(), Identity()),
        (None, Identity("context")),
    ],
)
def test_bound_provider_beats_the_context(bound: Any, expected: Identity) -> None:
    resolve = Resolve("resolved")
    with identity_scope("context"):
        assert TokenProvider("default", resolve=resolve).with_identity(bound).identity() == expected
    assert resolve.calls == 0


def test_bound_provider_of_a_bound_provider() -> None:
    parent = TokenProvider("default").with_identity("outer")

    assert parent.with_identity("inner").identity() == Identity("inner")
    assert parent.with_identity(None).identity() == Identity("outer")
    assert parent.with_identity(None).with_identity(None).identity() == Identity("outer")
    assert isinstance(parent, TokenProvider)


def test_bound_provider_refuses_a_bad_identity() -> None:
    with pytest.raises(InvalidUserTokenError, match=r"^identity \(3 characters\) has '@'"):
        TokenProvider().with_identity("a@b")


class FromDatabase(TokenProvider):
    def identity(self) -> Identity | None:
        return Identity("row-7")


def test_provider_of_your_own_is_asked_by_its_views() -> None:
    assert FromDatabase().with_identity(None).identity() == Identity("row-7")
    assert FromDatabase().with_identity("u").identity() == Identity("u")


# -- One provider --------------------------------------------------------------------------------------------------


def test_arguments_of_clients_and_senders_mean_one_provider() -> None:
    given, other = TokenProvider("given"), TokenProvider("given")

    assert one_provider(None, given) is given
    assert one_provider(None, None, given) is given
    assert one_provider(None, given, given) is given
    assert one_provider("u-1", None).identity() == Identity("u-1")
    assert one_provider(Identity(None, "login"), None).identity() == Identity("login", "login")
    assert one_provider(Identity(), None).identity() == Identity()
    assert one_provider(None, None).identity() is None
    assert one_provider(None, None) is not one_provider(None, None)
    with pytest.raises(ValueError, match="events has a token_provider of its own"):
        one_provider(None, other, given)


@pytest.mark.parametrize(
    ("user_token", "token_provider", "events_provider", "error", "message"),
    [
        ("u", TokenProvider(), None, ValueError, "user_token and token_provider both say whose calls these are: give"),
        (Identity(), TokenProvider(), None, ValueError, "user_token and token_provider both say"),
        (
            "u",
            None,
            TokenProvider(),
            ValueError,
            "events has a token_provider of its own, and searches and events must",
        ),
        (None, "u", None, TypeError, "token_provider must be a TokenProvider, not str"),
        (None, lambda: "u", None, TypeError, "token_provider must be a TokenProvider, not function"),
        (None, TokenProvider, None, TypeError, "token_provider must be a TokenProvider, not the class TokenProvider"),
        ("a@b", None, None, InvalidUserTokenError, "user_token (3 characters) has '@' at position 2"),
        ("", None, None, InvalidUserTokenError, "user_token is empty"),
        (7, None, None, InvalidUserTokenError, "user_token must be an Identity or a string, not int"),
    ],
)
def test_arguments_that_mean_two_or_none_are_refused(
    user_token: Any, token_provider: Any, events_provider: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        one_provider(user_token, token_provider, events_provider)

    assert str(caught.value).startswith(message)


# -- bind ----------------------------------------------------------------------------------------------------------


class TestBind:
    """`bind(function, token_provider)`: as whom the provider's `resolve` and default know."""

    @pytest.mark.parametrize(
        ("context", "expected"),
        [
            ("context", Identity("context")),
            (None, Identity("resolved")),
            (Identity(), Identity()),
            (Identity(None, "login"), Identity("resolved", "login")),
            (Identity("u", opted_out=True), Identity("u", opted_out=True)),
        ],
    )
    def test_asks_the_provider_once_and_at_once(self, context: Any, expected: Identity) -> None:
        resolve = Resolve("resolved")
        with identity_scope(context):
            bound = bind(current_identity, TokenProvider("default", resolve=resolve))
        calls, resolve.answer = resolve.calls, "somebody-else"

        assert [bound(), self.in_a_thread(bound)] == [expected] * 2
        assert resolve.calls == calls

    @staticmethod
    def in_a_thread(function: Any) -> Any:
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(function()))
        thread.start()
        thread.join()
        return answers[0]

    @pytest.mark.parametrize(("default", "expected"), [("default", Identity("default")), (None, None)])
    def test_takes_the_default_where_nobody_else_says(self, default: str | None, expected: Identity | None) -> None:
        assert bind(current_identity, TokenProvider(default))() == expected

    def test_without_a_provider_asks_the_context_alone(self) -> None:
        assert bind(current_identity)() is None
        assert bind(current_identity, None)() is None

    def test_of_a_view_is_its_identity(self) -> None:
        with identity_scope("context"):
            assert bind(current_identity, TokenProvider().with_identity("bound"))() == Identity("bound")

    def test_takes_every_kind_of_function(self) -> None:
        provider = TokenProvider(resolve=lambda: "resolved")

        def plain(*args: Any, **kwargs: Any) -> Any:
            return current_identity(), args, kwargs

        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return current_identity(), args, kwargs

        def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
            yield current_identity(), args, kwargs

        async def async_generator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            await asyncio.sleep(0)
            yield current_identity(), args, kwargs

        async def first() -> Any:
            return await bind(async_generator, provider)(1, b=2).__anext__()

        expected = Identity("resolved"), (1,), {"b": 2}
        assert bind(plain, provider)(1, b=2) == expected
        assert asyncio.run(bind(coroutine, provider)(1, b=2)) == expected
        assert next(bind(generator, provider)(1, b=2)) == expected
        assert asyncio.run(first()) == expected
        assert bind(plain, provider).__name__ == "plain"

    def test_what_is_set_in_it_stays_in_it(self) -> None:
        def act() -> None:
            set_user_token("changed")
            assert current_identity() == Identity("changed")

        with identity_scope("context"):
            bound = bind(act, TokenProvider())
            bound()
            assert current_identity() == Identity("context")

    @pytest.mark.parametrize("provider", ["u-1", Identity("u"), TokenProvider, lambda: "u"])
    def test_refuses_what_is_no_provider(self, provider: Any) -> None:
        with pytest.raises(TypeError, match=r"^token_provider must be a TokenProvider, not "):
            bind(current_identity, provider)

    def test_error_of_resolve_reaches_the_caller(self) -> None:
        with pytest.raises(ZeroDivisionError):
            bind(current_identity, TokenProvider(resolve=lambda: 1 / 0))  # type: ignore[arg-type, return-value]
