"""Uses a sender in a `__del__` while the interpreter ends, which has stopped a thread that holds the sender's locks.

Arguments: what the `__del__` calls, and the path of an outbox or "memory". Prints what the call has returned.
"""

import atexit
import faulthandler
import os
import sys
import threading

faulthandler.dump_traceback_later(100, exit=True)


def have_it_hold() -> None:
    # The library's own handler has run already, as it was registered later.
    go_on.set()
    held.wait()


made = []
go_on, held = threading.Event(), threading.Event()
atexit.register(have_it_hold)
from holds_locks import hold
from prelude import adds_up, send, sender

from algolia_usertoken import SQLiteOutbox

call, outbox = sys.argv[1:3]
made.append(sender(outbox=None if outbox == "memory" else SQLiteOutbox(outbox, lease=1)))
threading.Thread(target=hold, args=(made[0]._worker, go_on, held), daemon=True).start()
send(made[0], range(3))
assert made[0].flush(30)


def say(*words, write=os.write, is_finalizing=sys.is_finalizing) -> None:
    assert is_finalizing()
    write(1, f"{words}\n".encode())


class Owner:
    """An object of an application that is still there when the interpreter ends."""

    def __init__(self, events) -> None:
        self.events = events

    def __del__(self, call=call, say=say, send=send, adds_up=adds_up) -> None:
        if call == "send":
            say(send(self.events, range(3, 6)), self.events.flush(5), self.events.stats[:5])
        elif call == "stats":
            say(adds_up(self.events.stats))
        elif call != "nothing":  # then only the sender's own `__del__` runs
            say(getattr(self.events, call)(5))


owner = Owner(made[0])
