"""Exits while two daemon threads send without a pause."""

import itertools
import threading
import time

from prelude import event, sender

events = sender(close_timeout=2.0)


def work() -> None:
    for number in itertools.count():
        events.send(event(number))
        time.sleep(0.0005)


for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
