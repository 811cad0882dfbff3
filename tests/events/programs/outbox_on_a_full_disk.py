"""Sends with an outbox whose file may not grow, then with one that may. Prints how many were accepted at first."""

import resource
import sys
import time

import patient
from prelude import send, sender

from algolia_usertoken.events.outbox import SQLiteOutbox

patient.with_files()
told = []
outbox = SQLiteOutbox(sys.argv[1])
with sender(outbox=outbox, flush_interval=60, on_error=lambda *what: told.append(what)) as sender:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
    started = time.monotonic()
    few = send(sender, range(900))
    dropped = sender.stats.dropped
    assert 0 < few < 900, sender.stats
    assert few + dropped == 900, sender.stats
    assert time.monotonic() - started < 100  # it waits for no room
    assert {type(error).__name__ for error, events in told} == {"OutboxError"}, told[0]
    assert sender.stats.accepted == few
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert send(sender, range(1000, 1100)) == 100
    assert sender.flush(100)
    assert sender.stats.delivered == few + 100
    print(few)
