"""Sends at exit, when the sender's thread has ended because it had nothing to do."""

import atexit
import time

from prelude import send, sender

import algolia_usertoken.events.crew as crew

crew.IDLE_TIME_S = 0.05
made = [sender(flush_interval=0.01, close_timeout=100.0) for _ in range(3)]
for number, one in enumerate(made):
    send(one, range(number * 10, number * 10 + 5))
while sum(one.stats.delivered for one in made) < 15 or any(one._worker._crew.threads for one in made):
    time.sleep(0.01)
atexit.register(lambda: [send(one, range(n * 10 + 5, n * 10 + 10)) for n, one in enumerate(made)])
