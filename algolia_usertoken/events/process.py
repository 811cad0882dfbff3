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

logger = logging.getLogger("algolia_usertoken.events")


class Deliverer(Protocol):
    """What this knows of a worker."""

    close_timeout: float

    @property
    def stats(self) -> Any: ...
    def start_empty(self) -> None: ...  # in a forked child
    def begin_exit(self) -> bool: ...  # whether there is anything to deliver
    def finish_exit(self, timeout: float) -> None: ...
    def flush(self, timeout: float | None) -> bool: ...
    def drain(self, deadline: float) -> bool: ...
    def be_late(self) -> None: ...


_workers: weakref.WeakSet[Deliverer] = weakref.WeakSet()
_orphans: set[Deliverer] = set()  # nobody's any more, but not empty yet

# Whether the hook at exit has run, or will not run any more: the interpreter is on its way out when we are imported.
_exited = not threading.main_thread().is_alive()
_exit_of_child_hooked = False
_exit_took = 0.0  # seconds that the exit has spent on delivering so far


def register(worker: Deliverer) -> None:
    """See to it that `worker` is emptied in a forked child, and delivered before the process exits."""
    _workers.add(worker)
    if _exited:
        worker.be_late()


def keep(worker: Deliverer) -> None:
    """Keep a worker that nobody holds any more until the process exits."""
    _orphans.add(worker)


def hook_exit_of_child() -> None:
    """In a child of multiprocessing, or of Celery's billiard: they leave with `os._exit`, without atexit."""
    global _exit_of_child_hooked
    if _exit_of_child_hooked:
        return
    _exit_of_child_hooked = True
    celery_signals: Any = sys.modules.get("celery.signals")
    if celery_signals is not None:  # the children of a pool leave past billiard's own finalizers
        celery_signals.worker_process_shutdown.connect(_at_exit_of_pool_child, weak=False)
    for name in ("multiprocessing", "billiard"):
        process: Any = sys.modules.get(f"{name}.process")
        util: Any = sys.modules.get(f"{name}.util")
        if process is not None and util is not None and type(process.current_process()).__name__ != "_MainProcess":
            util.Finalize(None, _at_exit, exitpriority=0)


class _SignalHandler:
    """Delivers what several senders have queued, then does what would have been done without us."""

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
                    worker.finish_exit(0)  # what is lost is reported
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)


def deliver_on_signal(worker: Deliverer, signum: int) -> None:
    """On `signum`, deliver, then do what would have been done without us."""
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
    # All at once: several senders on a dead network take as long as the most patient, not the sum.
    start = time.monotonic()
    for worker in [worker for worker in list(workers) if worker.begin_exit()]:
        wait(worker, max(0.0, start + worker.close_timeout - time.monotonic()))


def deliver_all() -> None:
    """Deliver what the senders of this process have queued, all at once, within the `close_timeout` of each.

    They take further events. What there was no time for stays queued, which is logged.
    """

    def flush(worker: Deliverer, timeout: float) -> None:
        if not worker.flush(timeout):
            what = "%d events are not delivered yet, after the %g seconds of close_timeout"
            logger.warning(what, worker.stats.queued, worker.close_timeout)

    _deliver_all(_workers, flush)


def drain_late(worker: Deliverer) -> bool:
    """Deliver what is sent after the hook at exit; False where there is no time for it.

    Only what is spent on delivering counts, of all senders together: other handlers of the exit may take their time.
    """
    global _exit_took
    start = time.monotonic()
    try:
        return worker.drain(start + max(0.0, worker.close_timeout - _exit_took))
    finally:
        _exit_took += time.monotonic() - start


def workers() -> list[Deliverer]:
    """Those of all senders of this process."""
    return list(_workers)


def _at_exit() -> None:
    global _exited, _exit_took
    _exited = True
    start = time.monotonic()
    _deliver_all(_workers, lambda worker, timeout: worker.finish_exit(timeout))
    _exit_took += time.monotonic() - start
    for worker in list(_workers):
        worker.be_late()


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
