"""Forks, and sends the child a signal."""

import os
import signal
import time

from prelude import send, sender

events = sender(flush_interval=60.0)
events.close_on_signal(signal.SIGTERM)
send(events, range(100))
read, write = os.pipe()
child = os.fork()
if not child:
    send(events, range(1000, 1100))
    os.write(write, b"x")
    time.sleep(100)
    os._exit(3)
os.read(read, 1)
os.kill(child, signal.SIGTERM)
assert os.waitpid(child, 0)[1] == signal.SIGTERM
