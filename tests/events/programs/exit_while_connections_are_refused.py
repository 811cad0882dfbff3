"""Exits with events for a port on which nobody listens, and prints how many were reported, and why."""

import sys

from prelude import Errors, send, sender

errors = Errors(lambda: print(len(errors.ids), str(errors.calls[0][0]), flush=True))
events = sender(int(sys.argv[1]), close_timeout=1.0, on_error=errors)
send(events, range(10))
