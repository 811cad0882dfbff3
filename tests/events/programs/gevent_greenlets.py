"""Greenlets of gevent send, flush and exit."""

from gevent import monkey

monkey.patch_all()
import gevent
from prelude import send, sender

events = sender(concurrency=2)
jobs = [gevent.spawn(send, events, range(start, start + 500)) for start in range(0, 2000, 500)]
gevent.joinall(jobs, raise_error=True)
assert events.flush(30)
assert events.stats.delivered == 2000, events.stats
send(events, range(2000, 2500))  # for the exit
print("exits")
