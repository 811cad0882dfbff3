"""Forks while a thread waits for the collector's answer; the child sends too."""

import os
import time

from prelude import send, sender

events = sender(close_timeout=0.5)
send(events, range(100))
time.sleep(0.2)  # the thread waits for the answer
child = os.fork()
if not child:
    send(events, range(1000, 1100))
    assert not events.flush(0.3)
    assert events.stats.queued == 100
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
