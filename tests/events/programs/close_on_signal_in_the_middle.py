"""Sends, counts and flushes until a signal ends it; writes a dot for each event that it has sent."""

import os
import signal
import threading
import time

from prelude import event, sender

events = sender(flush_interval=0.001, batch_size=20, max_queue_size=1_000_000, close_timeout=100.0)
events.close_on_signal(signal.SIGTERM)


def kill() -> None:
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGTERM)


threading.Thread(target=kill, daemon=True).start()
number = 0
while True:
    events.send(event(number))
    number += 1
    os.write(1, b".")
    if not number % 10:
        _ = events.stats
    if not number % 100:
        events.flush()
