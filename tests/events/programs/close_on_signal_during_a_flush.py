"""Gets the signal while it flushes."""

import os
import signal
import sys
import threading
import time

from prelude import send, sender

events = sender(close_timeout=100.0, background=sys.argv[1] == "True", batch_size=100)
events.close_on_signal(signal.SIGTERM)
send(events, range(300))


def kill() -> None:
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)


threading.Thread(target=kill, daemon=True).start()
events.flush()
time.sleep(100)
