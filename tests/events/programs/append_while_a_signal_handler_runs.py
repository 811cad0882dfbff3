"""Appends while a signal's handler runs again and again, which "forks" or "appends", as the second argument says."""

import os
import signal
import sys
import threading
import time

from algolia_usertoken.events.outbox import SQLiteOutbox

outbox = SQLiteOutbox(sys.argv[1])
handler_appends = sys.argv[2] == "appends"
calls = []


def handle(*_):
    calls.append(1)
    if handler_appends:
        outbox.append(b"{}")
    else:
        os.fork() or os._exit(0)


def interrupt() -> None:
    for _ in range(20):
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)


signal.signal(signal.SIGUSR1, handle)
thread = threading.Thread(target=interrupt)
thread.start()
appended = 0
while thread.is_alive():
    outbox.append(b"{}")
    appended += 1
own = len(calls) if handler_appends else 0
assert len(calls) > 5, calls
assert len(outbox) == appended + own, (calls, len(outbox), appended)
