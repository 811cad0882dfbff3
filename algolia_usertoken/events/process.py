"""What happens to the workers of senders when the process forks, exits or gets a signal."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Protocol

from . import threads

logger = logging.getLogger("algolia_usertoken.events")

LONGEST_REPORT_S = 0.4  # how long the exit waits beyond `close_timeout` for calls of `on_error`


class Deliverer(Protocol):
    """The part of a worker that this module uses."""

    close_timeout: float

    @property
    def stats(self) -> Any: ...
    def start_empty(self) -> None: ...  # in a forked child
    def begin_exit(self) -> bool: ...  # returns whether there is anything to deliver
    def finish_exit(self, timeout: float) -> None: ...
    def flush(self, timeout: float | None) -> bool: ...
    def drain(self, deadline: float) -> bool: ...
    def be_late(self) -> None: ...


_workers: weakref.WeakSet[Deliverer] = weakref.WeakSet()
_orphans: set[Deliverer] = set()  # workers whose sender is gone, and which still have events

# Whether the hook at exit has run, or will never run, as the interpreter was already exiting when this was imported.
_exited = not threading.main_thread().is_alive()
_exit_of_child_hooked = False
_exit_took = 0.0  # seconds that the exit has spent on delivering so far


def register(worker: Deliverer) -> None:
    """Make sure that `worker` starts empty in a forked child, and delivers before the process exits."""
    _workers.add(worker)
    if _exited:
        worker.be_late()


def keep(worker: Deliverer) -> None:
    """Keep a worker alive until the process exits, although its sender is gone."""
    _orphans.add(worker)


def hook_exit_of_child() -> None:
    """Deliver at the exit of a child of multiprocessing or Celery's billiard, which skips atexit by `os._exit`."""
    global _exit_of_child_hooked
    if _exit_of_child_hooked:
        return
    _exit_of_child_hooked = True
    celery_signals: Any = sys.modules.get("celery.signals")
    if celery_signals is not None:  # the children of a pool end without billiard's finalizers
        celery_signals.worker_process_shutdown.connect(_at_exit_of_pool_child, weak=False)
    for name in ("multiprocessing", "billiard"):
        process: Any = sys.modules.get(f"{name}.process")
        util: Any = sys.modules.get(f"{name}.util")
        if process is not None and util is not None and type(process.current_process()).__name__ != "_MainProcess":
            util.Finalize(None, _at_exit, exitpriority=0)


class _SignalHandler:
    """Delivers what several senders have queued, then does what the signal would have done without this handler."""

    def __init__(self, signum: int) -> None:
        self.workers: weakref.WeakSet[Deliverer] = weakref.WeakSet()
        self._earlier = signal.getsignal(signum)
        if self._earlier is None:
            raise ValueError(
                f"signal {signum} has a handler that was not set from Python, and could not be called any more"
            )

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        _deliver_all(self.workers, lambda worker, timeout: worker.flush(timeout))
        if callable(self._earlier):
            self._earlier(signum, frame)
        elif self._earlier == signal.SIG_DFL:  # pragma: no cover - the process ends here, and so does the measuring
            for worker in list(_workers):
                if worker.begin_exit():
                    worker.finish_exit(0)  # reports the events that are lost
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)


def deliver_on_signal(worker: Deliverer, signum: int) -> None:
    """On `signum`, deliver, then do what the signal would have done without this."""
    if not isinstance(signum, int):
        raise TypeError(f"signum must be the number of a signal, not {type(signum).__name__}")
    handler = signal.getsignal(signum)
    if not isinstance(handler, _SignalHandler):
        handler = _SignalHandler(signum)
        try:
            signal.signal(signum, handler)
        except OSError:  # SIGKILL
            raise ValueError(f"signum {signum} is of a signal that nobody can handle") from None
    handler.workers.add(worker)


def _deliver_all(workers: Iterable[Deliverer], wait: Callable[[Deliverer, float], object]) -> None:
    # All senders deliver at the same time: without a network, this takes the longest `close_timeout`, and not the sum.
    start = time.monotonic()
    for worker in [worker for worker in list(workers) if worker.begin_exit()]:
        wait(worker, max(0.0, start + worker.close_timeout - time.monotonic()))


def deliver_all() -> None:
    """Deliver what the senders of this process have queued, all at once, within the `close_timeout` of each.

    The senders still accept events. Events that there was no time for stay queued, and their number is logged.
    """

    def flush(worker: Deliverer, timeout: float) -> None:
        if not worker.flush(timeout):
            what = "%d events are not delivered yet, after the %g seconds of close_timeout"
            logger.warning(what, worker.stats.queued, worker.close_timeout)

    _deliver_all(_workers, flush)


def drain_late(worker: Deliverer) -> bool:
    """Deliver events that are sent after the hook at exit; False where there is no time left for them.

    Only the time that all senders together spend on delivering counts, not the time of other exit handlers.
    """
    global _exit_took
    start = time.monotonic()
    try:
        return worker.drain(start + max(0.0, worker.close_timeout - _exit_took))
    finally:
        _exit_took += time.monotonic() - start


def workers() -> list[Deliverer]:
    """The workers of all senders of this process."""
    return list(_workers)


def _at_exit() -> None:
    global _exited, _exit_took
    _exited = True
    start = time.monotonic()
    _finish_all(_workers, start)
    _exit_took += time.monotonic() - start
    for worker in list(_workers):
        worker.be_late()
    # Once more, for events that a `__del__` or another thread has sent meanwhile: no thread looks for them any more.
    again = time.monotonic()
    _finish_all(_workers, start)
    _exit_took += time.monotonic() - again


def _finish_all(workers: Iterable[Deliverer], start: float) -> None:
    """Call `finish_exit` of all workers that have events, at the same time, as each may wait for a slow `on_error`.

    Python 3.12 starts no thread at this stage: there, one is called after the other.
    """

    def finish(worker: Deliverer) -> None:
        worker.finish_exit(start + worker.close_timeout - time.monotonic())

    started: list[tuple[threading.Thread, Deliverer]] = []
    begun = [worker for worker in list(workers) if worker.begin_exit()]
    for worker in begun[1:]:
        thread = threading.Thread(target=finish, args=(worker,), name="algolia-usertoken-exit", daemon=True)
        try:
            threads.start(thread)
            started.append((thread, worker))
        except RuntimeError:  # no thread can be started
            finish(worker)
    for worker in begun[:1]:
        finish(worker)
    for thread, worker in started:  # it ends by itself, unless it does not get its turn
        thread.join(threads.for_a_lock(start + worker.close_timeout + LONGEST_REPORT_S - time.monotonic()))


def _at_exit_of_pool_child(**_: Any) -> None:
    _at_exit()


def _after_fork_in_child() -> None:
    global _exited, _exit_of_child_hooked, _exit_took
    _exited = _exit_of_child_hooked = False
    _exit_took = 0.0
    _orphans.clear()
    for worker in list(_workers):
        worker.start_empty()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
