"""The result of an attempt, and when to make the next one: pure code, for the sender's core and Celery's worker."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..errors import (
    BatchRejectedError,
    DeliveryError,
    InvalidEventError,
    RetryableDeliveryError,
    UnauthorizedDeliveryError,
)

FIRST_PAUSE_S = 0.5
FIRST_PAUSE_UNAUTHORIZED_S = 2.0
SHORTEST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 60.0

_ENOUGH_DOUBLINGS = 10  # after these, every pause is the longest; a higher power of two might not fit into a float

Kind = Literal["delivered", "refused", "retry", "unauthorized", "fatal"]


class Answer(NamedTuple):
    """The result of an attempt to deliver a group of events.

    Attributes:
        kind: "delivered"; "refused", something in the group is bad; "retry", try again; "unauthorized", the key is not
            accepted, try again slowly; "fatal", give the group up.
        retry_after_s: How many seconds the receiver asks to wait, if it does; any float, nan and infinity included.
        error: Why the group was not delivered.
    """

    kind: Kind
    retry_after_s: float | None = None
    error: Exception | None = None


def answer_of(error: BaseException | None) -> Answer:
    """The answer that an error raised by `Delivery.deliver` stands for; None: it returned without an error."""
    if error is None:
        return Answer("delivered")
    if not isinstance(error, Exception):  # for example SystemExit: a delivery must not end its caller
        raised = DeliveryError(f"the delivery raised {type(error).__name__}")
        raised.__cause__ = error
        return Answer("fatal", None, raised)
    if isinstance(error, BatchRejectedError | InvalidEventError):
        return Answer("refused", None, error)
    if isinstance(error, UnauthorizedDeliveryError):
        return Answer("unauthorized", None, error)
    if isinstance(error, RetryableDeliveryError):
        return Answer("retry", _seconds(error.delay), error)
    return Answer("retry" if isinstance(error, OSError) else "fatal", None, error)


def pause_s(answer: Answer, attempt: int, luck: float) -> float:
    """How many seconds to wait after a failed attempt: exponential back-off with full jitter, and never zero.

    The wait that the receiver asks for, `answer.retry_after_s`, can lengthen the pause and cannot shorten it.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter

    Args:
        answer: The result of the attempt.
        attempt: How many attempts had failed before this one; 0 for the first.
        luck: A random number in [0, 1).

    Returns:
        0.1 to 60 seconds.
    """
    first = FIRST_PAUSE_UNAUTHORIZED_S if answer.kind == "unauthorized" else FIRST_PAUSE_S
    longest = min(LONGEST_PAUSE_S, first * 2.0 ** max(0, min(attempt, _ENOUGH_DOUBLINGS)))
    pause = max(SHORTEST_PAUSE_S, longest * luck)
    asked = answer.retry_after_s
    if asked is not None and asked > pause:  # False for nan
        pause = min(asked, LONGEST_PAUSE_S)
    return pause


def is_over(since: float, now: float, pause: float, patience_s: float) -> bool:
    """Whether the next attempt would come later than `patience_s` seconds after `since`, so that none is made.

    Args:
        since: When the first attempt was made, in monotonic seconds.
        now: The time now, in monotonic seconds.
        pause: How many seconds the next attempt has to wait.
        patience_s: For how many seconds to try; infinity: for ever.
    """
    return now + pause - since > patience_s


def _seconds(delay: object) -> float | None:
    """The delay of an error, as a number; an application's own delivery may have put anything there."""
    try:
        return None if delay is None else float(delay)  # type: ignore[arg-type]
    except OverflowError:  # an int too long for a float
        return float("inf") if delay > 0 else None  # type: ignore[operator]
    except Exception:
        return None
