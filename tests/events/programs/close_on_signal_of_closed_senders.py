"""Gets the signal when 20 senders that would close on it have been closed."""

import os
import signal
import time

from prelude import send, sender

for number in range(20):
    events = sender(close_timeout=100.0)
    events.close_on_signal(signal.SIGTERM)
    send(events, [number])
    assert events.close()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(100)
