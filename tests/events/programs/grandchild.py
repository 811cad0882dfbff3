"""A child, its child and the child of that one send with one sender."""

import os

from prelude import send, sender

events = sender()
send(events, range(100))
for generation in (1, 2, 3):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        break
    send(events, range(generation * 100, generation * 100 + 100))
