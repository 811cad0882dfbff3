"""Flushes under gevent while the collector hangs, and exits."""

from gevent import monkey

monkey.patch_all()
import time

from prelude import send, sender

events = sender(close_timeout=1.0)
send(events, range(10))
started = time.monotonic()
assert not events.flush(1)
assert time.monotonic() - started < 20
