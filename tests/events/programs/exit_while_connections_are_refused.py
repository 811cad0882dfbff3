"""Exits with events for a port on which nobody listens, and prints how many were reported, and why."""

import sys

import patient
from prelude import Errors, send, sender

patient.with_reports()
errors = Errors(lambda: print(len(errors.ids), str(errors.calls[0][0]), flush=True))
events = sender(int(sys.argv[1]), close_timeout=1.0, on_error=errors)
send(events, range(10))
