from __future__ import annotations

import copy
import pickle

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
