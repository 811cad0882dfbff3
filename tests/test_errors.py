from __future__ import annotations

import copy
import pickle
import re

import pytest

from algolia_usertoken import (
    InvalidClientIPError,
    InvalidEventError,
    InvalidReferenceError,
    InvalidUserTokenError,
    MissingUserTokenError,
    MissingUserTokenWarning,
    UserTokenError,
)
from algolia_usertoken.errors import kind_of, raised, traced


@pytest.mark.parametrize(
    ("error", "built_in"),
    [
        (InvalidUserTokenError, ValueError),
        (InvalidClientIPError, ValueError),
        (InvalidEventError, ValueError),
        (InvalidReferenceError, ValueError),
        (MissingUserTokenError, LookupError),
    ],
)
def test_every_error_can_be_caught_by_the_base_and_by_a_built_in(
    error: type[Exception], built_in: type[Exception]
) -> None:
    assert issubclass(error, UserTokenError)
    assert issubclass(error, built_in)
    assert str(error("what is wrong")) == "what is wrong"


def test_base_is_no_value_error() -> None:
    assert UserTokenError.__mro__[1:] == Exception.__mro__


def test_warning_is_shown_by_default() -> None:
    assert issubclass(MissingUserTokenWarning, UserWarning)


def test_invalid_event_error_names_the_field() -> None:
    error = InvalidEventError("objectIDs must be given", "objectIDs")

    assert error.field == "objectIDs"
    assert str(error) == "objectIDs must be given"


def test_invalid_event_error_need_not_name_a_field() -> None:
    assert InvalidEventError("no event").field is None


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_invalid_event_error_survives_copying_and_another_process(again: object) -> None:
    error = again(InvalidEventError("index must be the name of an index", "index"))  # type: ignore[operator]

    assert (str(error), error.field) == ("index must be the name of an index", "index")


# -- What is said of errors that are not ours ------------------------------------------------------------------------


def failed(*errors: Exception) -> Exception:
    """The last of errors, each raised while the one before was handled."""
    earlier, error = errors[:-1], errors[-1]
    try:
        try:
            if earlier:
                raise failed(*earlier)
        except Exception:
            raise error  # noqa: B904
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("jane@example.com"), "ValueError"),
        (OSError("jane@example.com"), "OSError"),
        (ConnectionRefusedError(111, "Connection refused"), "ConnectionRefusedError: Connection refused"),
        (failed(KeyError("jane@example.com"), ValueError("jane@example.com")), "ValueError"),
        (failed(IndexError(), OSError(111, "refused"), KeyError(), ValueError("x")), "ValueError: refused"),
        (failed(OSError(2, "no file"), OSError(111, "refused"), ValueError("x")), "ValueError: refused"),
        (failed(TimeoutError("jane@example.com"), ValueError("x")), "ValueError: TimeoutError"),
    ],
)
def test_the_kind_of_an_error_is_its_type_and_the_system_s_word_for_it(error: Exception, said: str) -> None:
    assert kind_of(error) == said


def test_a_chain_of_errors_that_leads_back_to_itself_ends() -> None:
    one, other = ValueError(), KeyError()
    one.__context__, other.__context__ = other, one

    assert kind_of(one) == "ValueError"


def test_where_an_error_was_raised_is_said_without_its_text() -> None:
    error = failed(KeyError("jane@example.com"), ValueError("jane@example.com"))

    assert re.fullmatch(r"ValueError in test_errors\.py, line \d+", raised(error))
    assert raised(ValueError("jane@example.com")) == traced(ValueError("jane@example.com")) == "ValueError"
    assert re.fullmatch(r'ValueError\n  File ".*test_errors\.py", line \d+, in failed\n[^@]*', traced(error))
