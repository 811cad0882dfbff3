"""Sends for the first time in two handlers of atexit: one runs before the library's own, one after it."""

import atexit
import sys

background = sys.argv[1] == "True"


def late(start):
    from prelude import send, sender

    send(made[0], range(start, start + 250))
    send(sender(background=background), range(start + 250, start + 500))


made = []
atexit.register(late, 0)
from prelude import sender

made.append(sender(background=background))
atexit.register(late, 500)
