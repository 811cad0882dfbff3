"""Waiting for others, but not for ever."""

from __future__ import annotations

import math
import threading
import time

import pytest
from waiting import PATIENCE

from algolia_usertoken.events.threads import bounded


@pytest.mark.parametrize("seconds", [PATIENCE, math.inf])
def test_what_a_bounded_call_raises_is_raised_in_the_calling_thread(seconds: float) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bounded(fail, seconds, threading.Condition())


def test_a_bounded_call_is_not_waited_for_beyond_its_time() -> None:
    go_on = threading.Event()
    started = time.monotonic()

    bounded(lambda: go_on.wait(PATIENCE), 0.1, threading.Condition())

    assert time.monotonic() - started < PATIENCE / 2
    go_on.set()


def test_what_it_runs_can_take_the_lock_that_its_caller_has() -> None:
    lock, taken = threading.Condition(), threading.Event()

    def take() -> None:
        with lock:
            taken.set()

    started = time.monotonic()

    with lock:  # as in a signal handler that comes in the middle
        bounded(take, PATIENCE, lock)

    assert taken.is_set()
    assert time.monotonic() - started < PATIENCE / 2


def test_where_no_thread_can_be_started_a_bounded_call_runs_in_the_calling_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    ran_in: list[int] = []

    bounded(lambda: ran_in.append(threading.get_ident()), 1, threading.Condition())

    assert ran_in == [threading.get_ident()]
