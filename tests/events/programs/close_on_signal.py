"""Sends itself a signal. Arguments: the handler before `close_on_signal`, how many senders, and their close_timeout."""

import os
import signal
import sys
import time

import patient
from prelude import Errors, send, sender

SIGNAL = signal.SIGTERM


def earlier(number, frame):
    print("earlier", number, frame is not None, flush=True)
    if sys.argv[1] == "exits":
        sys.exit(7)


if sys.argv[1] in ("handler", "exits"):
    signal.signal(SIGNAL, earlier)
elif sys.argv[1] == "ignore":
    signal.signal(SIGNAL, signal.SIG_IGN)
patient.with_reports()
errors = Errors(lambda: print("error", len(errors.ids), flush=True))
count, close_timeout = int(sys.argv[2]), float(sys.argv[3])
made = [sender(close_timeout=close_timeout, flush_interval=60.0, on_error=errors) for _ in range(count)]
for number, one in enumerate(made):
    one.close_on_signal(SIGNAL)
    send(one, range(number * 500, number * 500 + 500))
time.sleep(0.1)
os.kill(os.getpid(), SIGNAL)
print("survived", flush=True)
if sys.argv[1] == "handler":
    assert send(made[0], ["after"]) == 1
os._exit(0 if sys.argv[1] == "ignore" else made[0].flush(100) - 1)
