"""Appends while a signal's handler runs again and again, which "forks" or "appends", as the second argument says."""

import os
import signal
import sys
import threading
import time

import patient

from algolia_usertoken.events.outbox import SQLiteOutbox

patient.with_files()
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
    for number in range(20):
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)
        while len(calls) <= number:  # two signals at once would be one
            time.sleep(0.001)


signal.signal(signal.SIGUSR1, handle)
thread = threading.Thread(target=interrupt)
thread.start()
appended = 0
while thread.is_alive():
    outbox.append(b"{}")
    appended += 1
own = len(calls) if handler_appends else 0
assert len(calls) == 20, calls
assert len(outbox) == appended + own, (calls, len(outbox), appended)
