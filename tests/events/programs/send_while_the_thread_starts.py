"""Sends inside the start of the sender's thread, as a `__del__` may that runs there."""

import faulthandler
import threading

from prelude import event, sender

faulthandler.dump_traceback_later(60, exit=True)
events = sender(batch_size=1)
bootstrap = threading.Thread._set_ident


def set_ident(self) -> None:
    bootstrap(self)
    if self.name.startswith("algolia-usertoken") and threading.current_thread() is not threading.main_thread():
        threading.Thread._set_ident = bootstrap
        events.send(event("from del"))


threading.Thread._set_ident = set_ident
events.send(event(1))
assert events.flush(30)
