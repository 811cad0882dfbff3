"""Interrupts itself as Ctrl-C does."""

import os
import signal

from prelude import send, sender

events = sender(flush_interval=60.0)
events.close_on_signal(signal.SIGINT)
send(events, range(100))
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass
except KeyboardInterrupt:
    print("interrupted")
