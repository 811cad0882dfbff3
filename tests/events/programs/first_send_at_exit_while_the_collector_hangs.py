"""Makes senders in a handler of atexit, and sends to a hung collector with each."""

import atexit
import sys
import threading  # noqa: F401  # as in any program that runs for a while: at exit it is too late for it


def late() -> None:
    from prelude import Errors, send, sender

    errors = Errors(lambda: print(len(errors.ids), flush=True))
    global made
    made = []
    for _ in range(int(sys.argv[1])):
        made.append(sender(close_timeout=1.0, on_error=errors))
        send(made[-1], range(2))


atexit.register(late)
