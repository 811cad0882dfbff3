"""Forks with 200 events in the queue; the child sends 1000 of its own, and ends as the argument says."""

import os
import sys

from prelude import send, sender

events = sender(flush_interval=0.5)
if sys.argv[2] == "True":
    send(events, range(5000, 5100))
    assert events.flush(100)
send(events, range(200))
child = os.fork()
if not child:
    assert events.stats[:11] == (0,) * 11, events.stats
    assert send(events, range(1000, 2000)) == 1000
    if sys.argv[1] == "flush":
        assert events.flush(100)
        os._exit(0)
    if sys.argv[1] == "close":
        assert events.close(100)
        os._exit(0)
    sys.exit(0)
assert events.stats.queued <= 200
assert os.waitpid(child, 0)[1] == 0
