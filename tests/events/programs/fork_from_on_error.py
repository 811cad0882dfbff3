"""Forks inside `on_error`; the child sends."""

import os

from prelude import event, send, sender


def fork(error, found):
    child = os.fork()
    if not child:
        os._exit(0 if events.send(event("child")) and events.flush(100) else 3)
    assert os.waitpid(child, 0)[1] == 0


events = sender(on_error=fork)
send(events, range(10))
assert events.flush(100)
