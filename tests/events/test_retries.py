from __future__ import annotations

import itertools
import math
import sys
from decimal import Decimal
from typing import Any

import pytest

from algolia_usertoken.errors import (
    BatchRejectedError,
    DeliveryError,
    InvalidEventError,
    OutboxError,
    RetryableDeliveryError,
    UnauthorizedDeliveryError,
)
from algolia_usertoken.events.retries import Answer, answer_of, is_over, pause_s

RETRY = Answer("retry")
ALMOST_ONE = math.nextafter(1, 0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, "delivered"),
        (BatchRejectedError("bad"), "refused"),
        (InvalidEventError("bad"), "refused"),
        (UnauthorizedDeliveryError("no"), "unauthorized"),
        (RetryableDeliveryError("later"), "retry"),
        (TimeoutError(), "retry"),
        (ConnectionResetError(), "retry"),
        (DeliveryError("no"), "fatal"),
        (OutboxError("no"), "fatal"),
        (ValueError("a bug"), "fatal"),
    ],
)
def test_an_error_of_a_delivery_is_one_kind_of_answer(error: Exception | None, kind: Any) -> None:
    assert answer_of(error) == Answer(kind, None, error)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_a_delivery_that_would_end_its_thread_gives_the_batch_up(error: BaseException) -> None:
    answer = answer_of(error)
    assert answer.kind == "fatal"
    assert type(answer.error) is DeliveryError
    assert str(answer.error) == f"the delivery raised {type(error).__name__}"
    assert answer.error.__cause__ is error


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        (None, None),
        (7, 7.0),
        (0.0, 0.0),
        (-1, -1.0),
        (math.inf, math.inf),
        (10**400, math.inf),
        (-(10**400), None),
        (Decimal("1.5"), 1.5),
        ("2", 2.0),
        ("soon", None),
        ([], None),
    ],
)
def test_a_delay_of_any_type_becomes_seconds_or_none(delay: Any, seconds: float | None) -> None:
    assert answer_of(RetryableDeliveryError("later", delay)).retry_after_s == seconds


def test_a_delay_that_is_no_number_stays_nan_and_is_harmless() -> None:
    answer = answer_of(RetryableDeliveryError("later", math.nan))
    assert pause_s(answer, 3, 0.5) == pause_s(RETRY, 3, 0.5) == 2.0


@pytest.mark.parametrize(("kind", "first"), [("retry", 0.5), ("unauthorized", 2.0)])
def test_pauses_double_up_to_a_minute(kind: Any, first: float) -> None:
    pauses = [pause_s(Answer(kind), attempt, ALMOST_ONE) for attempt in range(12)]
    assert pauses == pytest.approx([min(60.0, first * 2**attempt) for attempt in range(12)])


@pytest.mark.parametrize("kind", ["retry", "unauthorized", "refused", "fatal", "delivered"])
@pytest.mark.parametrize("attempt", [-(10**30), -1, 0, 1, 3, 1025, sys.maxsize, 10**30])
def test_no_pause_is_shorter_than_a_tenth_of_a_second_or_longer_than_a_minute(kind: Any, attempt: int) -> None:
    words = [None, math.nan, math.inf, -math.inf, -1.0, -0.0, 0.0, 1e-300, 0.05, 7.0, 86400.0, 1e308]
    for luck, asked in itertools.product([0.0, sys.float_info.min, 0.5, ALMOST_ONE], words):
        pause = pause_s(Answer(kind, asked), attempt, luck)
        assert 0.1 <= pause <= 60.0
        assert pause >= pause_s(Answer(kind), attempt, luck)  # the receiver's word shortens none
        if asked is not None and asked > 0:
            assert pause >= min(asked, 60.0)


@pytest.mark.parametrize(
    ("now", "pause", "patience", "over"),
    [
        (100.0, 0.5, 300.0, False),
        (399.5, 0.5, 300.0, False),
        (399.6, 0.5, 300.0, True),
        (100.0, 0.1, 0.0, True),
        (100.0, 0.1, -1.0, True),
        (100.0, 0.1, -math.inf, True),
        (1e300, 60.0, math.inf, False),
        (1e300, 60.0, 1e308, False),
        (100.0, 60.0, math.nan, False),  # the door takes no such number; no event is lost for it
    ],
)
def test_patience_ends_where_the_next_attempt_would_come_too_late(
    now: float, pause: float, patience: float, over: bool
) -> None:
    assert is_over(100.0, now, pause, patience) is over
