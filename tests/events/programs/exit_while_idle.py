"""Exits with a sender that has delivered all, and with one that was never used."""

import atexit
import time

from prelude import send, sender

events = sender(close_timeout=100.0)
atexit.register(lambda: print(time.monotonic() - ended))
send(events, range(10))
assert events.flush(30)
unused = sender(close_timeout=100.0)
ended = time.monotonic()
