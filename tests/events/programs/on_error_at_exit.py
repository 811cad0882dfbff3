"""Exits with events that are refused, and with an `on_error` that takes its time."""

import time

from prelude import send, sender


def on_error(error, events):
    time.sleep(0.3)
    print(len(events), error, flush=True)


events = sender(on_error=on_error, max_retry_time=0)
send(events, range(5))
