"""Calls `close_on_signal` outside the main thread, where Python sets no handlers."""

import signal
import threading

from prelude import sender

events = sender()
found = []


def work() -> None:
    try:
        events.close_on_signal(signal.SIGTERM)
    except ValueError as error:
        found.append(error)


thread = threading.Thread(target=work)
thread.start()
thread.join()
assert len(found) == 1
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
