"""The checks of arguments: what they let through, and the one form of what they say."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Literal

import pytest

from algolia_usertoken import Identity, TokenProvider, identity_scope, set_authenticated_user_token, set_user_token
from algolia_usertoken.checks import check_bool, check_choice, check_number, check_text, check_type, type_name


@pytest.mark.parametrize(
    ("check", "right"),
    [
        (lambda value: check_bool("x", value), [True, False]),
        (lambda value: check_text("x", value), ["a", " "]),
        (lambda value: check_number("x", value, 1), [1, 1.0, 10**400, float("inf")]),
        (lambda value: check_number("x", value, 1, 3, whole=True), [1, 3]),
        (lambda value: check_number("x", value, None), [-1e300, float("-inf")]),
        (lambda value: check_choice("x", value, Literal["a", "b"]), ["a", "b"]),
        (lambda value: check_type("x", value, (int, str), "an int or a string"), [1, "1"]),
    ],
)
def test_each_check_of_an_argument_lets_right_values_pass(check: Callable[[Any], None], right: list[Any]) -> None:
    for value in right:
        check(value)


@pytest.mark.parametrize(
    ("check", "error", "message"),
    [
        (lambda: check_bool("x", 1), TypeError, "x must be True or False, not int"),
        (lambda: check_bool("x", None), TypeError, "x must be True or False, not NoneType"),
        (lambda: check_text("x", ""), ValueError, "x is empty: it must have at least one character"),
        (lambda: check_text("x", "", "give a name"), ValueError, "x is empty: give a name"),
        (lambda: check_text("x", b"a"), TypeError, "x must be a string, not bytes"),
        (lambda: check_number("x", 0, 1), ValueError, "x must be at least 1, not 0"),
        (lambda: check_number("x", 9, 1, 3, hint="halve it"), ValueError, "x must be 1 to 3, not 9: halve it"),
        (lambda: check_number("x", float("nan"), 0), ValueError, "x must be at least 0, not nan"),
        (lambda: check_number("x", True, 0), TypeError, "x must be a number, not bool"),
        (lambda: check_number("x", 1.0, 0, whole=True), TypeError, "x must be a whole number, not float"),
        (lambda: check_number("x", "1", 0, unit="seconds"), TypeError, "x must be a number of seconds, not str"),
        (lambda: check_choice("x", "secret", Literal["a"]), ValueError, "not another string, of 6 characters"),
        (lambda: check_choice("x", ["a"], Literal["a"]), ValueError, "x must be one of 'a', not list"),
        (lambda: check_type("x", str, str, "a string"), TypeError, "x must be a string, not the class str"),
        (lambda: check_type("x", 1, str, "a string", "quote it"), TypeError, "x must be a string, not int: quote it"),
    ],
)
def test_what_is_wrong_is_said_first_and_then_what_to_do(
    check: Callable[[], None], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        check()

    assert str(caught.value).endswith(message)


def test_the_name_of_a_type_is_its_own_and_short() -> None:
    class Speaks(type):
        __name__ = "jane@example.com"  # type: ignore[assignment]

    assert type_name(Speaks("Account", (), {})()) == "Account"
    assert type_name(type("N" * 50, (), {})()) == "N" * 40


@pytest.mark.parametrize("user_id", [42, uuid.UUID(int=7), 1.5, b"42", object()])
@pytest.mark.parametrize(
    "give",
    [
        identity_scope,
        TokenProvider,
        Identity,
        set_user_token,
        set_authenticated_user_token,
        lambda user_id: Identity("u", user_id),
        lambda user_id: TokenProvider(resolve=lambda: user_id).identity(),
    ],
    ids=[
        "identity_scope",
        "TokenProvider",
        "Identity",
        "set_user_token",
        "set_authenticated_user_token",
        "authenticated_user_token",
        "resolve",
    ],
)
def test_an_id_that_is_no_string_is_refused_with_the_name_of_the_function_that_makes_a_token_of_it(
    give: Callable[[Any], Any], user_id: object
) -> None:
    with pytest.raises(ValueError, match=rf"not {type_name(user_id)}: .* see pseudonymous_user_token\(\)$"):
        give(user_id)
