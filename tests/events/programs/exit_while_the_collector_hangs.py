"""Exits with events that a hung collector does not take, and prints how long that took and how many were reported."""

import atexit
import sys
import time


def report() -> None:
    print(time.monotonic() - ended, len(set(errors.ids)), len(errors.ids))


atexit.register(report)  # before the library's import, so it runs after the library's own
import patient
from prelude import Errors, send, sender

patient.with_reports()
errors = Errors()
made = [sender(close_timeout=3.0, on_error=errors) for _ in range(int(sys.argv[1]))]
for number, one in enumerate(made):
    send(one, range(number * 10, number * 10 + 10))
time.sleep(0.2)
ended = time.monotonic()
