"""What happens to dispatchers when the process forks, exits or gets a signal."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import weakref
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dispatcher import Dispatcher

_dispatchers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
_orphans: set[Dispatcher] = set()  # nobody's any more, but not empty yet

# Whether the hook at exit has run, or will not run any more: the interpreter is on its way out when we are imported.
_exited = not threading.main_thread().is_alive()
_forked = False
_exit_of_child_hooked = False


def register(dispatcher: Dispatcher) -> None:
    """See to it that `dispatcher` is emptied in a forked child, and delivered before the process exits."""
    _dispatchers.add(dispatcher)
    if _exited:
        dispatcher.be_late()


def keep(dispatcher: Dispatcher) -> None:
    """Keep a dispatcher that nobody holds any more until the process exits."""
    _orphans.add(dispatcher)


def hook_exit_of_child() -> None:
    """In a child of multiprocessing or of Celery's billiard: they leave with `os._exit`, without atexit."""
    global _exit_of_child_hooked
    if not _forked or _exit_of_child_hooked:
        return
    _exit_of_child_hooked = True
    for name in ("multiprocessing.util", "billiard.util"):
        util: Any = sys.modules.get(name)
        if util is not None:
            util.Finalize(None, _at_exit, exitpriority=0)


def deliver_on_signal(dispatcher: Dispatcher, signum: int) -> None:
    """On `signum`, deliver, then do what would have been done without us."""
    earlier = signal.getsignal(signum)

    def handler(number: int, frame: FrameType | None) -> None:
        done = dispatcher.flush(dispatcher.close_timeout)
        if callable(earlier):
            earlier(number, frame)
        elif earlier == signal.SIG_DFL:
            if not done:
                dispatcher.close(0)  # what is lost is reported
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signum, handler)


def _at_exit() -> None:
    global _exited
    _exited = True
    start = time.monotonic()
    # All at once: several senders on a dead network take as long as the most patient, not the sum.
    unsettled = [dispatcher for dispatcher in list(_dispatchers) if dispatcher.begin_exit()]
    for dispatcher in unsettled:
        dispatcher.finish_exit(start + dispatcher.close_timeout)
    for dispatcher in list(_dispatchers):
        dispatcher.be_late()


def _after_fork_in_child() -> None:
    global _exited, _forked, _exit_of_child_hooked
    _exited, _forked, _exit_of_child_hooked = False, True, False
    _orphans.clear()
    for dispatcher in list(_dispatchers):
        dispatcher.start_empty()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
